package hostnet

import (
	"time"

	"golang.org/x/sys/unix"
)

// The few expressions that our rules are made of. A rule goes on to its next expression only while each one holds. Loaded
// values stand in registers of four octets: a is the first; a concatenation fills those after it.
const (
	a            = unix.NFT_REG32_00
	tcpFlags     = 13 // octet of the TCP header
	tcpSyn       = 0x02
	tcpAck       = 0x10
	ipv4Checksum = 10 // octet of the IPv4 header
	sourcePort   = 0  // octets of the UDP and TCP header
	targetPort   = 2
	protoUDP     = unix.IPPROTO_UDP
	protoTCP     = unix.IPPROTO_TCP
)

// family is what differs between IPv4 and IPv6 in a rule.
type family struct {
	suffix         string // of names of sets
	proto          byte   // NFPROTO_*
	source, target uint32 // where the IP header has its addresses
	size           uint32 // octets of an address
	key            uint32 // how the nft program prints an address
}

func (f family) words() uint32 { return f.size / 4 }

// inetProto and inetService are how the nft program prints a protocol and a port; a concatenation has six bits for each of its parts.
const (
	inetProto   = 12
	inetService = 13
	typeBits    = 6
)

func bothFamilies() [2]family {
	return [2]family{{"4", unix.NFPROTO_IPV4, 12, 16, 4, 7}, {"6", unix.NFPROTO_IPV6, 8, 24, 16, 8}}
}

func expr(name string, parts ...[]byte) []byte {
	return nest(unix.NFTA_LIST_ELEM, str(unix.NFTA_EXPR_NAME, name), nest(unix.NFTA_EXPR_DATA, parts...))
}

func meta(key uint32) []byte {
	return expr("meta", attr(unix.NFTA_META_DREG, be32(a)), attr(unix.NFTA_META_KEY, be32(key)))
}

func payload(base, offset, length, register uint32) []byte {
	return expr("payload", attr(unix.NFTA_PAYLOAD_DREG, be32(register)), attr(unix.NFTA_PAYLOAD_BASE, be32(base)),
		attr(unix.NFTA_PAYLOAD_OFFSET, be32(offset)), attr(unix.NFTA_PAYLOAD_LEN, be32(length)))
}

func compare(op uint32, value []byte) []byte {
	return expr("cmp", attr(unix.NFTA_CMP_SREG, be32(a)), attr(unix.NFTA_CMP_OP, be32(op)),
		nest(unix.NFTA_CMP_DATA, attr(unix.NFTA_DATA_VALUE, value)))
}

func equals(value ...byte) []byte { return compare(unix.NFT_CMP_EQ, value) }

func masked(mask ...byte) []byte {
	return expr("bitwise", attr(unix.NFTA_BITWISE_SREG, be32(a)), attr(unix.NFTA_BITWISE_DREG, be32(a)), attr(unix.NFTA_BITWISE_LEN, be32(uint32(len(mask)))),
		nest(unix.NFTA_BITWISE_MASK, attr(unix.NFTA_DATA_VALUE, mask)), nest(unix.NFTA_BITWISE_XOR, attr(unix.NFTA_DATA_VALUE, make([]byte, len(mask)))))
}

func in(set string) []byte {
	return expr("lookup", attr(unix.NFTA_LOOKUP_SET, append([]byte(set), 0)), attr(unix.NFTA_LOOKUP_SREG, be32(a)))
}

// update puts what is in the registers into the set, or begins its lifetime anew.
func update(set string, lifetime time.Duration) []byte {
	return expr("dynset", str(unix.NFTA_DYNSET_SET_NAME, set), attr(unix.NFTA_DYNSET_OP, be32(unix.NFT_DYNSET_OP_UPDATE)),
		attr(unix.NFTA_DYNSET_SREG_KEY, be32(a)), attr(unix.NFTA_DYNSET_TIMEOUT, be64(uint64(lifetime.Milliseconds()))))
}

// forget takes what is in the registers out of the set.
func forget(set string) []byte {
	return expr("dynset", str(unix.NFTA_DYNSET_SET_NAME, set), attr(unix.NFTA_DYNSET_OP, be32(dynsetDelete)), attr(unix.NFTA_DYNSET_SREG_KEY, be32(a)))
}

func notrack() []byte { return expr("notrack") }

func verdict(code int32, chain string) []byte {
	parts := [][]byte{attr(unix.NFTA_VERDICT_CODE, be32(uint32(code)))}
	if chain != "" {
		parts = append(parts, str(unix.NFTA_VERDICT_CHAIN, chain))
	}
	return expr("immediate", attr(unix.NFTA_IMMEDIATE_DREG, be32(unix.NFT_REG_VERDICT)),
		nest(unix.NFTA_IMMEDIATE_DATA, nest(unix.NFTA_DATA_VERDICT, parts...)))
}

func jump(chain string) []byte { return verdict(unix.NFT_JUMP, chain) }

func accept() []byte { return verdict(nfAccept, "") }

// get puts what a map has for what is in the registers in its place; a map that has nothing ends the rule.
func get(set string) []byte {
	return expr("lookup", str(unix.NFTA_LOOKUP_SET, set), attr(unix.NFTA_LOOKUP_SREG, be32(a)), attr(unix.NFTA_LOOKUP_DREG, be32(a)))
}

