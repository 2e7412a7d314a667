package hostnet

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// The fallback gives queries to addresses that no Service has, 169.254.20.10 above all, to the cluster's servers while no
// agent has a lease for them. It needs no lease of its own: it leaves alone what an agent's rules exempt from tracking.
//
// It writes the address of a cluster DNS Service into the query before connection tracking sees it, and the one that was
// asked into the answer after all others are done with it. To them the pod has asked the Service: kube-proxy takes the
// query to a server in each of its modes. A nat rule could not do that: a connection is redirected once.
//
//	back  by client, protocol and port: the address that it asked. With conntrack's own limits
//	pre   at prerouting, one after raw: queries of pods
//	out   at output, likewise: those of processes of the node, which are routed anew
//	masq  these send from the address that they ask while it is on the interface, and no server could answer that
//	post  at postrouting, after nat: answers to pods
//	in    at input, after nat: answers to processes of the node
//
// Its table is nobody's, so it stays after a SIGKILL; that is its purpose.
const (
	fallbackTable    = "godwit_fallback"
	fallbackPriority = rawPriority + 1
	masqPriority     = 99  // one before kube-proxy's
	answerPriority   = 110 // NF_IP_PRI_NAT_SRC is 100: conntrack has put the Service's address back
	loopback         = 1   // index of lo, the same in every namespace

	mostFallen = 1 << 17 // entries of back: queries for which an answer may come
	// udpFallen is longer than a stub waits for an answer; tcpFallen than a server keeps a silent connection.
	udpFallen = 15 * time.Second
	tcpFallen = time.Minute
	// fallenSeed chooses among several servers, the same for every agent: a connection outlives its first.
	fallenSeed = 0x676f6477
)

// fallbackRule is one rule of it, kept apart from the transaction so that what is there can be compared.
type fallbackRule struct {
	chain       string
	expressions [][]byte
}

// comment tells the rule from one with other addresses.
func (r fallbackRule) comment() string {
	h := fnv.New64a()
	h.Write([]byte(r.chain))
	for _, e := range r.expressions {
		h.Write(e)
	}
	return fmt.Sprintf("godwit %016x", h.Sum64())
}

// fallbackHooks are the table's chains in the order of fallbackRight.
func fallbackHooks() []struct {
	name string
	hook hook
} {
	return []struct {
		name string
		hook hook
	}{
		{"pre", hook{"filter", unix.NF_INET_PRE_ROUTING, fallbackPriority}},
		{"out", hook{"route", unix.NF_INET_LOCAL_OUT, fallbackPriority}},
		{"masq", hook{"nat", unix.NF_INET_POST_ROUTING, masqPriority}},
		{"post", hook{"filter", unix.NF_INET_POST_ROUTING, answerPriority}},
		{"in", hook{"filter", unix.NF_INET_LOCAL_IN, answerPriority}},
	}
}

// fallbackRules are the rules for these addresses; none when there is nowhere to send their queries.
func fallbackRules(alone, targets []netip.Addr, port uint16) (list []fallbackRule) {
	for _, f := range bothFamilies() {
		b := fallbackFamily{f: f, port: port, alone: ofFamily(alone, f), targets: ofFamily(targets, f)}
		if len(b.alone) > 0 && len(b.targets) > 0 {
			for _, proto := range []byte{protoUDP, protoTCP} {
				list = append(list, b.rules(proto)...)
			}
		}
	}
	if len(list) == 0 {
		return nil
	}
	return append([]fallbackRule{
		{"pre", [][]byte{meta(unix.NFT_META_IIF), compare(unix.NFT_CMP_EQ, native32(loopback)), accept()}}, // it has been through out
		{"pre", slices.Concat(notTracked(), [][]byte{accept()})},
		{"out", slices.Concat(notTracked(), [][]byte{accept()})},
	}, list...)
}

// fallbackFamily is what the rules of one family are about.
type fallbackFamily struct {
	f              family
	port           uint16
	alone, targets [][]byte
}

func (b fallbackFamily) back() string { return "back" + b.f.suffix }

