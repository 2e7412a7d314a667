package chain

import (
	"net/netip"
	"time"

	"github.com/godwit-dns/godwit/wire"
)

// Proto is the transport that a query came in by.
type Proto uint8

// Transports.
const (
	UDP Proto = iota + 1
	TCP
	TLS
	HTTPS
	HTTPS3
	QUIC
	GRPC
)

// String gives the transport's name as CoreDNS's metrics and logs have it: everything over streams is "tcp".
func (p Proto) String() string {
	if p == UDP || p == QUIC || p == HTTPS3 {
		return "udp"
	}
	return "tcp"
}

// Query is one walk through a chain: fields over what a client asked, and the reply that is being made. It belongs to
// one loop; its objects are reused, so nothing of it may be kept after its end.
type Query struct {
	wire.Request
	// Reply is the reply under construction. Begin it before appending.
	Reply wire.Reply

	Client netip.AddrPort // the zero AddrPort for the program's own queries
	Local  netip.AddrPort // the address the client sent to
	Proto  Proto
	Start  time.Duration // when it was received, by the loop's clock
	Back   Return        // the transport's own

	// Rcode and Err are the failure when the outcome is Failed; Err alone may accompany a reply.
	Rcode wire.Rcode
	Err   error

	// Current says that the reply was made from data that is always up to date, so that storing it by its TTL would only
	// make it older: a cache leaves it alone.
	Current bool

	w      *Worker
	router Router
	chain  *Chain
	sink   Sink
	state  []any
	pos    int // the handler that has the query
	by     int // the handler that ended the way down; -1 for none
	floor  int // the way up ends here
	walks  uint8
	depth  uint8
	rising bool // parked on the way up
	parked bool
	spawn  bool
	slot   int32 // in the worker's table; -1 when not in it
	gen    uint64
	serial uint64 // of the query among all that its worker had
	parent Ticket
	spare  []byte // second reply buffer, for Edit
	edited wire.Reply
}

// Return is what a transport needs to answer: it is filled and read by the transport alone.
type Return struct {
	Socket  any        // the socket or connection
	Addr    [28]byte   // raw socket address of the client
	AddrLen uint8      // its length
	From    netip.Addr // address to answer from on a wildcard socket
	IfIndex uint32     // interface for link-local addresses
}

// Worker is the loop's part of the chain that has the query.
func (q *Query) Worker() *Worker { return q.w }

// Chain is the block that has the query; nil before routing.
func (q *Query) Chain() *Chain { return q.chain }

// Router is the listener that the query came in on.
func (q *Query) Router() Router { return q.router }

// Shard is the index of the query's loop in everything kept per loop.
func (q *Query) Shard() int { return q.w.Loop.Index() }

// Now is the loop's monotonic time.
func (q *Query) Now() time.Duration { return q.w.Loop.Now() }

// Own reports whether the program asks itself: Ask's children and Spawn's walks.
func (q *Query) Own() bool { return q.depth > 0 || q.spawn }

// Spawned reports whether nobody waits for the query at the client's end.
func (q *Query) Spawned() bool { return q.spawn }

// Prompt reports whether the query is being answered in the batch it came in, so that the batch's end is its own.
func (q *Query) Prompt() bool { return q.w.batch && q.slot < 0 && q.Start == q.w.Loop.Now() }

// By is the name of the directive that ended the way down; empty when none did.
func (q *Query) By() string {
	if q.by < 0 || q.chain == nil || q.by >= len(q.chain.entries) {
		return ""
	}
	return q.chain.entries[q.by].name
}

// At is the name of the directive that has the query now; empty outside of every one.
func (q *Query) At() string {
	if q.chain == nil || q.pos >= len(q.chain.entries) {
		return ""
	}
	return q.chain.entries[q.pos].name
}

// Last reports whether the handler that has the query is the last of its chain.
func (q *Query) Last() bool { return q.pos == len(q.chain.entries)-1 }

// Below is the name of the directive whose handler follows the one that has the query; empty for the last.
func (q *Query) Below() string {
	if q.pos+1 < len(q.chain.entries) {
		return q.chain.entries[q.pos+1].name
	}
	return ""
}

// NextIs reports whether the next handler belongs to the named directive.
func (q *Query) NextIs(name string) bool {
	return q.pos+1 < len(q.chain.entries) && q.chain.entries[q.pos+1].name == name
}

// Fail ends the way down without a reply: the server writes one from rcode after all handlers have seen it.
func (q *Query) Fail(rcode wire.Rcode, err error) Outcome {
	q.Rcode, q.Err = rcode, err
	q.Reply.Reset()
	return Failed
}

