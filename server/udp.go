package server

import (
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/loop"
)

// A batch of datagrams, in steps:
//
//  1. The worker's receiver, which all its sockets share, fills up to batch slots: with one call where there is one for
//     it (batch_linux.go), else one by one (batch_other.go).
//  2. Each datagram that was not answered before (repeat.go) goes through the gate and down its chain (deliver,
//     chain.Worker.Start).
//  3. What is answered is fitted straight into the socket's send buffer (udpSocket.Finish), or into the datagram's own place
//     (udpSocket.repeat).
//  4. The batch is sent when the slots are through, or full (sender.Flush).

// batch is how many datagrams one system call takes: the gain ends near 32.
const batch = 32

// rounds is how many batches a socket may have in one turn before the others are looked at.
const rounds = 4

// udpSocket is one loop's socket for one address.
type udpSocket struct {
	w       *worker
	fd      int
	local   netip.AddrPort
	wild    bool // bound to all addresses: answers leave from the address that was asked
	table   *atomic.Pointer[Table]
	out     sender
	repeats repeats
	spill   spiller
	fair    fairness
	closing bool

	// The datagram that is being walked, if its answer is to be kept.
	keep   bool
	hash   uint64
	packet []byte
	walks  *chain.Query
}

// Ready reads what has come, up to a few batches.
func (s *udpSocket) Ready(l *loop.Loop, _, _ bool) bool {
	if s.fair.over {
		return s.readFairly(l)
	}
	s.w.receiver.prepare(s.wild)
	n := s.w.receiver.receive(s.fd)
	return n > 0 && s.read(l, n)
}

// read answers the n datagrams in the slots, and then what else has come, up to a few batches.
func (s *udpSocket) read(l *loop.Loop, n int) (again bool) {
	r := s.w.receiver
	for round := 1; ; round++ {
		s.w.lastQuery.Store(int64(l.Now()))
		s.w.calls.Add(1)
		s.w.datagrams.Add(uint64(n))
		s.repeats.begin(s.table.Load())
		s.w.BeginBatch()
		for i := range n {
			s.deliver(r, i)
		}
		s.out.slots(s.fd, r, n)
		s.out.flush(s.fd) // what is sent may refer to the slots
		r.rearm(n)
		s.w.EndBatch()
		if n < batch {
			// Dry, most likely: waiting tells of the next datagram, or at once that it is there. Trying again would cost a
			// call that finds nothing for each wake-up.
			s.spill.dry(s.fd, l.Now())
			return false
		}
		if round == rounds {
			break
		}
		if n = r.receive(s.fd); n == 0 {
			return false
		}
		l.Tick()
	}
	s.spill.full(s.fd, l.Now())
	s.fair.full(s.fd)
	return true
}

// deliver walks the datagram in slot i.
func (s *udpSocket) deliver(r *receiver, i int) {
	packet := r.packet(i)
	if s.repeat(r, i, packet) {
		return
	}
	q := s.w.Get()
	r.origin(i, q)
	q.Local, q.Proto, q.Start = s.local, chain.UDP, s.w.Loop.Now()
	if s.wild && q.Back.From.IsValid() {
		q.Local = netip.AddrPortFrom(q.Back.From, s.local.Port())
	}
	ok, answer := gate(&q.Request, packet, s.out.space(s.fd, 512))
	if !ok {
		s.w.refused()
		if answer != nil {
			s.out.add(q, answer, s.wild)
		}
		s.w.Put(q)
		return
	}
	if s.keep {
		s.walks = q
	}
	s.w.Start(q, s.table.Load(), s)
	if s.walks != nil {
		s.walks = nil
		s.repeats.notKept(s.w.Loop.Now())
	}
}

// Finish sends the end of a query.
func (s *udpSocket) Finish(q *chain.Query, out chain.Outcome) {
	if s.closing || !Complete(q, out) {
		return
	}
	limit := q.Limit()
	b := s.w.fit(s.out.space(s.fd, limit), q, limit)
	if q == s.walks && out == chain.Answered {
		s.walks = nil
		s.repeats.keep(q, s.hash, s.packet, b)
	}
	s.out.add(q, b, s.wild)
}

// Flush sends what replies that were parked have left since the last batch.
func (s *udpSocket) Flush(*loop.Loop) { s.out.flush(s.fd) }

func (s *udpSocket) close() {
	s.closing = true
	s.out.flush(s.fd)
	s.fair.thin.clear()
	s.repeats.close()
	s.w.Loop.Remove(s.fd)
	s.w.Loop.RemoveFlush(s)
	unix.Close(s.fd)
}

// sendBuffer holds a whole batch of usual answers, and always one of the largest.
const sendBuffer = 128 << 10

// writableSoon waits a few milliseconds for room in a full send buffer, and reports whether it is worth trying again.
func writableSoon(fd int) bool {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(p[:], 5)
	return n == 1 || err == unix.EINTR
}
