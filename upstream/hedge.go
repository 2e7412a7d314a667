package upstream

import "time"

// Bounds of how long a server may be silent before it is asked again.
const (
	minPatience   = 20 * time.Millisecond
	maxPatience   = 2 * time.Second
	firstPatience = 400 * time.Millisecond // before anything was measured
)

// quantile follows the 95th percentile of what it is shown: one sample above it weighs as much as nineteen below.
type quantile struct{ at time.Duration }

func (q *quantile) add(d time.Duration) {
	if d > q.at {
		q.at += min(q.at*19/80, d-q.at)
	} else {
		q.at -= min(q.at/80, q.at-d)
	}
	q.at = min(max(q.at, minPatience), maxPatience)
}

// budget allows second questions for at most 5 % of the last 1,000.
type budget struct{ asked, again int }

const budgetWindow = 1000

func (b *budget) ask() {
	if b.asked++; b.asked >= 2*budgetWindow {
		b.asked, b.again = b.asked/2, b.again/2
	}
}

func (b *budget) take() bool {
	if b.again*20 >= max(b.asked, budgetWindow) {
		return false
	}
	b.again++
	return true
}

// hedges is how often a question may be asked again while its attempt goes on.
const hedges = 1

// hedge sends the question once more when the server has been silent for longer than usual: to another server where the
// policy leaves the choice to chance, else over another socket to the same one, in case a datagram was lost.
func (e *exchange) hedge() {
	first, service := e.longest(), e.m.g.cfg.Service
	if first == nil || e.m.closing {
		e.more = 0
		return
	}
	s := e.another(first.p.s)
	if s == nil {
		if !service && first.via != UDP && !first.stuck() {
			e.more = 0
			return // a stream loses nothing
		}
		s = first.p.s
	}
	e.patience = e.m.now() + max(hedgeAgain, first.p.usual.at)
	if free := service && e.silent(); !free && !e.m.budget.take() {
		if !service {
			e.more = 0
		}
		return
	}
	e.more--
	e.m.g.metrics.hedges.Inc(e.m.loop.Index())
	t := e.slot()
	if err := e.send(t, s, e.via); err == ErrTooMany {
		return // the others go on
	} else if err != nil {
		t.fail(err)
	} else if s == first.p.s && !service {
		t.expires = first.expires // both are one attempt at the server
	}
}

// longest gives the attempt that has been running for longest; nil when there is none.
func (e *exchange) longest() (first *try) {
	for i := range e.tries[:e.used] {
		if t := &e.tries[i]; t.live && (first == nil || t.begun < first.begun) {
			first = t
		}
	}
	return first
}

// stuck reports whether the attempt waits behind others on a connection whose peer may answer in order.
func (t *try) stuck() bool {
	if t.stream == nil || !t.stream.ready || t.p.mixed || t.stream.find(t.id) < 1 {
		return false
	}
	t.p.quick = 0
	return true
}

// another gives a server besides s that may be asked as well; nil when there is none.
func (e *exchange) another(s *Server) *Server {
	if e.m.g.cfg.Policy == Sequential {
		return nil
	}
	for i := range e.order {
		if o := e.list[e.order[(e.at+i)%len(e.order)]]; o != s && !o.Down(e.m.g.cfg.MaxFails) && !o.checking.Load() {
			return o
		}
	}
	return nil
}
