package netns

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// repaired is how soon pods are answered again when others have changed something of the agent's.
const repaired = time.Second

// nodeCacheRules are those that node-cache sets for an address and its health port, as arguments of iptables.
var nodeCacheRules = func() (rules []string) {
	for _, proto := range []string{"tcp", "udp"} {
		for _, rule := range []string{
			"-t raw -I PREROUTING -p %s -d ADDRESS --dport 53 -j NOTRACK SKIP", "-t filter -I INPUT -p %s -d ADDRESS --dport 53 -j ACCEPT ALLOW",
			"-t raw -I OUTPUT -p %s -s ADDRESS --sport 53 -j NOTRACK SKIP", "-t filter -I OUTPUT -p %s -s ADDRESS --sport 53 -j ACCEPT ALLOW",
			"-t raw -I OUTPUT -p %s -d ADDRESS --dport 53 -j NOTRACK SKIP",
		} {
			rules = append(rules, fmt.Sprintf(rule, proto))
		}
	}
	return append(rules, "-t raw -I OUTPUT -p tcp -d ADDRESS --dport 8080 -j NOTRACK SKIP", "-t raw -I OUTPUT -p tcp -s ADDRESS --sport 8080 -j NOTRACK SKIP")
}()

// nodeCacheDied leaves on the node what node-cache does: twelve rules for each address, and the interface with the addresses
// for good. Its interface is a dummy, of which this kernel has none.
func (l *Lab) nodeCacheDied(backend string, addresses ...string) {
	l.T.Helper()
	fill := strings.NewReplacer("SKIP", "-m comment --comment 'NodeLocal DNS Cache: skip conntrack'", "ALLOW", "-m comment --comment 'NodeLocal DNS Cache: allow DNS traffic'")
	l.Node.Run("ip", "link", "add", "nodelocaldns", "type", "bridge")
	l.Node.Run("ip", "link", "set", "nodelocaldns", "up", "alias", "godwit") // else a bridge is somebody else's
	for _, a := range addresses {
		for _, rule := range nodeCacheRules {
			l.Node.Run("sh", "-c", "iptables-"+backend+" "+strings.ReplaceAll(fill.Replace(rule), "ADDRESS", a))
		}
		l.Node.Run("ip", "addr", "add", a+"/32", "dev", "nodelocaldns")
	}
}

// count is how many lines the node has of a kind of traces.
func (l *Lab) count(kind, with string) (n int) {
	for line := range strings.Lines(l.state()[kind]) {
		if strings.Contains(line, with) {
			n++
		}
	}
	return n
}

// TestNodeCacheDied starts agents where node-cache has died, and where another agent has: nothing is there twice.
func TestNodeCacheDied(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]mode{"nftables": byNetlink, "iptables-nft": byNft, "iptables-legacy": byLegacy} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := NewLab(t, 2)
			l.KubeProxy(map[string]string{"nft": "iptables", "legacy": "iptables-legacy"}[m.programs])
			l.nodeCacheDied(m.programs, LinkLocal4, ClusterDNS4, "169.254.99.9")
			if rules, addresses := l.count("iptables", "NodeLocal"), l.count("address", "inet "); rules != 36 || addresses != 3 {
				t.Fatalf("node-cache has left %d rules and %d addresses", rules, addresses)
			}
			if _, _, err := l.Pods[0].Ask(ClusterDNS4, "svc-1.default.svc.cluster.local.", dns.TypeA, 500*time.Millisecond); err == nil {
				t.Fatal("there is an answer where the dead node-cache's rules lead queries")
			}
			o := AgentOptions{Args: []string{"-rules", m.rules}, Env: []string{"PATH=" + l.programs(m.programs)}}
			a := l.Agent(o).Ready()
			first := l.count("iptables", "Godwit")
			if rules, addresses := l.count("iptables", "NodeLocal"), l.count("address", "inet "); rules != 0 || addresses != 2 || l.count("address", "169.254.99.9") != 0 {
				t.Errorf("%d rules of node-cache are left, and there are %d addresses: %v", rules, addresses, l.state())
			}
			wantNoLoss(t, l.under(Load{Pods: l.Pods, Servers: []string{ClusterDNS4, LinkLocal4}, Rate: 100, TCPRate: 20}, func() {}))
			a.Signal(syscall.SIGKILL)
			a.Wait(5 * time.Second)
			a = l.Agent(o).Ready()
			if again := l.count("iptables", "Godwit"); again != first || l.count("address", "inet ") != 2 || l.count("link", "") != 1 {
				t.Errorf("%d rules became %d after a death: %v", first, again, l.state())
			}
			a.End()
			l.wantClean(t)
		})
	}
}

