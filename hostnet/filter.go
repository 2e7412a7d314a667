package hostnet

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Filter is a chain that lets nothing in, or out, unless a rule says so. A verdict of ours cannot overrule it from another
// table: a packet must be accepted in every one.
type Filter struct {
	Family string // "ip", "ip6" or "inet"
	Table  string
	Chain  string
	Output bool // it is about what the node sends, not about what it receives
	Policy bool // its policy is drop; else its last rule drops or rejects what got there
	Owned  bool // a program holds the table, so nobody else can add a rule
	Legacy bool // of iptables-legacy
	nf     nfChain
}

// String names the chain as the nft program does.
func (f Filter) String() string {
	if f.Legacy {
		return fmt.Sprintf("chain %s of table %s of iptables-legacy (%s)", f.Chain, f.Table, f.Family)
	}
	return fmt.Sprintf("chain %s of table %s %s", f.Chain, f.Family, f.Table)
}

// iptables reports whether rules there are the business of the iptables programs.
func (f Filter) iptables() bool {
	return f.Legacy || f.Family != "inet" && (f.Chain == "INPUT" || f.Chain == "OUTPUT")
}

// Filtered says which chains of the node's rules drop by default what the agent receives or sends. Chains of
// iptables-legacy are told only where its programs are installed.
func Filtered(ctx context.Context) ([]Filter, error) {
	t, err := dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	list, err := nfTables{t}.filters()
	legacy, also := legacyFilters(ctx, "/proc")
	return append(list, legacy...), errors.Join(err, also, t.close())
}

func (n nfTables) filters() (list []Filter, err error) {
	chains, err := n.baseChains()
	if err != nil {
		return nil, err
	}
	tables, err := n.tables()
	if err != nil {
		return nil, err
	}
	for _, c := range chains {
		name, known := map[byte]string{unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_INET: "inet"}[c.family]
		if !known || c.kind != "filter" || c.hook != unix.NF_INET_LOCAL_IN && c.hook != unix.NF_INET_LOCAL_OUT {
			continue
		}
		f := Filter{Family: name, Table: c.table, Chain: c.name, Output: c.hook == unix.NF_INET_LOCAL_OUT, Policy: c.policy == nfDrop, nf: c}
		if !f.Policy {
			rules, err := n.rules(c.family, c.table, c.name)
			if err != nil {
				return nil, err
			}
			if len(rules) == 0 || !rules[len(rules)-1].drops() {
				continue
			}
		}
		f.Owned = slices.ContainsFunc(tables, func(t nfTable) bool { return t.owned && t.family == c.family && t.name == c.table })
		list = append(list, f)
	}
	return list, nil
}

// drops reports whether the rule drops or rejects whatever reaches it.
func (r nfRule) drops() bool {
	for _, e := range r.expressions {
		switch e.name {
		case "counter", "log", "limit":
		case "reject":
			return true
		case "immediate":
			verdict := attrs(attrs(e.data[unix.NFTA_IMMEDIATE_DATA])[unix.NFTA_DATA_VERDICT])
			code := verdict[unix.NFTA_VERDICT_CODE]
			return len(code) == 4 && number(code) == nfDrop
		case "target":
			return text(e.data[unix.NFTA_TARGET_NAME]) == "REJECT"
		default:
			return false // a condition
		}
	}
	return false
}

// legacyFilters looks at the filter table of iptables-legacy. Asking its programs where there is no such table would make
// one.
func legacyFilters(ctx context.Context, proc string) (list []Filter, err error) {
	for _, p := range legacyPrograms(proc, "filter") {
		saved, err := p.save(ctx, "filter")
		if err != nil {
			return list, err
		}
		last, policy := map[string]string{}, map[string]string{}
		for line := range strings.Lines(saved) {
			word := strings.Fields(line)
			switch {
			case len(word) >= 2 && word[0][0] == ':':
				policy[word[0][1:]] = word[1]
			case len(word) >= 4 && word[0] == "-A":
				last[word[1]] = strings.Join(word[2:], " ")
			}
		}
		for _, chain := range []string{"INPUT", "OUTPUT"} {
			f := Filter{Family: p.family.table(), Table: "filter", Chain: chain, Output: chain == "OUTPUT", Legacy: true, Policy: policy[chain] == "DROP"}
			if f.Policy || strings.HasPrefix(last[chain], "-j DROP") || strings.HasPrefix(last[chain], "-j REJECT") {
				list = append(list, f)
			}
		}
	}
	return list, nil
}

// acceptMark begins the comments of accept rules in tables of others.
const acceptMark = "godwit accept "

// acceptRule is one rule that lets DNS pass a filter.
type acceptRule struct {
	comment     string
	expressions []byte
}

func acceptRules(cfg *Config, f Filter) (list []acceptRule) {
	for _, fam := range bothFamilies() {
		if f.nf.family != unix.NFPROTO_INET && f.nf.family != fam.proto {
			continue
		}
		where, port := fam.target, uint32(targetPort)
		if f.Output {
			where, port = fam.source, sourcePort
		}
		for _, ip := range ofFamily(cfg.Addresses, fam) {
			for _, proto := range []byte{protoUDP, protoTCP} {
				var parts [][]byte
				if f.nf.family == unix.NFPROTO_INET {
					parts = isFamily(fam)
				}
				all := slices.Concat(slices.Concat(parts, addressIs(fam, where, ip), isPort(proto, port, cfg.Port), [][]byte{accept()})...)
				h := fnv.New64a()
				h.Write(all)
				list = append(list, acceptRule{fmt.Sprintf("%s%016x", acceptMark, h.Sum64()), all})
			}
		}
	}
	return list
}

// ensureAccepts puts accept rules at the head of each filtering chain that is no business of iptables, and says in how
// many it had to. With none it removes all of ours.
func (n nfTables) ensureAccepts(cfg *Config, filters []Filter) (changed int, err error) {
	chains, err := n.baseChains()
	if err != nil {
		return 0, err
	}
	for _, c := range chains {
		if c.kind != "filter" || c.hook != unix.NF_INET_LOCAL_IN && c.hook != unix.NF_INET_LOCAL_OUT || strings.HasPrefix(c.table, tablePrefix) {
			continue
		}
		var want []acceptRule
		for _, f := range filters {
			if f.nf == c && !f.iptables() && !f.Owned {
				want = acceptRules(cfg, f)
			}
		}
		there, err := n.rules(c.family, c.table, c.name)
		if err != nil {
			return changed, err
		}
		t := acceptChanges(c, want, there)
		if len(t) > 0 {
			changed++
		}
		if err := n.commit(t); err != nil {
			return changed, fmt.Errorf("letting DNS pass chain %s of table %s: %w", c.name, c.table, err)
		}
	}
	return changed, nil
}

// acceptChanges keeps one of each wanted rule, deletes all else of ours, and adds what is missing.
func acceptChanges(c nfChain, want []acceptRule, there []nfRule) (t transaction) {
	has := map[string]bool{}
	for _, r := range there {
		if !strings.HasPrefix(r.comment, acceptMark) {
			continue
		}
		if has[r.comment] || !slices.ContainsFunc(want, func(w acceptRule) bool { return w.comment == r.comment }) {
			t.dropRule(r)
		}
		has[r.comment] = true
	}
	for _, w := range want {
		if !has[w.comment] {
			t.ruleIn(c.family, 0, c.table, c.name, w.comment, w.expressions)
		}
	}
	return t
}
