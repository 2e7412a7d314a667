package hostnet

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// The fallback gives queries to addresses that no Service has, 169.254.20.10 above all, to the cluster's servers while no
// agent has a lease for them. It needs no lease of its own: what an agent's table exempts from tracking never reaches a
// nat chain. Its table is nobody's, so it stays after a SIGKILL; that is its purpose.
const (
	fallbackTable    = "godwit_fallback"
	fallbackPriority = -101 // one before kube-proxy's
	masqPriority     = 99
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

// fallbackRules are the rules for these addresses; none when there is nowhere to send their queries.
func fallbackRules(alone, targets []netip.Addr, port uint16) (list []fallbackRule) {
	for _, f := range bothFamilies() {
		to := ofFamily(targets, f)
		for _, ip := range ofFamily(alone, f) {
			if len(to) == 0 {
				continue
			}
			for _, proto := range []byte{protoUDP, protoTCP} {
				asked := slices.Concat(isFamily(f), isPort(proto, targetPort, port), addressIs(f, f.target, ip))
				for _, chain := range []string{"pre", "out"} {
					for i, target := range to {
						var pick [][]byte
						if rest := uint32(len(to) - i); rest > 1 {
							pick = oneIn(rest)
						}
						list = append(list, fallbackRule{chain, slices.Concat(asked, pick, dnat(f, target))})
					}
				}
				// A process of the node sends from the address that it asked, which no other machine can answer.
				list = append(list, fallbackRule{"post", slices.Concat(isFamily(f), isPort(proto, targetPort, port), addressIs(f, f.source, ip), [][]byte{masquerade()})})
			}
		}
	}
	return list
}

// makeFallback replaces the table by one with these rules, or removes it when there are none.
func makeFallback(rules []fallbackRule) (t transaction) {
	t.table(unix.NFPROTO_INET, fallbackTable, 0) // else deleting it would be an error where there is none
	t.dropTable(unix.NFPROTO_INET, fallbackTable)
	if len(rules) == 0 {
		return t
	}
	t.table(unix.NFPROTO_INET, fallbackTable, 0)
	t.chain(fallbackTable, "pre", &hook{"nat", unix.NF_INET_PRE_ROUTING, fallbackPriority})
	t.chain(fallbackTable, "out", &hook{"nat", unix.NF_INET_LOCAL_OUT, fallbackPriority})
	t.chain(fallbackTable, "post", &hook{"nat", unix.NF_INET_POST_ROUTING, masqPriority})
	for _, r := range rules {
		t.ruleIn(unix.NFPROTO_INET, unix.NLM_F_APPEND, fallbackTable, r.chain, r.comment(), r.expressions...)
	}
	return t
}

// fallbackRight reports whether the table holds just these rules, by their comments, in their chains and order.
func (n nfTables) fallbackRight(want []fallbackRule) (bool, error) {
	there, err := n.rules(unix.NFPROTO_INET, fallbackTable, "")
	if err != nil || len(there) != len(want) {
		return false, err
	}
	for _, chain := range []string{"pre", "out", "post"} {
		var has, should []string
		for _, r := range there {
			if r.chain == chain {
				has = append(has, r.comment)
			}
		}
		for _, r := range want {
			if r.chain == chain {
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
