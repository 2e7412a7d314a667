package upstream

import (
	"math/rand/v2"
	"time"

	"github.com/godwit-dns/godwit/loop"
)

// member is a group's part on one loop. All of it belongs to that loop's goroutine.
type member struct {
	g      *Group
	loop   *loop.Loop
	rand   *rand.ChaCha8 // ports, IDs and order: an attacker must not guess them
	peers  []*peer       // by Server.index; nil until asked
	buf    []byte        // what a socket is read into
	frame  []byte        // what is sent
	free   []*exchange
	flying int // exchanges that have begun and not ended
	budget budget
	asking int         // Ask calls on the stack: ends wait for the mailbox
	late   []*exchange // ended inside Ask
	dirty  []outlet    // have gathered something in this turn
	spare  []outlet    // the other half of the pair
	// The arguments of system calls for many datagrams, and the slots that are received into.
	outgoing, incoming vector
	sweep              loop.Timer
	// closing ends the member when the last exchange has; closed refuses new ones.
	closing, closed bool
	done            chan struct{} // closed when the member is closed
}

// maxDatagram is the largest UDP payload.
const maxDatagram = 65535

func newMember(g *Group, l *loop.Loop) *member {
	m := &member{g: g, loop: l, rand: rand.NewChaCha8(seed()), buf: make([]byte, maxDatagram), done: make(chan struct{})}
	m.outgoing.init()
	m.incoming.init()
	l.OnFlush(m)
	return m
}

// outlet gathers questions during a turn, and sends them together at its end.
type outlet interface{ endTurn() }

// gathered asks for o's end of the turn.
func (m *member) gathered(o outlet) { m.dirty = append(m.dirty, o) }

// Flush sends the turn's questions.
func (m *member) Flush(*loop.Loop) {
	if len(m.dirty) == 0 {
		return
	}
	dirty := m.dirty
	m.dirty = m.spare
	for i, o := range dirty {
		o.endTurn()
		dirty[i] = nil
	}
	m.spare = dirty[:0]
	if len(m.dirty) > 0 { // one that failed was asked again: it leaves in another turn, at once
		m.loop.Post(m)
	}
}

// now is the loop's time.
func (m *member) now() time.Duration { return m.loop.Now() }

// below draws a number in [0, n).
func (m *member) below(n int) int { return int(m.rand.Uint64() % uint64(n)) } // n is small: the bias does not matter

// peer gives the loop's part of a server.
func (m *member) peer(s *Server) *peer {
	for len(m.peers) <= s.index {
		m.peers = append(m.peers, nil)
	}
	p := m.peers[s.index]
	if p == nil {
		p = &peer{m: m, s: s, usual: quantile{at: firstPatience}}
		if m.g.cfg.Service {
			p.usual.at = servicePatience
		}
		p.udp.p = p
		m.peers[s.index] = p
	}
	return p
}

// maxSpare bounds the exchanges kept for reuse.
const maxSpare = 1024

func (m *member) get() *exchange {
	m.flying++
	if n := len(m.free); n > 0 {
		e := m.free[n-1]
		m.free = m.free[:n-1]
		return e
	}
	return &exchange{m: m}
}

// put takes an exchange back that has ended or that never began.
func (m *member) put(e *exchange) {
	m.flying--
	e.reset()
	if len(m.free) < maxSpare {
		m.free = append(m.free, e)
	}
	if m.closing && m.flying == 0 {
		m.shut()
	}
}

// Do tells the ends that came about inside Ask. What else asks for a turn needs nothing but its end.
func (m *member) Do(*loop.Loop) {
	late := m.late
	m.late = nil
	for _, e := range late {
		e.deliver()
	}
}

// sweepEvery is how often sockets and connections that nobody uses are looked for.
const sweepEvery = time.Second

// keepSweeping starts the sweep when it does not run: something was opened.
func (m *member) keepSweeping() {
	if !m.sweep.Running() {
		m.loop.After(&m.sweep, sweepEvery, m)
	}
}

// Fire sweeps: sockets and connections past their time are closed.
func (m *member) Fire(*loop.Loop) {
	open := false
	for _, p := range m.peers {
		if p != nil && p.tidy() {
			open = true
		}
	}
	if open {
		m.keepSweeping()
	}
}

// close ends the member, now or when its last exchange has ended.
func (m *member) close(now bool) {
	m.closing = true
	if m.flying == 0 || now {
		m.shut()
	}
}

// shut closes everything. Exchanges that are left end with ErrClosed.
func (m *member) shut() {
	if m.closed {
		return
	}
	m.closed = true
	m.loop.Stop(&m.sweep)
	m.loop.RemoveFlush(m)
	for _, p := range m.peers {
		if p != nil {
			p.close()
		}
	}
	close(m.done)
}

// peer is a server as one loop sees it: its sockets, connections and measured times.
type peer struct {
	m       *member
	s       *Server
	udp     pool
	streams []*stream
	last    *stream       // the connection chosen last; nil when it is closed
	quick   int           // replies in a row that came over streams soon
	mixed   bool          // replies have come out of order: a connection may carry many questions
	usual   quantile      // the time within which most replies come
	heard   time.Duration // when the last one came, by any path
	dial    time.Duration // average time to connect; 0 before the first
	probe   loop.Timer    // the next health check
}

// current reports whether the server is still one of the group's.
func (p *peer) current() bool {
	for _, s := range p.m.g.Servers() {
		if s == p.s {
			return true
		}
	}
	return false
}

// tidy closes what is past its time and reports whether anything is still open.
func (p *peer) tidy() bool {
	gone := !p.current()
	open := p.udp.tidy(gone)
	for i := len(p.streams) - 1; i >= 0; i-- {
		if s := p.streams[i]; s.overdue() || gone && s.waiting() == 0 {
			s.shut()
		}
	}
	return open || len(p.streams) > 0
}

func (p *peer) close() {
	p.m.loop.Stop(&p.probe)
	p.s.checking.Store(false)
	p.udp.close()
	for len(p.streams) > 0 {
		p.streams[len(p.streams)-1].lost(ErrClosed)
	}
}
