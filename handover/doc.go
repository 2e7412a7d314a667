// Package handover moves a node's DNS from a running agent to its successor without a moment in which nobody reads the
// sockets, and tells a probe which of the two owns them.
//
// # Who may
//
// The two meet through the alias of the agents' interface, which only a holder of NET_ADMIN in the host's network
// namespace can write:
//
//	godwit/1 <id> <socket>
//
// id is the owner's, 8 hex digits; socket the name of its abstract unix socket, drawn at random. The name says where to
// connect, and no more: every process of the network namespace can read it, connect to the socket, and bind the name once
// its owner is dead. So each side proves itself by writing 16 random octets of the other's into the alias, after the text
// above, as 32 hex digits; the successor first, the old agent behind it:
//
//	godwit/1 <id> <socket> <old agent's nonce>
//	godwit/1 <id> <socket> <old agent's nonce> <successor's nonce>
//
// The whole text is compared, so a nonce that was written for another owner's name proves nothing: a stranger between two
// honest agents can't pass one's nonce on to the other. Both also require that the other has their own uid.
//
// # Protocol 1
//
// It is frozen: a later version of this program speaks it for as long as it writes "godwit/1" into an alias. A frame is one
// packet of a SOCK_SEQPACKET connection, at most 32,768 octets: a kind (1 octet), then fields, each a tag (1 octet), a
// length (2 octets, big endian) and a value. Fields of unknown tags are skipped, and so are frames of unknown kinds unless a
// descriptor is attached: a listener is never lost unseen. A tag that stands twice, or a field that does not end within its
// frame, ends the handover.
//
//	kind           from       fields                                within
//	1 hello        successor  1 version, 2 id, 3 nonce              1 s of connecting
//	1 hello        old        1 version, 2 id, 3 nonce              1 s
//	2 proof        successor  -        (its alias is written)       1 s
//	2 proof        old        -        (and this side's)            1 s
//	3 listener     old        4 key, 5 network, 6 address; one descriptor attached
//	4 listeners    old        7 count  (2 octets)                   2 s for all
//	5 ready        successor  -        (it reads and answers)       15 s
//	6 cache        old        8 data   (the next octets)            200 ms for all
//	7 cache end    old        -                                     5 s to stop reading; 2 s to take what is left
//	8 owned        successor  -        (its rules are in)           5 s
//	9 left         old        -                                     5 s
//	10 refused     either     9 text   (why; the connection ends)   at any time
//
// The version is the highest that a side speaks, at least 1, in one octet. Network is "udp" or "tcp", the address is text
// as netip.AddrPort has it, the key names the listener for the program. The cache is a stream of octets whose frames and
// whose end stand anywhere in it: when the time is over it is cut.
//
// # Responsibility
//
// Until it has read "owned" the old agent is responsible. However the connection ends before that, it reads on and writes
// its own text into the alias again. After it, it drains, and takes nothing away but its own rules. The successor that
// loses the connection finds out whether the old agent's socket still takes connections: if so it leaves (ErrKept),
// otherwise it is alone and goes on (ErrGone). So either may be killed at any instant: what remains is one agent, or none
// and no rules.
//
// Flags of an open file belong to all who share it. Descriptors are therefore sent and received with sendmsg and recvmsg
// themselves, and nothing here touches O_NONBLOCK: os.File.Fd would clear it, and the old agent's loops would block on TCP. Those of
// UDP say with each call whether they wait.
package handover
