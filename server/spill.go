package server

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// With several loops an address has a socket on each, and the kernel chooses one by the client. At a load that one loop
// can bear this is a waste: all loops are woken for few datagrams each, and waking is the most of a query's cost. So one
// answers alone while it can:
//
//  1. Alone: the kernel gives every datagram to the first socket of the address's group.
//  2. When that can't be emptied for some turns, or the loops worked most of the last second, it chooses by the client
//     again (spiller.full, spill.look).
//  3. Together: when a second's work of all loops would have been little enough for one, step 1. After a try that did not
//     last that is measured for longer: two seconds, four, at last a minute.
//
// What is queued stays where it is and every socket is read at all times, so that no datagram depends on the choice. It
// also does not matter which loop has the first socket: each notes what happens to its own, and all decide for the group.

const (
	spillWindow  = time.Second            // how long work is measured
	spillLongest = time.Minute            // the same after tries that did not last
	spillLasting = 10 * time.Second       // what is no such try
	spillPause   = 100 * time.Millisecond // between two requests to choose by the client
	spillRenew   = 10 * time.Second       // between two requests to be alone: a predecessor may have asked otherwise
	spillTurns   = 4                      // turns that don't empty a large socket until the others join
	joinAbove    = 95                     // percent of one loop's time, worked by all
	aloneBelow   = 90                     // while together, which costs more than the same work on one
)

// spill is the choice for one address. Its sockets share it, on all loops.
type spill struct {
	worked func(now time.Duration) time.Duration // by all loops, since they began
	choose func(fd int, alone bool) bool         // asks the kernel, and reports whether it agreed

	mu     sync.Mutex
	off    bool // the kernel refuses, or the listener is paused
	alone  bool
	asked  time.Duration // when the kernel was asked last
	began  time.Duration // when the loop began to be alone
	window time.Duration // what is measured until it is alone again
	since  time.Duration // when measuring began, and what had been worked by then
	before time.Duration
}

// newSpill gives the choice for an address, nil where there is none.
func (s *Server) newSpill() *spill {
	if len(s.workers) < 2 {
		return nil
	}
	return &spill{choose: gather, worked: func(now time.Duration) (sum time.Duration) {
		for _, w := range s.workers {
			sum += w.Loop.Worked(now)
		}
		return sum
	}}
}

// begin makes the group's first socket the only one that is given datagrams.
func (s *spill) begin(fd int, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alone, s.window = s.choose(fd, true), spillWindow
	s.off = !s.alone
	s.asked, s.began = now, now
	s.since, s.before = now, s.worked(now)
}

// leave has the kernel choose by the client, as it does for processes that know nothing of this.
func (s *spill) leave(fd int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.off {
		s.off, s.alone = true, false
		s.choose(fd, false)
	}
}

// join has all loops take part.
func (s *spill) join(fd int, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joinLocked(fd, now)
}

func (s *spill) joinLocked(fd int, now time.Duration) {
	switch {
	case s.off:
		return
	case s.alone && now-s.began < spillLasting:
		s.window = min(2*s.window, spillLongest)
	case s.alone:
		s.window = spillWindow
	case now-s.asked < spillPause: // all loops are overloaded; but another process may have chosen to be alone
		return
	}
	s.alone = false
	s.choose(fd, false) // what it left as it was fills up again, and then asks again
	s.asked = now
	s.since, s.before = now, s.worked(now)
}

// look changes the choice when enough was measured and it says so.
func (s *spill) look(fd int, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	length := now - s.since
	if s.off || length < spillWindow || !s.alone && length < s.window {
		return
	}
	worked := s.worked(now)
	percent := (worked - s.before) * 100 / length
	s.since, s.before = now, worked
	switch {
	case s.alone && percent > joinAbove:
		s.joinLocked(fd, now)
	case s.alone && now-s.asked >= spillRenew, !s.alone && percent <= aloneBelow:
		if !s.alone {
			s.began = now
		}
		s.alone = s.choose(fd, true)
		s.asked = now
	}
}

// spiller is what one socket sees of it. Without a spill it does nothing.
type spiller struct {
	*spill
	turns int           // turns in a row that may leave something until the others join
	left  int           // such turns
	next  time.Duration // when to look
}

func (s *spiller) begin(fd int, now time.Duration) {
	if s.spill != nil {
		s.turns = patience(fd)
		s.spill.begin(fd, now)
	}
}

func (s *spiller) leave(fd int) {
	if s.spill != nil {
		s.spill.leave(fd)
	}
}

// full notes a turn that left something in the socket.
func (s *spiller) full(fd int, now time.Duration) {
	if s.spill == nil {
		return
	}
	if s.left++; s.left >= s.turns {
		s.left = 0
		s.join(fd, now)
	}
}

// dry notes a turn that left nothing.
func (s *spiller) dry(fd int, now time.Duration) {
	if s.left = 0; s.spill != nil && now >= s.next {
		s.next = now + spillWindow
		s.look(fd, now)
	}
}

// patience gives how many full turns a socket has room for while the others are on their way: as many as fill a quarter of
// it, at the size that a short datagram has in the kernel where a driver gave it half a page.
func patience(fd int) int {
	const size = 2304
	octets, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return 1
	}
	return min(max(octets/4/size/(batch*rounds), 1), spillTurns)
}