func (b fallbackFamily) rules(proto byte) (list []fallbackRule) {
	add := func(chain string, parts ...[][]byte) {
		list = append(list, fallbackRule{chain, slices.Concat(append([][][]byte{isFamily(b.f)}, parts...)...)})
	}
	asking, answering := isPort(proto, targetPort, b.port), isPort(proto, sourcePort, b.port)
	asker, answered := client(b.f, b.f.source, sourcePort), client(b.f, b.f.target, targetPort)
	for _, chain := range []string{"pre", "out"} {
		for _, target := range b.targets { // who asks a server itself wants its answers as they are
			add(chain, asking, addressIs(b.f, b.f.target, target), asker, [][]byte{drop(b.back())})
		}
		for _, ip := range b.alone {
			asked := slices.Concat(asking, addressIs(b.f, b.f.target, ip))
			if len(b.alone) > 1 { // remembering would not put ip in the place of another
				add(chain, asked, asker, [][]byte{get(b.back()), compare(unix.NFT_CMP_NEQ, ip)}, asker, [][]byte{drop(b.back())})
			}
			value := a + clientWords(b.f)
			add(chain, asked, asker, [][]byte{payload(unix.NFT_PAYLOAD_NETWORK_HEADER, b.f.target, b.f.size, value), remember(b.back(), value, fallen(proto))})
			for i, target := range b.targets {
				var pick [][]byte
				if n := len(b.targets); n > 1 {
					pick = slices.Concat(asker, [][]byte{hash(4*clientWords(b.f), uint32(n), fallenSeed), compare(unix.NFT_CMP_EQ, native32(uint32(i)))})
				}
				add(chain, asked, pick, [][]byte{load(target), write(b.f, b.f.target)})
			}
		}
	}
	for _, ip := range b.alone {
		add("masq", asking, addressIs(b.f, b.f.source, ip), [][]byte{masquerade()})
	}
	for _, chain := range []string{"post", "in"} {
		for _, target := range b.targets {
			add(chain, answering, addressIs(b.f, b.f.source, target), answered, [][]byte{get(b.back()), write(b.f, b.f.source)})
		}
	}
	return list
}

// fallen is how long an answer may take.
func fallen(proto byte) time.Duration {
	if proto == protoTCP {
		return tcpFallen
	}
	return udpFallen
}

// makeFallback replaces the table by one with these rules, or removes it when there are none.
func makeFallback(rules []fallbackRule) (t transaction) {
	t.table(unix.NFPROTO_INET, fallbackTable, 0) // else deleting it would be an error where there is none
	t.dropTable(unix.NFPROTO_INET, fallbackTable)
	if len(rules) == 0 {
		return t
	}
	t.table(unix.NFPROTO_INET, fallbackTable, 0)
	for _, f := range bothFamilies() {
		t.set(fallbackTable, set{name: fallbackFamily{f: f}.back(), key: (f.key<<typeBits|inetProto)<<typeBits | inetService, keyLen: 4 * clientWords(f),
			data: f.key, dataLen: f.size, lifetime: udpFallen, size: mostFallen})
	}
	for _, c := range fallbackHooks() {
		t.chain(fallbackTable, c.name, &c.hook)
	}
	for _, r := range rules {
		t.ruleIn(unix.NFPROTO_INET, unix.NLM_F_APPEND, fallbackTable, r.chain, r.comment(), r.expressions...)
	}
	return t
}

// tryFallback reports why the kernel would not take the table; no error when it would.
func (n nfTables) tryFallback(cfg *Config) error {
	somewhere := []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, 1}), netip.AddrFrom4([4]byte{192, 0, 2, 2}), netip.MustParseAddr("2001:db8::1")}
	rules := fallbackRules(cfg.Alone, somewhere, cfg.Port)
	if len(rules) == 0 {
		return nil
	}
	return n.try(makeFallback(rules))
}

// fallbackRight reports whether the table holds just these rules, by their comments, in their chains and order.
func (n nfTables) fallbackRight(want []fallbackRule) (bool, error) {
	there, err := n.rules(unix.NFPROTO_INET, fallbackTable, "")
	if err != nil || len(there) != len(want) {
		return false, err
	}
	for _, c := range fallbackHooks() {
		var has, should []string
		for _, r := range there {
			if r.chain == c.name {
				has = append(has, r.comment)
			}
		}
		for _, r := range want {
			if r.chain == c.name {
				should = append(should, r.comment())
			}
		}
		if !slices.Equal(has, should) {
			return false, nil
		}
	}
	return true, nil
}

// ensureFallback makes the table right and reports whether it had to.
func (n nfTables) ensureFallback(rules []fallbackRule) (changed bool, err error) {
	right, err := n.fallbackRight(rules)
	if err != nil || right && len(rules) > 0 {
		return false, err
	}
	if len(rules) == 0 {
		tables, err := n.tables()
		if err != nil || !slices.ContainsFunc(tables, func(t nfTable) bool { return t.name == fallbackTable }) {
			return false, err
		}
	}
	if err := n.commit(makeFallback(rules)); err != nil {
		return false, fmt.Errorf("making the nftables table %s: %w", fallbackTable, err)
	}
	return true, nil
}
