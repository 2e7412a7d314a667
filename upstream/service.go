package upstream

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The address of a Service stands for several servers: whoever routes it (kube-proxy) chooses one for each connection, and
// for each UDP socket, and keeps to it also when that server has gone. So a connection or socket, a path, is what may
// fail here:
//
//  1. A few connections are kept, and each turn draws two of them and takes the one with less to do (peer.pick).
//  2. A path that has been silent since a question left by it, for longer than replies usually take, is suspect. The first
//     question that finds it so asks again by another path at once, and no new one goes there (exchange.silent).
//  3. What comes over a suspect path clears it. When nothing does it is closed, and the next one reaches another server by
//     chance (path.dead).
//  4. Questions that are asked again go where something was heard last.
const (
	// serviceHedges is how often a question may be asked again while its attempts go on: two servers of three may be gone.
	serviceHedges = 3
	// hedgeAgain is the least time between two of them: a name that takes long must not be taken for many dead servers.
	hedgeAgain = 200 * time.Millisecond
	// silentFor is how long a suspect path has to be silent, while others are heard, until no question on it needs a share
	// of the budget; deadAfter until it is closed when nobody waits any more.
	silentFor   = 300 * time.Millisecond
	deadAfter   = time.Second
	heardLately = time.Second // an address is
	// servicePatience is for the first question, when nothing was measured: servers are near.
	servicePatience = 100 * time.Millisecond
	// serviceAttempts is how many attempts may fail: each reaches a server by chance. With one of two gone and no connection
	// up, six would fail for one question of 64, twelve do for one of 4,096.
	serviceAttempts = 12
	// Bounds of the time to connect. The kernel would send a second SYN after one second, to the same server.
	minServiceDial   = 250 * time.Millisecond
	firstServiceDial = 500 * time.Millisecond
	maxServiceDial   = time.Second
	// spreadStreams is how many connections of all loops together the questions to a Service are spread over, and
	// loopStreams how many of one loop at least.
	spreadStreams = 6
	loopStreams   = 3
	// serviceStreams is how many there may be of one loop: those that are silent take up room.
	serviceStreams = 64
)

// path is what is known of a connection or a socket by which one of a Service's servers is reached.
type path struct {
	heard   time.Duration // when a reply came over it last; 0 before the first
	suspect bool
	since   time.Duration // when it became suspect
}

// hears takes note of a reply, and reports whether the path was suspect for nothing.
func (p *path) hears(now time.Duration) (wrongly bool) {
	wrongly = p.suspect
	p.heard, p.suspect = now, false
	return wrongly
}

// heardBy takes note that a reply came by w.
func (p *peer) heardBy(w *path) {
	p.heard = p.m.now()
	if w.hears(p.heard) { // it was only slow: so are others, perhaps
		p.usual.at = min(2*p.usual.at, maxPatience)
	}
}

// dead reports whether the path has been suspect for so long that it is to be closed.
func (p *path) dead(now time.Duration) bool { return p.suspect && now-p.since >= deadAfter }

// path is the way that the attempt went; nil for one that is on no socket.
func (t *try) path() *path {
	switch {
	case t.socket != nil:
		return &t.socket.path
	case t.stream != nil:
		return &t.stream.path
	}
	return nil
}

// uses reports whether an attempt of e is on its way by p.
func (e *exchange) uses(p *path) bool {
	for i := range e.tries[:e.used] {
		if t := &e.tries[i]; t.live && t.path() == p {
			return true
		}
	}
	return false
}

// insists reports whether e has been asked before: the next attempt goes where a reply is most likely.
func (e *exchange) insists() bool { return e.more < serviceHedges || e.fails > 0 }

// silent finds the paths suspect that have been silent since an attempt of e left by them. It reports whether e may be
// asked again because of that, as long as the address itself is heard: when e is the first to find out, or when a path
// stays silent. That is no storm: there are few paths, and where nobody answers the budget counts.
func (e *exchange) silent() (free bool) {
	now := e.m.now()
	for i := range e.tries[:e.used] {
		t := &e.tries[i]
		p := t.path()
		if !t.live || p == nil || p.heard > t.sent { // others were answered: the name takes long, or a datagram was lost
			continue
		}
		t.stuck()
		if !p.suspect {
			p.suspect, p.since = true, now
			free = free || now-t.p.heard < heardLately
			continue
		}
		free = free || now-p.since >= silentFor && t.p.heard > p.since
	}
	return free
}

