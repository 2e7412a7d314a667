package upstream

import (
	"errors"
	"io"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of a server's connections on one loop.
const (
	maxStreams   = 32
	maxPipelined = 64              // questions in flight on a connection whose peer answers out of order
	maxQueued    = 16              // the same where the peer was quick with the last quickRun questions
	quickRun     = 100             // replies in a row
	quick        = minPatience     // the longest time of each
	defaultAge   = 5 * time.Minute // a connection's life, so that new replicas of a server get their share
	minDial      = time.Second
	maxDial      = 5 * time.Second
)

// stream is one connection to a server, over TCP or TLS, with the questions in flight on it in the order in which they
// were sent. Once replies came out of order many questions share a connection (RFC 7766, 6.2.1.1). Servers that answer
// one question at a time would make those behind a slow one wait: they get one at a time, unless there are no more
// connections to be had. But while such a server is quick with everything nobody waits for long, and a few may share: a
// system call and a packet carry many. The first slow reply ends that, and who is stuck behind it asks again over another
// connection (hedge.go).
type stream struct {
	path
	p       *peer
	carrier carrier
	ready   bool // connected
	closed  bool
	retired bool // takes no new questions
	local   netip.AddrPort
	born    time.Duration
	age     time.Duration // its life, with jitter
	used    time.Duration
	served  int // replies that came over it
	ids     []uint16
	who     []*try // nil for a question that ended without its reply
}

// carrier moves a stream's bytes. Its events arrive on the loop: stream.opened, received, lost.
type carrier interface {
	// write sends one frame, now or when it can. The bytes may be reused afterwards.
	write(frame []byte)
	// close ends the connection. No event arrives afterwards.
	close()
}

// sendStream sends t's question over a connection: the least loaded one that may take it, or with fresh a new one. To a
// Service it goes as pick says.
func (p *peer) sendStream(t *try, fresh bool) error {
	s, err := p.choose(t, fresh)
	if err != nil {
		return err
	}
	m := p.m
	id := uint16(m.rand.Uint64())
	for s.find(id) >= 0 {
		id = uint16(m.rand.Uint64())
	}
	t.id, t.stream = id, s
	s.ids, s.who = append(s.ids, id), append(s.who, t)
	if !s.ready {
		t.expires = min(m.now()+p.patienceToDial(), t.e.deadline)
	}
	q := t.e.query
	q[0], q[1] = byte(id>>8), byte(id)
	m.frame = append(append(m.frame[:0], byte(len(q)>>8), byte(len(q))), q...)
	s.carrier.write(m.frame)
	return nil
}

// choose finds a connection: the last one as long as it takes more.
func (p *peer) choose(t *try, fresh bool) (*stream, error) {
	m := p.m
	limit := 1
	switch {
	case p.mixed:
		limit = maxPipelined
	case p.quick >= quickRun:
		limit = maxQueued
	}
	if m.g.cfg.Service {
		return p.pick(t, limit)
	}
	if s := p.last; s != nil && !fresh && s.takes(limit) {
		m.g.metrics.reused(p.s, m.loop.Index(), TCP, true)
		return s, nil // what goes over one connection leaves together
	}
	s, err := p.search(fresh, limit)
	p.last = s
	return s, err
}

// takes reports whether a question more may go over a connection that is up.
func (s *stream) takes(limit int) bool {
	now := s.p.m.now()
	return s.ready && !s.retired && len(s.ids) < limit && now-s.born <= s.age && (len(s.ids) > 0 || now-s.used <= s.p.m.g.cfg.Expire)
}

// search finds the least loaded connection, or opens one.
func (p *peer) search(fresh bool, limit int) (*stream, error) {
	m := p.m
	var best *stream
	for i := len(p.streams) - 1; i >= 0; i-- {
		s := p.streams[i]
		if s.overdue() {
			s.shut()
			continue
		}
		s.retired = s.retired || m.now()-s.born > s.age   // one that is never idle has to end, too
		stuck := !s.ready && m.now()-s.born > p.maxDial() // the kernel would send its next SYN in many seconds
		if !s.retired && !stuck && len(s.ids) < maxPipelined && (best == nil || s.load() < best.load()) {
			best = s
		}
	}
	room := len(p.streams) < p.maxStreams()
	if best != nil && !(fresh && room) && (best.load() < limit || !room) {
		m.g.metrics.reused(p.s, m.loop.Index(), TCP, true)
		return best, nil
	}
	if !room {
		return nil, ErrTooMany
	}
	m.g.metrics.reused(p.s, m.loop.Index(), TCP, false)
	return p.connect()
}

// connect begins a connection.
func (p *peer) connect() (*stream, error) {
	m := p.m
	s := &stream{p: p, born: m.now(), used: m.now(), age: m.g.cfg.MaxAge}
	if s.age <= 0 {
		s.age = defaultAge
	}
	s.age -= s.age / 4 * time.Duration(m.below(1000)) / 1000 // replicas don't all lose their connections at once
	if p.s.TLS != nil {
		s.carrier = newTLS(s)
	} else {
		c, err := newTCP(s)
		if err != nil {
			return nil, err
		}
		s.carrier = c
	}
	p.streams = append(p.streams, s)
	m.keepSweeping()
	return s, nil
}

// patienceToDial is twice the average time to connect, within bounds.
func (p *peer) patienceToDial() time.Duration {
	switch {
	case p.m.g.cfg.Service && p.dial == 0:
		return firstServiceDial
	case p.m.g.cfg.Service:
		return min(max(4*p.dial, minServiceDial), maxServiceDial)
	case p.dial == 0:
		return 2 * minDial
	}
	return min(max(2*p.dial, minDial), maxDial)
}

// maxStreams is how many connections there may be.
func (p *peer) maxStreams() int {
	if p.m.g.cfg.Service {
		return serviceStreams
	}
	return maxStreams
}

// maxDial is how long a connection may take to come up before it is given up.
func (p *peer) maxDial() time.Duration {
	if p.m.g.cfg.Service {
		return maxServiceDial
	}
	return maxDial
}

// waiting counts the questions that somebody still waits for.
func (s *stream) waiting() int {
	n := 0
	for _, t := range s.who {
		if t != nil {
			n++
		}
	}
	return n
}

// load is what a new question would wait for. A connection that is not up yet has nothing to do for questions that have
// ended meanwhile.
func (s *stream) load() int {
	if !s.ready {
		return s.waiting()
	}
	return len(s.ids)
}

// overdue reports whether a connection that nobody waits for is of no more use: idle, silent or alive for too long, or not
// up.
func (s *stream) overdue() bool {
	if s.waiting() > 0 {
		return false
	}
	now := s.p.m.now()
	return s.retired || s.ready && now-s.used > s.p.m.g.cfg.Expire || !s.ready && now-s.born > s.p.maxDial() || now-s.born > s.age ||
		s.dead(now)
}

// opened says that the connection is up.
func (s *stream) opened(local netip.AddrPort) {
	if s.closed {
		return
	}
	m := s.p.m
	now := m.now()
	s.ready, s.local, s.used, s.suspect = true, local, now, false
	s.p.dial += (now - s.born - s.p.dial) / 4
	for _, t := range s.who {
		if t != nil {
			t.sent = now
			t.expires = min(now+m.g.cfg.ReadTimeout, t.e.deadline)
			t.e.arm()
		}
	}
}

func (s *stream) find(id uint16) int {
	for i, have := range s.ids {
		if have == id {
			return i
		}
	}
	return -1
}

// received takes one message. It is valid until received returns.
func (s *stream) received(msg []byte) {
	m := s.p.m
	i := -1
	if len(msg) >= 2 {
		i = s.find(uint16(msg[0])<<8 | uint16(msg[1]))
	}
	if i < 0 {
		m.g.metrics.wrong.Inc(m.loop.Index())
		return
	}
	if i > 0 {
		s.p.mixed = true
	}
	t := s.who[i]
	s.take(i)
	s.served++
	s.used = m.now()
	s.p.heardBy(&s.path)
	if t == nil || s.used-t.sent > quick {
		s.p.quick = 0
	} else {
		s.p.quick++
	}
	if t != nil {
		t.replied(msg)
	}
	s.rest()
}

func (s *stream) take(i int) {
	s.ids = append(s.ids[:i], s.ids[i+1:]...)
	s.who = append(s.who[:i], s.who[i+1:]...)
}

// rest closes a connection without questions that is not to be kept.
func (s *stream) rest() {
	if s.closed || len(s.ids) > 0 {
		return
	}
	keep := s.p.m.g.cfg.MaxIdle
	if s.overdue() || keep > 0 && s.p.idle() > keep {
		s.shut()
	}
}

// idle counts the connections without questions.
func (p *peer) idle() int {
	n := 0
	for _, s := range p.streams {
		if len(s.ids) == 0 && !s.retired {
			n++
		}
	}
	return n
}

// forget leaves a question's place to a reply that may still come. When its time was up the peer may be stuck, and what
// is behind it with it: the connection takes nothing new. One that is not up yet goes on, unless it would always reach the
// same server of several: closing it would throw away the work of a peer that is too busy already.
func (s *stream) forget(t *try, late bool) {
	i := s.find(t.id)
	if i < 0 || s.who[i] != t {
		return
	}
	s.who[i] = nil
	if late && (s.ready || s.p.m.g.cfg.Service) {
		s.retired = true
	}
	if s.retired && s.waiting() == 0 {
		s.shut() // nobody waits for anything that could still come
	}
}

// lost ends a connection that failed or that the peer closed. Questions in flight on one that had served move to another
// one, once: the peer may have closed it for being idle just then.
func (s *stream) lost(err error) {
	if s.closed {
		return
	}
	who := s.who
	s.ids, s.who = nil, nil
	s.shut()
	moves := s.served > 0 && (errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE))
	for _, t := range who {
		if t == nil || t.stream != s {
			continue
		}
		t.stream = nil
		if !moves || t.moved || t.p.m.closed {
			t.fail(err)
			continue
		}
		t.moved = true
		t.sent = t.p.m.now()
		if err := t.p.sendStream(t, true); err != nil {
			t.fail(err)
			continue
		}
		t.e.arm()
	}
}

// shut closes the connection and forgets it.
func (s *stream) shut() {
	if s.closed {
		return
	}
	s.closed, s.retired = true, true
	s.carrier.close()
	if s.p.last == s {
		s.p.last = nil
	}
	all := s.p.streams
	for i, o := range all {
		if o == s {
			s.p.streams = append(all[:i], all[i+1:]...)
			return
		}
	}
}
