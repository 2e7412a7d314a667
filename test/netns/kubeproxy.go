package netns

import (
	"fmt"
	"strings"
)

// service is a Service of the cluster's DNS servers, by address.
type service struct{ v4, v6 string }

var services = []service{{ClusterDNS4, ClusterDNS6}, {Upstream4, Upstream6}}

// KubeProxy puts the rules of one of kube-proxy's modes into the node, in the place of those of another. They are of the
// same kind and in the same place as kube-proxy's: DNAT to a server by chance, in nat's prerouting and output. The mode
// iptables is in the tables of iptables-nft, iptables-legacy in its own.
func (l *Lab) KubeProxy(mode string) {
	l.T.Helper()
	if l.undo != nil {
		l.undo()
	}
	l.undo = nil
	switch mode {
	case "iptables", "iptables-legacy":
		backend := map[string]string{"iptables": "-nft", "iptables-legacy": "-legacy"}[mode]
		l.iptablesServices("iptables"+backend, func(s service) string { return s.v4 }, func(s *Server) string { return s.Addr4.String() + ":53" })
		l.iptablesServices("ip6tables"+backend, func(s service) string { return s.v6 }, func(s *Server) string { return "[" + s.Addr6.String() + "]:53" })
		l.undo = func() {
			for _, program := range []string{"iptables", "ip6tables"} {
				l.Node.Run(program+backend, "-t", "nat", "-F")
				l.Node.Run(program+backend, "-t", "nat", "-X")
			}
		}
	case "nftables":
		l.Node.Feed(l.nftServices(), "nft", "-f", "-")
		l.undo = func() { l.Node.Run("nft", "delete", "table", "inet", "kube-proxy") }
	case "none":
	default:
		l.T.Fatalf("kube-proxy has no mode %q", mode)
	}
}

// iptablesServices makes a chain for each Service and protocol, with one rule for each server.
func (l *Lab) iptablesServices(program string, addr func(service) string, target func(*Server) string) {
	var b strings.Builder
	b.WriteString("*nat\n:KUBE-SERVICES - [0:0]\n")
	var rules strings.Builder
	for i, s := range services {
		for _, proto := range []string{"udp", "tcp"} {
			chain := fmt.Sprintf("KUBE-SVC-%d%s", i, strings.ToUpper(proto))
			fmt.Fprintf(&b, ":%s - [0:0]\n", chain)
			fmt.Fprintf(&rules, "-A KUBE-SERVICES -d %s -p %s --dport 53 -j %s\n", addr(s), proto, chain)
			for n, server := range l.Servers {
				chance := ""
				if left := len(l.Servers) - n; left > 1 {
					chance = fmt.Sprintf("-m statistic --mode random --probability %.5f ", 1/float64(left))
				}
				fmt.Fprintf(&rules, "-A %s -p %s %s-j DNAT --to-destination %s\n", chain, proto, chance, target(server))
			}
		}
	}
	rules.WriteString("-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\nCOMMIT\n")
	l.Node.Feed(b.String()+rules.String(), program+"-restore", "--noflush")
}

func (l *Lab) nftServices() string {
	var b strings.Builder
	b.WriteString("table inet kube-proxy {\n chain services {\n")
	for _, s := range services {
		for _, proto := range []string{"udp", "tcp"} {
			fmt.Fprintf(&b, "  ip daddr %s %s dport 53 dnat ip to numgen random mod %d map { %s }\n", s.v4, proto, len(l.Servers),
				l.each(func(n int, s *Server) string { return fmt.Sprintf("%d : %s", n, s.Addr4) }))
			fmt.Fprintf(&b, "  ip6 daddr %s %s dport 53 dnat ip6 to numgen random mod %d map { %s }\n", s.v6, proto, len(l.Servers),
				l.each(func(n int, s *Server) string { return fmt.Sprintf("%d : %s", n, s.Addr6) }))
		}
	}
	b.WriteString(" }\n chain pre { type nat hook prerouting priority dstnat; jump services\n }\n")
	b.WriteString(" chain out { type nat hook output priority -100; jump services\n }\n}\n")
	return b.String()
}

func (l *Lab) each(f func(n int, s *Server) string) string {
	var all []string
	for n, s := range l.Servers {
		all = append(all, f(n, s))
	}
	return strings.Join(all, ", ")
}
