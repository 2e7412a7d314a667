package server

import (
	"math"
	"slices"
	"time"

	"github.com/godwit-dns/godwit/loop"
)

const (
	// thinAfter is how many stages running a client has to be above its share, with no more than thinGap between two.
	thinAfter = 8
	thinGap   = 100 * time.Millisecond
	// leastPass is the least part that is let through, of 2^32: one datagram in 1,024.
	leastPass = 1 << 22
	// tryAfter is how long after it was above its share a client is let through to see what it asks now; twice as long after
	// each try in which it was, at most tryAtMost. A try lasts as long.
	tryAfter  = time.Second
	tryAtMost = 16 * time.Second
	// maxThinned is how many clients a socket's filter thins out, and maxBlamed how many are watched: those of two stages.
	maxThinned = 16
	maxBlamed  = 2 * stageSize / leastShare
)

// blamed is a client that was above its share.
type blamed struct {
	client       client
	at           uint64        // the last stage in which it was
	last         time.Duration // when that was
	running      int           // stages
	asked, share int           // sums over them
	came, lost   int           // the same for all clients: datagrams, and those for which the queue had no room
}

// thinned is a client in the filter, or out of it for a try.
type thinned struct {
	client client
	pass   uint32        // its datagram passes when a random number of 32 bits is below
	try    bool          // all pass
	at     time.Duration // when it was above its share last, or the try began
	wait   time.Duration // from there to the next step
}

// thinner is a socket's filter: classic BPF, which needs no privilege, before the kernel's queue.
type thinner struct {
	s       *udpSocket // nil before the first blame
	stages  uint64
	dropped uint32 // by the kernel, when there was a stage last
	blamed  []blamed
	clients []thinned
	timer   loop.Timer
}

// blame takes note of the clients of a stage that are well above their share, or alone, and reports whether there are any. What
// the kernel has dropped until now is dropped.
func (t *thinner) blame(s *udpSocket, g *stage, share int, dropped uint32) (some bool) {
	t.s = s
	t.stages++
	lost := int(dropped - t.dropped)
	t.dropped = dropped
	limit := share + share/2
	if g.clients == 1 {
		share = share * 3 / 4 // not less: it may be the only client there is
		limit = share
	}
	for i := range g.seats {
		if c := &g.seats[i]; c.at == g.at && c.n > limit {
			t.above(c, share, lost, s.w.Loop.Now())
			some = true
		}
	}
	return some
}

// above takes note of one. When it has been so for long enough it is thinned out, or more than it was: behind a filter nobody
// knows how much it asks. In a try once is enough.
func (t *thinner) above(c *seat, share, lost int, now time.Duration) {
	i := slices.IndexFunc(t.clients, func(k thinned) bool { return k.client == c.client })
	if i >= 0 {
		k := &t.clients[i]
		k.at = now
		if k.try {
			k.try, k.wait = false, min(2*k.wait, tryAtMost)
			t.attach()
			return
		}
	}
	b := t.note(c.client, now)
	if b == nil {
		return
	}
	if b.at, b.last = t.stages, now; b.running > 0 { // what was lost before the first is of another time
		b.came, b.lost = b.came+stageSize, b.lost+lost
	}
	b.running++
	b.asked, b.share = b.asked+c.n, b.share+share
	if b.running < thinAfter {
		return
	}
	part := float64(b.share) / float64(b.asked)
	if !t.filters() { // else what the filter drops would count again
		part *= float64(b.came) / float64(b.came+b.lost)
	}
	*b = blamed{client: b.client, at: b.at, last: b.last}
	if i < 0 {
		if len(t.clients) == maxThinned {
			return
		}
		i = len(t.clients)
		t.clients = append(t.clients, thinned{client: c.client, pass: math.MaxUint32, at: now, wait: tryAfter})
		t.s.w.thinned.Inc(t.s.w.Loop.Index())
	}
	t.clients[i].pass = max(leastPass, uint32(part*float64(t.clients[i].pass)))
	t.attach()
}

// filters reports whether there is a filter.
func (t *thinner) filters() bool {
	return slices.ContainsFunc(t.clients, func(c thinned) bool { return !c.try })
}

// note gives what is known of a client, nothing when it was not above its share in the stage before. Without room it is nil.
func (t *thinner) note(c client, now time.Duration) *blamed {
	old := func(b *blamed) bool { return b.at+1 < t.stages || now-b.last > thinGap }
	free := -1
	for i := range t.blamed {
		b := &t.blamed[i]
		if b.client == c {
			if old(b) {
				*b = blamed{client: c}
			}
			return b
		}
		if old(b) {
			free = i
		}
	}
	if free < 0 {
		if len(t.blamed) == maxBlamed {
			return nil
		}
		free = len(t.blamed)
		t.blamed = append(t.blamed, blamed{})
	}
	t.blamed[free] = blamed{client: c}
	return &t.blamed[free]
}

// attach makes the socket's filter that of the list.
func (t *thinner) attach() {
	s := t.s
	if setFilter(s.fd, t.clients) != nil { // the stage alone has to do
		t.clients = nil
		_ = setFilter(s.fd, nil)
	}
	if len(t.clients) > 0 && !t.timer.Running() {
		s.w.Loop.After(&t.timer, tryAfter, t)
	}
}

// clear takes the filter away: other processes may have the socket, and would not know of it.
func (t *thinner) clear() {
	if t.s == nil {
		return
	}
	t.s.w.Loop.Stop(&t.timer)
	if len(t.clients) > 0 {
		t.clients = nil
		t.attach()
	}
}

// Fire lets all through of those that have not been above their share for a while, and forgets those that stay so. How much
// one asks now only trying tells.
func (t *thinner) Fire(l *loop.Loop) {
	t.clients = slices.DeleteFunc(t.clients, func(c thinned) bool { return c.try && l.Now()-c.at >= tryAfter })
	for i := range t.clients {
		if c := &t.clients[i]; !c.try && l.Now()-c.at >= c.wait {
			c.try, c.at = true, l.Now()
		}
	}
	t.attach()
}
