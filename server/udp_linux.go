package server

import (
	"net/netip"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/invariant"
	"github.com/godwit-dns/godwit/loop"
)

// A batch of datagrams, in steps:
//
//  1. recvmmsg fills up to batch slots of the worker's receiver, which all its sockets share.
//  2. Each datagram goes through the gate and down its chain (deliver, chain.Worker.Start).
//  3. What is answered is fitted straight into the socket's send buffer (udpSocket.Finish, sender.reply).
//  4. sendmmsg sends the batch when the slots are through, or full (sender.Flush).

// batch is how many datagrams one system call takes: the gain ends near 32.
const batch = 32

// rounds is how many batches a socket may have in one turn before the others are looked at.
const rounds = 4

type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// receiver is a loop's receive slots.
type receiver struct {
	hdr     [batch]mmsghdr
	iov     [batch]unix.Iovec
	addr    [batch][28]byte
	control [batch][controlSize]byte
	buf     [batch][maxQuery]byte
	size    int // room for control messages that the slots have now
}

func newReceiver() *receiver {
	r := new(receiver)
	for i := range r.hdr {
		r.iov[i].Base = &r.buf[i][0]
		r.iov[i].SetLen(maxQuery)
		h := &r.hdr[i].hdr
		h.Iov, h.Iovlen = &r.iov[i], 1
		h.Name, h.Namelen = &r.addr[i][0], uint32(len(r.addr[i]))
		h.Control = &r.control[i][0]
	}
	return r
}

// prepare makes the slots ready for a socket: the kernel says where a datagram was sent to only when there is a question.
func (r *receiver) prepare(wild bool) {
	size := 0
	if wild {
		size = controlSize
	}
	if r.size == size {
		return
	}
	r.size = size
	for i := range r.hdr {
		r.hdr[i].hdr.SetControllen(size)
	}
}

// receive fills the slots and gives their number; 0 when the socket is dry.
func (r *receiver) receive(fd int) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.hdr[0])), batch, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// rearm makes the first n slots ready for the next receive; the others still are.
func (r *receiver) rearm(n int) {
	for i := range n {
		invariant.Poison(r.buf[i][:])
		h := &r.hdr[i].hdr
		h.Namelen = uint32(len(r.addr[i]))
		h.SetControllen(r.size)
		h.Flags = 0
	}
}

// udpSocket is one loop's socket for one address.
type udpSocket struct {
	w       *worker
	fd      int
	local   netip.AddrPort
	wild    bool // bound to all addresses: answers leave from the address that was asked
	table   *atomic.Pointer[Table]
	out     sender
	closing bool
}

// Ready reads what has come, up to a few batches.
func (s *udpSocket) Ready(l *loop.Loop, _, _ bool) bool {
	r := s.w.receiver
	r.prepare(s.wild)
	for range rounds {
		n := r.receive(s.fd)
		if n == 0 {
			return false
		}
		s.w.lastQuery.Store(int64(l.Tick()))
		s.w.receives.Inc(l.Index())
		s.w.datagrams.Add(l.Index(), uint64(n))
		s.w.BeginBatch()
		for i := range n {
			s.deliver(r, i)
		}
		r.rearm(n)
		s.out.flush(s.fd)
		s.w.EndBatch()
		if n < batch {
			// Dry, most likely: waiting tells of the next datagram, or at once that it is there. Trying again would cost a
			// call that finds nothing for each wake-up.
			return false
		}
	}
	return true
}

// deliver walks the datagram in slot i.
func (s *udpSocket) deliver(r *receiver, i int) {
	h := &r.hdr[i]
	q := s.w.Get()
	packet := r.buf[i][:h.n]
	if h.hdr.Flags&unix.MSG_TRUNC != 0 {
		packet = packet[:min(len(packet), 12)] // longer than any query: the gate refuses a question that is not there
	}
	back := &q.Back
	back.Addr, back.AddrLen = r.addr[i], uint8(h.hdr.Namelen)
	q.Client, q.Local, q.Proto, q.Start = rawAddr(&r.addr[i]), s.local, chain.UDP, s.w.Loop.Now()
	if s.wild {
		back.From, back.IfIndex = readControl(r.control[i][:h.hdr.Controllen])
		q.Local = netip.AddrPortFrom(back.From, s.local.Port())
	}
	ok, answer := gate(&q.Request, packet, s.out.space(s.fd, 512))
	if !ok {
		s.w.refused(q, packet)
		if answer != nil {
			s.out.add(q, answer, s.wild)
		}
		s.w.Put(q)
		return
	}
	s.w.Start(q, s.table.Load(), s)
}

// Finish sends the end of a query.
func (s *udpSocket) Finish(q *chain.Query, out chain.Outcome) {
	if s.closing || !Complete(q, out) {
		return
	}
	limit := q.Limit()
	b := s.w.fit(s.out.space(s.fd, limit), q, limit)
	s.out.add(q, b, s.wild)
}

// Flush sends what replies that were parked have left since the last batch.
func (s *udpSocket) Flush(*loop.Loop) { s.out.flush(s.fd) }

func (s *udpSocket) close() {
	s.closing = true
	s.out.flush(s.fd)
	s.w.Loop.Remove(s.fd)
	s.w.Loop.RemoveFlush(s)
	unix.Close(s.fd)
}

// sender gathers answers of one socket for one system call.
type sender struct {
	n       int
	used    int
	hdr     [batch]mmsghdr
	iov     [batch]unix.Iovec
	addr    [batch][28]byte
	control [batch][controlSize]byte
	buf     []byte
	dropped *atomic.Uint64 // answers that the kernel did not take
}

// sendBuffer holds a whole batch of usual answers, and always one of the largest.
const sendBuffer = 128 << 10

// space gives an empty slice with room for size octets behind what is already gathered, sending that first if need be.
func (o *sender) space(fd, size int) []byte {
	if o.n == batch || o.used+size > len(o.buf) {
		o.flush(fd)
	}
	return o.buf[o.used:o.used:len(o.buf)]
}

// add gathers an answer that was written into the space.
func (o *sender) add(q *chain.Query, b []byte, wild bool) {
	i := o.n
	h := &o.hdr[i].hdr
	o.iov[i].Base = &b[0]
	o.iov[i].SetLen(len(b))
	h.Iov, h.Iovlen = &o.iov[i], 1
	o.addr[i] = q.Back.Addr
	h.Name, h.Namelen = &o.addr[i][0], uint32(q.Back.AddrLen)
	h.Control = nil
	h.SetControllen(0)
	if wild && q.Back.From.IsValid() {
		h.Control = &o.control[i][0]
		h.SetControllen(writeControl(&o.control[i], q.Back.From, q.Back.IfIndex))
	}
	o.used += len(b)
	o.n++
}

// flush sends what was gathered. One that can't be sent does not keep the others.
func (o *sender) flush(fd int) {
	for done := 0; done < o.n; {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&o.hdr[done])), uintptr(o.n-done), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0:
			done += int(n)
		case errno == unix.EINTR:
		case errno == unix.EAGAIN && writableSoon(fd):
		default:
			o.dropped.Add(1)
			done++
		}
	}
	o.n, o.used = 0, 0
}

// writableSoon waits a few milliseconds for room in a full send buffer.
func writableSoon(fd int) bool {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(p[:], 5)
	return err == nil && n == 1
}
