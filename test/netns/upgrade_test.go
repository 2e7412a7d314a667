package netns

import (
	"context"
	"syscall"
	"testing"
	"time"
)

// usual is the load that upgrades are done under: 1,000 queries a second from 20 pods, some of them over TCP.
func (l *Lab) usual() Load {
	return Load{Pods: l.Pods, Servers: []string{ClusterDNS4}, Rate: 900, TCPRate: 100}
}

// under runs f while the load goes on, and a little before and after.
func (l *Lab) under(load Load, f func()) *Report {
	l.T.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan *Report)
	go func() { done <- load.Run(ctx) }()
	time.Sleep(time.Second)
	f()
	time.Sleep(time.Second)
	stop()
	r := <-done
	l.T.Logf("%s: %v", l.T.Name(), r)
	return r
}

// wantNoLoss fails the test for any query that was not answered.
func wantNoLoss(t *testing.T, r *Report) {
	t.Helper()
	if r.Sent == 0 || r.Lost > 0 || r.LostTCP > 0 || r.Refused > 0 || r.Failed > 0 {
		t.Errorf("queries were lost: %v, at %v", r, r.Gaps())
	}
}

// TestHandover upgrades with an overlap, as maxSurge: 1 does.
func TestHandover(t *testing.T) {
	l := NewLab(t, 20)
	control := l.under(l.usual(), func() {}) // the servers alone, by DNAT
	wantNoLoss(t, control)
	current := l.Agent(AgentOptions{}).Ready()
	quiet := l.under(l.usual(), func() { time.Sleep(time.Duration(rounds(1, 10)) * time.Second) })
	wantNoLoss(t, quiet)
	var before []*Agent
	r := l.under(l.usual(), func() {
		for range rounds(10, 100) {
			next := l.Agent(AgentOptions{}).Ready()
			current.Signal(syscall.SIGTERM)
			if *long { // as in a cluster; otherwise the next comes while the one before still serves its connections
				current.Wait(15 * time.Second)
			}
			before = append(before, current)
			current = next
		}
		for _, a := range before {
			a.Wait(15 * time.Second)
		}
	})
	wantNoLoss(t, r)
	if over := r.Quantile(1) - quiet.Quantile(1); *long && over > 100*time.Millisecond {
		t.Errorf("the slowest answer took %v longer than the slowest without upgrades", over)
	}
}
