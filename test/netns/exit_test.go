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
		for range rounds(2, 30) {
			current.End()
			current = l.Agent(AgentOptions{}).Ready()
		}
	})
	if r.Lost > 0 || r.Refused > 0 || r.Failed > 0 || r.LostTCP > 0 {
		t.Errorf("a restart in place lost queries: %v, at %v", r, r.Gaps())
	}
}

// TestOpenConnection keeps a TCP connection to the agent through its planned exit: what is asked on it is answered.
func TestOpenConnection(t *testing.T) {
	t.Parallel()
	l := NewLab(t, 1)
	a := l.Agent(AgentOptions{}).Ready()
	c := l.Pods[0].dialTCP(t, ClusterDNS4)
	q := pack("svc-1.default.svc.cluster.local.", dns.Id())[0]
	if !exchange(c, q) {
		t.Fatal("no answer over TCP")
	}
	a.Signal(syscall.SIGTERM)
	for began := time.Now(); time.Since(began) < time.Second; time.Sleep(20 * time.Millisecond) {
		if !exchange(c, q) {
			t.Fatalf("the connection ended %v after SIGTERM, while it was in use", time.Since(began))
		}
	}
	c.Close()
	a.Wait(10 * time.Second)
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

// TestTeardown ends agents in each mode of rules.
func TestTeardown(t *testing.T) {
	t.Parallel()
	for _, rules := range []string{"nftables", "iptables"} {
		t.Run(rules, func(t *testing.T) {
			t.Parallel()
			l := NewLab(t, 1)
			a := l.Agent(AgentOptions{Args: []string{"-rules", rules}}).Ready()
			if state := l.state(); state["link"] == "" || state["address"] == "" || state["table"]+state["iptables"] == "" {
				t.Fatalf("the agent did not set the node up: %v", state)
			}
			a.End()
			l.wantClean(t)
			a = l.Agent(AgentOptions{Args: []string{"-rules", rules, "-skipteardown"}}).Ready()
			a.End()
			kept := l.state()
			if !strings.Contains(kept["address"], LinkLocal4) || kept["table"] != "" || strings.Contains(kept["iptables"], "--rcheck") {
				t.Errorf("-skipteardown keeps the addresses, and no rule that leads queries here: %v", kept)
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