// remember puts what is in the registers into the map, with what is in those from value on, or begins its lifetime anew:
// then what the map has stays.
func remember(set string, value uint32, lifetime time.Duration) []byte {
	return expr("dynset", str(unix.NFTA_DYNSET_SET_NAME, set), attr(unix.NFTA_DYNSET_OP, be32(unix.NFT_DYNSET_OP_UPDATE)),
		attr(unix.NFTA_DYNSET_SREG_KEY, be32(a)), attr(unix.NFTA_DYNSET_SREG_DATA, be32(value)), attr(unix.NFTA_DYNSET_TIMEOUT, be64(uint64(lifetime.Milliseconds()))))
}

// drop takes what is in the registers out of the map. The kernel asks for a value too and does not look at it.
func drop(set string) []byte {
	return expr("dynset", str(unix.NFTA_DYNSET_SET_NAME, set), attr(unix.NFTA_DYNSET_OP, be32(dynsetDelete)),
		attr(unix.NFTA_DYNSET_SREG_KEY, be32(a)), attr(unix.NFTA_DYNSET_SREG_DATA, be32(a)))
}

// hash puts a number below n in the place of so many octets in the registers.
func hash(length, n, seed uint32) []byte {
	return expr("hash", attr(unix.NFTA_HASH_SREG, be32(a)), attr(unix.NFTA_HASH_DREG, be32(a)), attr(unix.NFTA_HASH_LEN, be32(length)),
		attr(unix.NFTA_HASH_MODULUS, be32(n)), attr(unix.NFTA_HASH_SEED, be32(seed)), attr(unix.NFTA_HASH_TYPE, be32(unix.NFT_HASH_JENKINS)))
}

// load puts a value into the registers.
func load(value []byte) []byte {
	return expr("immediate", attr(unix.NFTA_IMMEDIATE_DREG, be32(a)), nest(unix.NFTA_IMMEDIATE_DATA, attr(unix.NFTA_DATA_VALUE, value)))
}

// write puts the address in the registers into the IP header. The checksum of UDP and TCP covers it, in IPv4 the header's
// too.
func write(f family, where uint32) []byte {
	kind := uint32(unix.NFT_PAYLOAD_CSUM_NONE)
	if f.proto == unix.NFPROTO_IPV4 {
		kind = unix.NFT_PAYLOAD_CSUM_INET
	}
	return expr("payload", attr(unix.NFTA_PAYLOAD_SREG, be32(a)), attr(unix.NFTA_PAYLOAD_BASE, be32(unix.NFT_PAYLOAD_NETWORK_HEADER)),
		attr(unix.NFTA_PAYLOAD_OFFSET, be32(where)), attr(unix.NFTA_PAYLOAD_LEN, be32(f.size)), attr(unix.NFTA_PAYLOAD_CSUM_TYPE, be32(kind)),
		attr(unix.NFTA_PAYLOAD_CSUM_OFFSET, be32(ipv4Checksum)), attr(unix.NFTA_PAYLOAD_CSUM_FLAGS, be32(unix.NFT_PAYLOAD_L4CSUM_PSEUDOHDR)))
}

func masquerade() []byte { return expr("masq") }

// The matches, each a load and a comparison.

func isFamily(f family) [][]byte { return [][]byte{meta(unix.NFT_META_NFPROTO), equals(f.proto)} }

func isPort(proto byte, which uint32, port uint16) [][]byte {
	return [][]byte{meta(unix.NFT_META_L4PROTO), equals(proto), payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, which, 2, a), equals(be16(port)...)}
}

func addressIn(f family, where uint32, set string) [][]byte {
	return [][]byte{payload(unix.NFT_PAYLOAD_NETWORK_HEADER, where, f.size, a), in(set)}
}

func addressIs(f family, where uint32, ip []byte) [][]byte {
	return [][]byte{payload(unix.NFT_PAYLOAD_NETWORK_HEADER, where, f.size, a), equals(ip...)}
}

// notTracked holds for packets that a rule before has exempted from connection tracking.
func notTracked() [][]byte {
	return [][]byte{expr("ct", attr(unix.NFTA_CT_DREG, be32(a)), attr(unix.NFTA_CT_KEY, be32(unix.NFT_CT_STATE))),
		masked(native32(ctUntracked)...), compare(unix.NFT_CMP_NEQ, native32(0))}
}

// client loads one side's address, the protocol and its port: clientWords registers.
func client(f family, address, port uint32) [][]byte {
	return [][]byte{
		payload(unix.NFT_PAYLOAD_NETWORK_HEADER, address, f.size, a),
		expr("meta", attr(unix.NFTA_META_DREG, be32(a+f.words())), attr(unix.NFTA_META_KEY, be32(unix.NFT_META_L4PROTO))),
		payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, port, 2, a+f.words()+1),
	}
}

func clientWords(f family) uint32 { return f.words() + 2 }

// connection loads the client's address, its port and the server's address, from a packet of either.
func connection(f family, client, port, server uint32) [][]byte {
	return [][]byte{
		payload(unix.NFT_PAYLOAD_NETWORK_HEADER, client, f.size, a),
		payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, port, 2, a+f.words()),
		payload(unix.NFT_PAYLOAD_NETWORK_HEADER, server, f.size, a+f.words()+1),
	}
}
