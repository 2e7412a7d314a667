package netns

import (
	"strings"
	"testing"
)

// hostRules are rules of a node's own or of another program's.
type hostRules struct {
	name  string
	proxy string     // kube-proxy's mode
	rules [][]string // commands
	feed  string     // for nft
	agent bool       // it is the agent that answers; otherwise the cluster's servers may
	modes []mode     // of the agent
}

// dropAll lets nothing in that nobody has asked for, as hosts do.
func dropAll(backend string) (commands [][]string) {
	for _, program := range []string{"iptables-" + backend, "ip6tables-" + backend} {
		commands = append(commands,
			[]string{program, "-A", "INPUT", "-i", "lo", "-j", "ACCEPT"},
			[]string{program, "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"})
	}
	return append(commands,
		[]string{"ip6tables-" + backend, "-A", "INPUT", "-p", "icmpv6", "-j", "ACCEPT"},
		[]string{"iptables-" + backend, "-P", "INPUT", "DROP"},
		[]string{"ip6tables-" + backend, "-P", "INPUT", "DROP"})
}

// somebodys is a filter that is nobody's we know.
const somebodys = `table inet somebodys {
	chain input { type filter hook input priority filter; policy drop
		iif lo accept
		ct state established,related accept
		meta l4proto ipv6-icmp accept
	}
}`

// before stands in front of the agent's rules: it accepts, counts and drops other things.
const before = `table inet before {
	chain pre { type filter hook prerouting priority -400
		udp dport 53 counter accept
		tcp dport 53 counter accept
		tcp dport 9999 drop
	}
	chain out { type filter hook output priority -400
		udp dport 53 accept
		udp dport 9999 drop
	}
	chain mangle { type filter hook prerouting priority mangle
		udp dport 53 meta mark set 0x4000
		accept
	}
}`

// tracks gives DNS a zone of connection tracking before the agent can say that it is not tracked.
const tracks = `table inet tracks {
	chain zone {
		meta l4proto { tcp, udp } th dport 53 ct zone set 7
		meta l4proto { tcp, udp } th sport 53 ct zone set 7
	}
	chain pre { type filter hook prerouting priority -400; jump zone
	}
	chain out { type filter hook output priority -400; jump zone
	}
}`

var (
	byNetlink = mode{rules: "nftables", programs: "nft"}
	byLegacy  = mode{rules: "iptables", programs: "legacy"}
	byNft     = mode{rules: "iptables", programs: "nft"}
)

// TestHostRules puts rules of others on the node: a host that filters, and programs whose rules come first.
func TestHostRules(t *testing.T) {
	t.Parallel()
	for _, test := range []hostRules{
		{"INPUT drops, iptables-nft", "iptables", dropAll("nft"), "", true, []mode{byNetlink, byNft}},
		{"INPUT drops, iptables-legacy", "iptables-legacy", dropAll("legacy"), "", true, []mode{{rules: "nftables", programs: "legacy"}, byLegacy}},
		{"somebody's nftables drop", "nftables", nil, somebodys, true, []mode{byNetlink}},
		{"rules in front", "iptables", nil, before, true, []mode{byNetlink, byNft}},
		{"somebody tracks", "iptables", nil, tracks, false, []mode{byNetlink, byNft}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := NewLab(t, 4)
			l.KubeProxy(test.proxy)
			for _, command := range test.rules {
				l.Node.Run(command[0], command[1:]...)
			}
			if test.feed != "" {
				l.Node.Feed(test.feed, "nft", "-f", "-")
			}
			wantNoLoss(t, l.under(Load{Pods: l.Pods, Servers: []string{ClusterDNS4, ClusterDNS6}, Rate: 200, TCPRate: 20}, func() {}))
			for _, m := range test.modes {
				l.answeredIn(t, m, test.agent)
			}
		})
	}
}

// answeredIn starts an agent of a mode, which has to answer everything by itself, or at least not be in the way.
func (l *Lab) answeredIn(t *testing.T, m mode, byAgent bool) {
	t.Helper()
	o := l.both(m)
	a := l.Agent(o).Ready()
	udp := l.askedUDP()
	r := l.under(Load{Pods: l.Pods, Servers: []string{ClusterDNS4, ClusterDNS6}, Rate: 200, TCPRate: 20}, func() {})
	wantNoLoss(t, r)
	if l.askedUDP() != udp && byAgent { // the agent itself asks over TCP
		t.Errorf("%v: %d of %d queries went to the servers past the agent", m, l.askedUDP()-udp, r.Sent)
	}
	if !byAgent {
		t.Logf("%v: %d of %d queries went to the servers past the agent", m, l.askedUDP()-udp, r.Sent)
	}
	if byAgent && strings.Contains(a.Output(), "a lease has ended") {
		t.Errorf("%v: a lease ended", m)
	}
	a.End()
	l.wantClean(t)
}

// askedUDP is how many queries the servers have got over UDP.
func (l *Lab) askedUDP() (n int64) {
	for _, s := range l.Servers {
		n += s.UDP.Load()
	}
	return n
}
