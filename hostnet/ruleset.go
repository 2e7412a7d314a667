package hostnet

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// The agent's own table. Its socket owns it, so it is gone when the agent is.
//
//	local   the agent's addresses
//	lease   those of them whose lease holds now: the answer to the agent's own probe puts them there, nothing else does
//	conns   TCP connections whose SYN came while the lease held
//
//	pre, out    base chains before connection tracking, for what comes in and for what processes of the node send
//	ask_udp     queries to a leased address are not tracked: kube-proxy, whose rules need tracking, does not see them
//	ask_tcp     so are a SYN to a leased address and what belongs to a connection in conns, leased or not; a SYN that finds
//	            no lease is for another server, even from a port that had a connection here a moment ago
//	probe       the agent's probe is never tracked, else kube-proxy would answer it and the lease could not begin
//	answer_udp  answers are not tracked either
//	renew       the answer to the probe renews the lease; the chain is emptied when the agent gives up
//	answer_tcp  what the agent sends on connections in conns
//
// Everything but DNS leaves pre and out after two comparisons for each jump.
const (
	tablePrefix = "godwit_" // and the agent's id

	rawPriority = -300 // NF_IP_PRI_RAW: before conntrack
	mostConns   = 65535
	fewestLease = 16 // room in the lease's set
)

// dnsFlagsAt and the two octets there: QR set, and response code NOERROR, RFC 1035, 4.1.1.
const dnsFlagsAt = 8 + 2

type ruleset struct {
	table string
	cfg   *Config
	t     transaction
}

// ownRules is the transaction that makes the agent's table.
func ownRules(cfg *Config) transaction {
	r := &ruleset{table: tablePrefix + cfg.ID, cfg: cfg}
	r.t.table(unix.NFPROTO_INET, r.table, tableOwner)
	for _, f := range bothFamilies() {
		r.sets(f)
	}
	for _, name := range []string{"probe", "ask_udp", "ask_tcp", "renew", "answer_udp", "answer_tcp"} {
		r.t.chain(r.table, name, nil)
	}
	r.t.chain(r.table, "pre", &hook{"filter", unix.NF_INET_PRE_ROUTING, rawPriority})
	r.t.chain(r.table, "out", &hook{"filter", unix.NF_INET_LOCAL_OUT, rawPriority})
	for _, f := range bothFamilies() {
		r.familyRules(f)
	}
	r.baseRules()
	return r.t
}

func (r *ruleset) add(chain string, parts ...[][]byte) {
	r.t.rule(r.table, chain, slices.Concat(parts...)...)
}

func (r *ruleset) sets(f family) {
	mine := ofFamily(r.cfg.Addresses, f)
	r.t.set(r.table, set{name: "local" + f.suffix, key: f.key, keyLen: f.size}, mine...)
	r.t.set(r.table, set{name: "lease" + f.suffix, key: f.key, keyLen: f.size, lifetime: r.cfg.Lease, size: max(fewestLease, uint32(len(mine)))})
	r.t.set(r.table, set{name: "conns" + f.suffix, key: (f.key<<typeBits|inetService)<<typeBits | f.key, keyLen: 2*f.size + 4, lifetime: r.cfg.Conns, size: mostConns})
}

func (r *ruleset) baseRules() {
	port := r.cfg.Port
	for _, chain := range []string{"pre", "out"} {
		if chain == "out" {
			r.add(chain, isPort(protoUDP, targetPort, port), [][]byte{jump("probe")})
		}
		r.add(chain, isPort(protoUDP, targetPort, port), [][]byte{jump("ask_udp")})
		r.add(chain, isPort(protoTCP, targetPort, port), [][]byte{jump("ask_tcp")})
	}
	r.add("out", isPort(protoUDP, sourcePort, port), [][]byte{jump("renew")})
	r.add("out", isPort(protoUDP, sourcePort, port), [][]byte{jump("answer_udp")})
	r.add("out", isPort(protoTCP, sourcePort, port), [][]byte{jump("answer_tcp")})
}

func (r *ruleset) familyRules(f family) {
	local, lease, conns := "local"+f.suffix, "lease"+f.suffix, "conns"+f.suffix
	here := isFamily(f)
	client, server := f.source, f.target

	r.add("ask_udp", here, addressIn(f, server, lease), [][]byte{notrack()})
	syn := [][]byte{payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, tcpFlags, 1, a), masked(tcpSyn | tcpAck), equals(tcpSyn)}
	keep := [][]byte{update(conns, r.cfg.Conns), notrack(), accept()}
	r.add("ask_tcp", here, syn, addressIn(f, server, lease), connection(f, client, sourcePort, server), keep)
	r.add("ask_tcp", here, syn, connection(f, client, sourcePort, server), [][]byte{in(conns), forget(conns)})
	r.add("ask_tcp", here, connection(f, client, sourcePort, server), [][]byte{in(conns)}, keep)

	client, server = f.target, f.source
	r.add("answer_udp", here, addressIn(f, server, local), [][]byte{notrack()})
	r.add("answer_tcp", here, connection(f, client, targetPort, server), [][]byte{in(conns)}, keep)

	probe := r.cfg.probePort(f)
	self := slices.Concat(addressIn(f, f.source, local), addressIn(f, f.target, local))
	if probe != 0 {
		good := [][]byte{payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, dnsFlagsAt, 2, a), masked(0x80, 0x0f), equals(0x80, 0)}
		r.add("probe", here, isPort(protoUDP, sourcePort, probe), self, [][]byte{notrack()})
		r.add("renew", here, isPort(protoUDP, targetPort, probe), self, good,
			[][]byte{payload(unix.NFT_PAYLOAD_NETWORK_HEADER, f.source, f.size, a), update(lease, r.cfg.Lease)})
	}
	if health := r.cfg.HealthPort; health != 0 {
		r.add("out", here, isPort(protoTCP, targetPort, health), addressIn(f, f.target, local), [][]byte{notrack()})
		r.add("out", here, isPort(protoTCP, sourcePort, health), addressIn(f, f.source, local), [][]byte{notrack()})
	}
}

// ofFamily gives the addresses of one family as the kernel has them.
func ofFamily(all []netip.Addr, f family) (list [][]byte) {
	for _, ip := range all {
		if uint32(ip.BitLen()) == 8*f.size {
			list = append(list, ip.AsSlice())
		}
	}
	return list
}

// endLease is the first half of giving the lease up: from now on nothing renews it.
func endLease(cfg *Config) (t transaction) {
	t.emptyChain(tablePrefix+cfg.ID, "renew")
	return t
}

// emptyLease is the second half. In one transaction with the first a packet on its way could renew in between.
func emptyLease(cfg *Config) (t transaction) {
	for _, f := range bothFamilies() {
		t.emptySet(tablePrefix+cfg.ID, "lease"+f.suffix)
	}
	return t
}
