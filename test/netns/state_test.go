package netns

import (
	"strings"
	"testing"
)

// What the node has of an agent, by what asks for it. Looking at a table of iptables-legacy would make it.
var traces = map[string]string{
	"link":     "ip -o link | grep nodelocaldns",
	"address":  "ip -o addr show dev nodelocaldns | grep inet",
	"table":    "nft list tables | grep godwit_ | grep -v godwit_fallback",
	"fallback": "nft list tables | grep godwit_fallback",
	"accept":   "nft list ruleset | grep 'godwit accept'",
	"iptables": `for f in ip ip6; do for t in raw filter nat mangle; do
	nft list tables | grep -qx "table $f $t" && ${f}tables-nft-save -t $t
	grep -qsx $t /proc/net/${f}_tables_names && ${f}tables-legacy-save -t $t
done; done | grep -E 'Godwit|NodeLocal'`,
}

// state is what the node has of agents, by kind.
func (l *Lab) state() map[string]string {
	all := map[string]string{}
	for kind, command := range traces {
		if out := strings.TrimSpace(l.Node.Run("sh", "-c", "exec 2>/dev/null; "+command+" || true")); out != "" {
			all[kind] = out
		}
	}
	return all
}

// wantOnly fails the test for what the node has of agents beside the kinds that may stay after a SIGKILL, by docs/node.md.
func (l *Lab) wantOnly(t *testing.T) {
	t.Helper()
	state := l.state()
	for _, may := range []string{"link", "address", "fallback", "accept", "iptables"} {
		delete(state, may)
	}
	if len(state) > 0 {
		t.Errorf("left on the node after a SIGKILL: %v", state)
	}
}

// wantClean fails the test for anything that the node has of agents.
func (l *Lab) wantClean(t *testing.T) {
	t.Helper()
	if left := l.state(); len(left) > 0 {
		t.Errorf("left on the node: %v", left)
	}
}