// ResponseCode is the code the client gets for an outcome: the reply's, or the failure's.
func (q *Query) ResponseCode(out Outcome) wire.Rcode {
	if out == Failed {
		return q.Rcode
	}
	return q.Reply.Rcode
}

// Limit is the largest reply that the client's transport takes, in octets.
func (q *Query) Limit() int {
	if q.Proto != UDP {
		return wire.MaxMessage
	}
	return min(max(wire.MinUDP, int(q.EDNS.Size)), maxDatagram)
}

// maxDatagram is the most that a UDP datagram over IPv4 holds.
const maxDatagram = 65507

// Edit rewrites the reply record by record (wire.Transcribe) under the question it has.
func (q *Query) Edit(f func(s wire.Section, r *wire.Record) wire.Action) error {
	return q.rewrite(func(dst *wire.Reply) error { return q.Reply.Rewrite(dst, f) })
}

// RestoreQuestion rewrites the reply under the question that the client asked, records as f says.
func (q *Query) RestoreQuestion(f func(s wire.Section, r *wire.Record) wire.Action) error {
	return q.rewrite(func(dst *wire.Reply) error { return q.Reply.Requestion(dst, &q.Request, f) })
}

// Rearrange brings the reply's records into the order of p, which was opened on it: in place where it can be done.
func (q *Query) Rearrange(p *wire.Permutation) error {
	if p.InPlace() {
		return nil
	}
	return q.rewrite(p.Write)
}

func (q *Query) rewrite(f func(dst *wire.Reply) error) error {
	next := &q.edited
	if q.spare == nil {
		q.spare = q.w.buffer()
	}
	next.Attach(q.spare)
	if err := f(next); err != nil {
		q.spare = next.Detach()
		return err
	}
	q.Reply, *next = *next, q.Reply
	q.spare = next.Detach()
	return nil
}

// Park takes a ticket for the query; the handler then returns Parked. Tickets that are never used keep their query for
// ever, so whoever holds one answers for its deadline. When too many queries are in flight it fails the query instead
// and reports false: return Failed.
func (q *Query) Park() (Ticket, bool) {
	if !q.w.enter(q) {
		q.Fail(wire.ServFail, ErrTooMany)
		return Ticket{}, false
	}
	q.gen = q.w.nextGen()
	q.parked = true
	return Ticket{w: q.w, slot: q.slot, gen: q.gen}, true
}

// Ask puts a question of the query's own through the server, from routing on, with the client, view input and EDNS of
// the query: for CNAME targets. Return what it returns: Parked, and the reply arrives in Resume as an event of kind
// Child; or Failed when it is the ninth in a row.
func (q *Query) Ask(name wire.Name, t wire.Type) Outcome {
	if q.depth >= MaxDepth {
		return q.Fail(wire.ServFail, ErrTooDeep)
	}
	ticket, ok := q.Park()
	if !ok {
		return Failed
	}
	q.AskFor(ticket, name, t)
	return Parked
}

// AskFor is Ask for a handler that took the ticket itself, because something else may use it first: a timer, for one. The
// handler then returns Parked; the question goes on to its end, heard or not. It must not be called on a query that is one
// of Ask's already, as deep as that may go.
func (q *Query) AskFor(ticket Ticket, name wire.Name, t wire.Type) {
	child := q.w.Get()
	child.Request.CopyFrom(&q.Request)
	child.ChangeQuestion(name, t)
	child.Client, child.Local, child.Proto, child.Start = q.Client, q.Local, q.Proto, q.Now()
	child.router, child.depth, child.walks = q.router, q.depth+1, q.walks
	child.parent, child.sink = ticket, q.w
	q.w.pending = append(q.w.pending, child)
}

// Spawn makes a walk of its own from the handler below the one that has the query, for nobody: prefetch, stale refresh.
// Its way up ends with the handler that spawned it, which may set its slot on the returned query and thereby know it.
// It starts when the current walk has paused. With wait the ticket is used, with an event of kind Child, when it ends.
func (q *Query) Spawn(wait Ticket) *Query {
	child := q.w.Get()
	child.Request.CopyFrom(&q.Request)
	child.Client, child.Local, child.Proto, child.Start = q.Client, q.Local, q.Proto, q.Now()
	child.router, child.chain, child.depth, child.walks = q.router, q.chain, q.depth, q.walks
	child.pos, child.floor, child.spawn = q.pos+1, q.pos, true
	child.parent, child.sink = wait, q.w
	q.w.pending = append(q.w.pending, child)
	return child
}