// repairs is the agent's count of what others have done and it has undone.
func (a *Agent) repairs(what string) (n int) {
	for line := range strings.Lines(a.Metrics(9353)) {
		if value, ok := strings.CutPrefix(line, fmt.Sprintf("godwit_node_repairs_total{what=%q} ", what)); ok {
			if _, err := fmt.Sscan(value, &n); err != nil {
				a.l.T.Fatal(err)
			}
		}
	}
	return n
}

// TestInterference has others change what the agent has set up, under load: it is undone and counted, and pods are answered
// by the agent again.
func TestInterference(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		mode   mode
		damage [][2]string // what is repaired, and by what command
	}{
		{byNetlink, [][2]string{
			{"link", "ip link set nodelocaldns down"}, {"link", "ip link del nodelocaldns"},
			{"address", "ip addr del " + ClusterDNS4 + "/32 dev nodelocaldns"}, {"address", "ip addr flush dev nodelocaldns"},
			{"fallback", "nft delete table inet godwit_fallback"},
		}},
		{byNft, [][2]string{
			{"rules", "iptables-nft -t raw -F"}, {"rules", "iptables-nft -t raw -D PREROUTING 1"},
			{"fallback", "nft delete table inet godwit_fallback"}, {"link", "ip link del nodelocaldns"},
		}},
	} {
		t.Run(test.mode.rules, func(t *testing.T) {
			t.Parallel()
			l := NewLab(t, 4)
			a := l.Agent(AgentOptions{Args: []string{"-rules", test.mode.rules}, Env: []string{"PATH=" + l.programs(test.mode.programs)}}).Ready()
			for _, d := range test.damage {
				before := a.repairs(d[0])
				var at time.Time
				r := l.under(Load{Pods: l.Pods, Servers: []string{ClusterDNS4, LinkLocal4}, Rate: 200}, func() {
					at = time.Now()
					l.Node.Run("sh", "-c", d[1])
					for a.repairs(d[0]) == before && time.Since(at) < 5*time.Second {
						time.Sleep(5 * time.Millisecond)
					}
					t.Logf("%s: undone and counted within %v", d[1], time.Since(at).Round(time.Millisecond))
					time.Sleep(repaired + slack()) // and it goes on for a second
				})
				if a.repairs(d[0]) == before {
					t.Fatalf("%s: not repaired: %v", d[1], l.state())
				}
				if last := r.LastLoss(at); last > repaired+slack() || r.Sent-r.Lost < r.Sent/3 {
					t.Errorf("%s: lost for %v: %v, at %v", d[1], last, r, r.Gaps())
				}
				if !l.takes() {
					t.Errorf("%s: the agent does not get the queries any more", d[1])
				}
			}
			a.End()
			l.wantClean(t)
		})
	}
}

// takes waits until queries from the pods are the agent's: the servers hear none over UDP.
func (l *Lab) takes() bool {
	l.T.Helper()
	for began := time.Now(); time.Since(began) < 5*time.Second; time.Sleep(100 * time.Millisecond) {
		before, answered := l.askedUDP(), 0
		for _, p := range l.Pods {
			if _, _, err := p.Ask(ClusterDNS4, "svc-1.default.svc.cluster.local.", dns.TypeA, time.Second); err == nil {
				answered++
			}
		}
		if answered == len(l.Pods) && l.askedUDP() == before {
			return true
		}
	}
	return false
}
