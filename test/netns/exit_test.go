package netns

import (
	"context"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestRestart upgrades in place: the old agent ends before the new one starts, as when the image of an unchanged manifest
// changes. The cluster servers answer in between.
func TestRestart(t *testing.T) {
	l := NewLab(t, 20)
	current := l.Agent(AgentOptions{}).Ready()
	r := l.under(l.usual(), func() {
		for range rounds(3, 30) {
			current.End()
			current = l.Agent(AgentOptions{}).Ready()
		}
	})
	if r.Lost > 0 || r.Refused > 0 || r.Failed > 0 || r.LostTCP > 0 {
		t.Errorf("a restart in place lost queries: %v, at %v", r, r.Losses)
	}
}

// TestOpenConnection keeps a TCP connection to the agent through its planned exit: what is asked on it is answered.
func TestOpenConnection(t *testing.T) {
	l := NewLab(t, 1)
	a := l.Agent(AgentOptions{}).Ready()
	c := l.Pods[0].dialTCP(t, ClusterDNS4)
	q := pack("svc-1.default.svc.cluster.local.", dns.Id())[0]
	if !exchange(c, q) {
		t.Fatal("no answer over TCP")
	}
	a.Signal(syscall.SIGTERM)
	answered := 0
	for began := time.Now(); time.Since(began) < time.Second && exchange(c, q); answered++ {
		time.Sleep(20 * time.Millisecond)
	}
	if answered < 40 {
		t.Errorf("%d queries were answered on the connection in the second after SIGTERM", answered)
	}
	c.Close()
	a.Wait(10 * time.Second)
}

// killed is what SIGKILL or SIGSTOP may take, by docs/node.md.
func (l *Lab) killed(load Load, a *Agent, sig syscall.Signal) *Report {
	return l.under(load, func() {
		a.Signal(sig)
		time.Sleep(3 * time.Second)
	})
}

// lastLoss is when the last query was lost, from the beginning of what was done on.
func lastLoss(r *Report) time.Duration {
	var last time.Duration
	for _, at := range r.Losses {
		last = max(last, at-time.Second) // the load goes on for a second before
	}
	return last
}

// TestSilence kills and stops the agent: the promises of docs/node.md, for the cluster DNS address and the link-local one.
func TestSilence(t *testing.T) {
	for _, test := range []struct {
		name, server string
		signal       syscall.Signal
		within       time.Duration
	}{
		{"death", ClusterDNS4, syscall.SIGKILL, 100 * time.Millisecond},
		{"hang", ClusterDNS4, syscall.SIGSTOP, 2 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := NewLab(t, 5)
			a := l.Agent(AgentOptions{}).Ready()
			r := l.killed(Load{Pods: l.Pods, Server: test.server, Rate: 500}, a, test.signal)
			if r.Sent-r.Lost < 1000 {
				t.Fatalf("hardly anything was answered: %v", r)
			}
			if last := lastLoss(r); last > test.within {
				t.Errorf("still lost %v after the signal, promised within %v: %v", last, test.within, r)
			}
			a.Signal(syscall.SIGKILL)
			a.Signal(syscall.SIGCONT)
			a.Wait(5 * time.Second)
			next := l.Agent(AgentOptions{}).Ready()
			after := l.under(Load{Pods: l.Pods, Server: test.server, Rate: 500}, func() {})
			wantNoLoss(t, after)
			next.End()
			l.wantClean(t)
		})
	}
}

// TestKillAndStart kills the agent at random moments and starts another, over and over.
func TestKillAndStart(t *testing.T) {
	l := NewLab(t, 20)
	current := l.Agent(AgentOptions{}).Ready()
	kills := rounds(5, 50)
	r := l.under(l.usual(), func() {
		for i := range kills {
			time.Sleep(time.Duration(i*37%200) * time.Millisecond)
			current.Signal(syscall.SIGKILL)
			current.Wait(5 * time.Second)
			current = l.Agent(AgentOptions{}).Ready()
		}
	})
	// At 1,000 queries a second a kill may cost what is asked in 100 ms, and what the socket held.
	if limit := kills * 100; r.Lost+r.LostTCP > limit {
		t.Errorf("%d kills cost %d and %d queries", kills, r.Lost, r.LostTCP)
	}
}

// hostState is what the node has of ours: interfaces, addresses, tables and rules.
func (l *Lab) hostState() string {
	var all []string
	for _, cmd := range []string{"ip -o addr | grep -E 'nodelocaldns|169.254.20.10|10.96.0.10|fd00:96' || true",
		"ip -o link | grep nodelocaldns || true", "nft list tables | grep godwit || true",
		"for p in iptables-nft ip6tables-nft iptables-legacy ip6tables-legacy; do for t in raw filter; do $p -t $t -S 2>/dev/null | grep -v '^-P' || true; done; done"} {
		if out := strings.TrimSpace(l.Node.Run("sh", "-c", cmd)); out != "" {
			all = append(all, out)
		}
	}
	return strings.Join(all, "\n")
}

func (l *Lab) wantClean(t *testing.T) {
	t.Helper()
	if left := l.hostState(); left != "" {
		t.Errorf("left on the node:\n%s", left)
	}
}

// TestTeardown ends agents in each mode of rules.
func TestTeardown(t *testing.T) {
	for _, rules := range []string{"nftables", "iptables"} {
		t.Run(rules, func(t *testing.T) {
			l := NewLab(t, 1)
			a := l.Agent(AgentOptions{Args: []string{"-rules", rules}}).Ready()
			if l.hostState() == "" {
				t.Fatal("the agent did nothing to the node")
			}
			a.End()
			l.wantClean(t)
			a = l.Agent(AgentOptions{Args: []string{"-rules", rules, "-skipteardown"}}).Ready()
			a.End()
			kept := l.hostState()
			if !strings.Contains(kept, LinkLocal4) {
				t.Errorf("with -skipteardown the addresses are gone: %s", kept)
			}
			a = l.Agent(AgentOptions{Args: []string{"-rules", rules}}).Ready()
			a.End()
			l.wantClean(t)
		})
	}
}

// dialTCP opens a connection from a pod.
func (p *Pod) dialTCP(t testing.TB, server string) net.Conn {
	t.Helper()
	c, err := p.dial(context.Background(), "tcp", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