// spread is how many connections of this loop a Service's questions are spread over.
func (m *member) spread() int {
	n := max(loopStreams, spreadStreams/max(m.g.cfg.Loops, 1))
	if keep := m.g.cfg.MaxIdle; keep > 0 {
		n = min(n, keep)
	}
	return n
}

// pick finds the connection of a question to a Service: in each turn the one with less to do of two that are drawn; for a
// question that was asked before the one that was heard last. Where few are up another is opened ahead, so that no question
// waits for it.
func (p *peer) pick(t *try, limit int) (*stream, error) {
	m := p.m
	if s := p.last; s != nil && s.takes(limit) && !s.suspect && !t.e.uses(&s.path) {
		m.g.metrics.reused(p.s, m.loop.Index(), TCP, true)
		return s, nil
	}
	best, coming, up := p.drawStream(t, limit)
	room := len(p.streams) < serviceStreams
	if best != nil {
		if up < m.spread() && coming == nil && room {
			_, _ = p.connect() // the question does not need it: the next one tries again
		}
		if p.s.TLS == nil { // what leaves in the same turn leaves together
			p.last = best
		}
		m.g.metrics.reused(p.s, m.loop.Index(), TCP, true)
		return best, nil
	}
	if coming != nil && coming.waiting() == 0 {
		m.g.metrics.reused(p.s, m.loop.Index(), TCP, true)
		return coming, nil
	}
	switch {
	case room || p.giveUpDead():
	case t.e.used > 1: // another attempt would only wait
		return nil, ErrTooMany
	default:
		return p.search(false, maxPipelined)
	}
	m.g.metrics.reused(p.s, m.loop.Index(), TCP, false)
	return p.connect()
}

// giveUpDead closes the connection that has been silent for longest and that is to be closed anyway, and reports whether
// there is room now. Its questions are asked elsewhere.
func (p *peer) giveUpDead() bool {
	var dead *stream
	for _, s := range p.streams {
		if s.dead(p.m.now()) && (dead == nil || s.since < dead.since) {
			dead = s
		}
	}
	if dead != nil {
		dead.lost(ioError("read", unix.SOCK_STREAM, dead.local, p.s.Addr, os.ErrDeadlineExceeded))
	}
	return len(p.streams) < serviceStreams
}

// drawStream gives the connection that pick describes, one that is coming up and has not taken long for it, and how many
// are up.
func (p *peer) drawStream(t *try, limit int) (best, coming *stream, up int) {
	n, now, insists := len(p.streams), p.m.now(), t.moved || t.e.insists()
	at, drawn := p.m.below(max(n, 1)), 0
	for i := range n {
		s := p.streams[(at+i)%n]
		if s.suspect || s.retired || t.e.uses(&s.path) {
			continue
		}
		if !s.ready {
			if now-s.born < minServiceDial {
				coming = s
			}
			continue
		}
		if s.takes(maxPipelined) {
			up++
		}
		if !s.takes(limit) || !insists && drawn == 2 {
			continue
		}
		drawn++
		if best == nil || insists && s.heard > best.heard || !insists && len(s.ids) < len(best.ids) {
			best = s
		}
	}
	return best, coming, up
}

// sound gives the place of a socket by which a question to a Service may leave, from i on: one that is not suspect, or one
// that is empty; for a question that was asked before, one that was heard if there is any.
func (u *pool) sound(i int, e *exchange) int {
	n, other := len(u.sockets), -1
	for k := range n {
		at := (i + k) % n
		s := u.sockets[at]
		if s != nil && (s.suspect || e.uses(&s.path)) {
			continue
		}
		if !e.insists() || s != nil && s.heard > 0 {
			return at
		}
		if other < 0 {
			other = at
		}
	}
	if other < 0 {
		return i
	}
	return other
}
