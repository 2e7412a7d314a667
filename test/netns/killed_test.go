package netns

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// blow is a signal to one side of a handover.
type blow struct {
	old    bool // to the old agent, else to its successor
	signal syscall.Signal
	wakes  bool // one that was stopped goes on later; otherwise it is killed, as kubelet's liveness probe does
}

var blows = []blow{
	{false, syscall.SIGKILL, false}, {true, syscall.SIGKILL, false},
	{false, syscall.SIGSTOP, false}, {true, syscall.SIGSTOP, false},
	{false, syscall.SIGSTOP, true}, {true, syscall.SIGSTOP, true},
}

func (b blow) String() string {
	side, what := "successor", "killed"
	if b.old {
		side = "predecessor"
	}
	if b.signal == syscall.SIGSTOP {
		what = "stopped"
	}
	if b.wakes {
		what += " and woken"
	}
	return side + " " + what
}

// moment is an instant from which on queries may be lost for a while.
type moment struct {
	at   time.Time
	cost time.Duration
}

// TestKilledInHandover kills and stops either side, at instants spread over the time of a handover. After it the node has
// an agent or none, DNS is answered within what docs/node.md promises, and the next agent starts.
func TestKilledInHandover(t *testing.T) {
	t.Parallel()
	for i, b := range blows {
		t.Run(b.String(), func(t *testing.T) {
			t.Parallel()
			h := &struck{t: t, l: NewLab(t, 4), blow: b}
			h.current = h.l.Agent(AgentOptions{}).Ready()
			h.measure()
			n := rounds(2, 40)
			r := h.l.under(Load{Pods: h.l.Pods, Servers: []string{ClusterDNS4}, Rate: 200}, func() {
				for k := range n {
					h.round(h.whole * time.Duration(6*k+i+1) / time.Duration(6*n))
				}
			})
			h.wantCovered(r)
			t.Logf("%d rounds over %v; in %d the successor owned the sockets afterwards", n, h.whole, h.took)
			h.end()
		})
	}
}

// struck is a series of handovers that are disturbed.
type struck struct {
	t       *testing.T
	l       *Lab
	blow    blow
	current *Agent
	whole   time.Duration // of an undisturbed handover
	moments []moment
	took    int // rounds after which the successor remained
}

// measure hands over undisturbed.
func (h *struck) measure() {
	began := time.Now()
	next := h.l.Agent(AgentOptions{}).Ready()
	h.whole = time.Since(began)
	h.current.End()
	h.current = next
}

// strike sends a signal and notes what it may cost.
func (h *struck) strike(a *Agent, s syscall.Signal, cost time.Duration) {
	h.moments = append(h.moments, moment{time.Now(), cost})
	a.Signal(s)
}

// round disturbs one handover at an instant of it.
func (h *struck) round(at time.Duration) {
	next := h.l.Agent(AgentOptions{})
	time.Sleep(at)
	victim, other := next, h.current
	if h.blow.old {
		victim, other = other, victim
	}
	if h.blow.signal == syscall.SIGKILL {
		h.strike(victim, syscall.SIGKILL, afterDeath)
	} else {
		h.strike(victim, syscall.SIGSTOP, afterHang)
		time.Sleep(afterHang)
		h.answered(at)
		if h.blow.wakes {
			h.strike(victim, syscall.SIGCONT, afterDeath)
			time.Sleep(afterDeath)
		} else {
			h.strike(victim, syscall.SIGKILL, afterDeath)
		}
	}
	h.answered(at)
	owners := 0
	for _, a := range []*Agent{next, h.current} { // while the new one has not decided the old one owns the sockets
		if a == victim && !h.blow.wakes {
			continue // it is dead
		}
		owns, ok := a.resolved()
		if owns {
			owners++
		}
		if !ok || owners > 1 {
			h.t.Fatalf("%v after %v of %v: not resolved, or %d owners:\nthe victim:\n%s\nthe other:\n%s", h.blow, at, h.whole, owners, victim.Output(), other.Output())
		}
	}
	if text, _ := next.Probe(); strings.Contains(text, "owns") {
		h.took++
	}
	third := h.l.Agent(AgentOptions{})
	if !third.within(15 * time.Second) {
		h.t.Fatalf("%v after %v of %v: the next agent does not start:\n%s\nthe victim:\n%s\nthe other:\n%s", h.blow, at, h.whole, third.Output(), victim.Output(), other.Output())
	}
	for _, a := range []*Agent{victim, other} { // who has been succeeded waits for this; who has not started must not stay
		h.strike(a, syscall.SIGTERM, afterDeath)
		a.Wait(20 * time.Second)
	}
	h.current = third
	if text, err := third.Probe(); err != nil {
		h.t.Fatalf("%v after %v: the last agent does not own the sockets: %s", h.blow, at, text)
	}
	h.oneTable(at)
}

// resolved waits until the agent owns the sockets, has left them to another, or has ended.
func (a *Agent) resolved() (owns, ok bool) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && !a.Ended(); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(a.Output(), "the successor owns the sockets") {
			return false, true
		}
		if _, err := a.Probe(); err == nil {
			return true, true
		}
	}
	return false, a.Ended()
}

// within reports whether the agent becomes ready.
func (a *Agent) within(limit time.Duration) bool {
	for end := time.Now().Add(limit); time.Now().Before(end) && !a.Ended(); time.Sleep(5 * time.Millisecond) {
		if _, err := a.Probe(); err == nil {
			return true
		}
	}
	return false
}

// answered asks from each pod.
func (h *struck) answered(at time.Duration) {
	time.Sleep(afterDeath)
	for _, p := range h.l.Pods {
		if r, _, err := p.Ask(ClusterDNS4, "svc-1.default.svc.cluster.local.", dns.TypeA, time.Second); err != nil || r.Rcode != dns.RcodeSuccess {
			h.t.Errorf("%v after %v of %v: not answered: %v", h.blow, at, h.whole, err)
		}
	}
}

// oneTable looks for tables that no agent should have any more.
func (h *struck) oneTable(at time.Duration) {
	if tables := strings.Count(h.l.state()["table"], "godwit_"); tables != 1 {
		h.t.Errorf("%v after %v: %d tables for one agent: %v", h.blow, at, tables, h.l.state())
	}
}

// wantCovered holds each loss to a signal before it.
func (h *struck) wantCovered(r *Report) {
	if r.Sent == 0 || r.Failed > 0 {
		h.t.Errorf("failed: %v", r)
	}
	for _, loss := range r.Losses {
		covered := false
		for _, m := range h.moments {
			covered = covered || loss.After(m.at.Add(-patience)) && loss.Before(m.at.Add(m.cost))
		}
		if !covered {
			h.t.Errorf("lost at %v, when no signal explains it", loss.Sub(r.Began))
		}
	}
}

// end ends the last agent, and finds nothing.
func (h *struck) end() {
	h.current.End()
	h.l.wantClean(h.t)
	if _, _, err := h.l.Pods[0].Ask(ClusterDNS4, "svc-1.default.svc.cluster.local.", dns.TypeA, time.Second); err != nil {
		h.t.Error(err)
	}
}
