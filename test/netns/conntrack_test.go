package netns

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tracked lists the node's connections from pods to port 53.
func (l *Lab) tracked() (list []string) {
	for _, family := range []string{"ipv4", "ipv6"} {
		for line := range strings.Lines(l.Node.Run("conntrack", "-L", "-f", family)) {
			if fromPod.MatchString(line) {
				list = append(list, strings.TrimSpace(line))
			}
		}
	}
	return list
}

// fromPod is a connection from a pod to port 53, or, the other way round, from port 53 to a pod.
var fromPod = regexp.MustCompile(`src=(10\.244\.1\.|fd00:244:1::)[0-9a-f]+ dst=\S+ sport=\d+ dport=53 |src=\S+ dst=(10\.244\.1\.|fd00:244:1::)[0-9a-f]+ sport=53 `)

// TestConntrack asks over UDP and TCP from pods with each family: with the agent the kernel keeps no record of it, without
// it does.
func TestConntrack(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]mode{"nftables": byNetlink, "iptables-nft": byNft, "iptables-legacy": byLegacy} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := NewLab(t, 4)
			l.KubeProxy(map[string]string{"nft": "iptables", "legacy": "iptables-legacy"}[m.programs])
			load := Load{Pods: l.Pods, Servers: []string{ClusterDNS4, ClusterDNS6}, Rate: 200, TCPRate: 40}
			wantNoLoss(t, l.under(load, func() {}))
			if n := len(l.tracked()); n < 100 {
				t.Fatalf("%d connections are tracked without an agent: this would show nothing", n)
			}
			l.Agent(l.both(m)).Ready()
			time.Sleep(time.Second) // connections of before close
			l.Node.Run("conntrack", "-F")
			load.Servers = []string{ClusterDNS4, ClusterDNS6, LinkLocal4, LinkLocal6}
			wantNoLoss(t, l.under(load, func() {}))
			if list := l.tracked(); len(list) > 0 {
				t.Errorf("%d connections from pods to the agent are tracked, such as %s", len(list), list[0])
			}
		})
	}
}

// TestRace counts what the kernel says of the race of document 001: A and AAAA from one socket at the same time, through
// DNAT. With the agent there is nothing to race for.
func TestRace(t *testing.T) {
	t.Parallel()
	for name, servers := range map[string]int{"two servers": 2, "one server": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := NewLab(t, 5)
			for _, s := range l.Servers[servers:] {
				s.Set(t, Gone)
			}
			l.Servers = l.Servers[:servers]
			l.KubeProxy("iptables")
			load := Load{Pods: l.Pods, Servers: []string{ClusterDNS4}, Rate: rounds(1000, 4000), Race: true}
			without := l.raced(t, load)
			l.Agent(AgentOptions{}).Ready()
			with := l.raced(t, load)
			t.Logf("without the agent: %v; with it: %v", without, with)
			for what, n := range with {
				if n > without[what] {
					t.Errorf("%s: %d with the agent, %d without", what, n, without[what])
				}
			}
		})
	}
}

// raced runs the load and gives by how much the kernel's counters have grown.
func (l *Lab) raced(t *testing.T, load Load) map[string]int {
	t.Helper()
	before := l.conntrackCounters()
	r := l.under(load, func() { time.Sleep(time.Duration(rounds(1, 10)) * time.Second) })
	if r.Sent < 1000 {
		t.Fatalf("hardly anything was asked: %v", r)
	}
	after := l.conntrackCounters()
	for what := range after {
		after[what] -= before[what]
	}
	after["lost"] = r.Lost
	return after
}

// conntrackCounters adds up over the processors.
func (l *Lab) conntrackCounters() map[string]int {
	sum := map[string]int{"insert_failed": 0, "clash_resolve": 0, "drop": 0}
	for _, word := range strings.Fields(l.Node.Run("conntrack", "-S")) {
		if name, value, ok := strings.Cut(word, "="); ok {
			if _, wanted := sum[name]; wanted {
				n, err := strconv.Atoi(value)
				if err != nil {
					l.T.Fatal(err)
				}
				sum[name] += n
			}
		}
	}
	return sum
}
