//go:build !portable

package server

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/invariant"
	"github.com/godwit-dns/godwit/loop"
)

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
	placed  int // slots with an answer in the place of their datagram
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

// Wait is Ready for a socket that may have nothing yet.
func (s *udpSocket) Wait(l *loop.Loop) (found, again bool) {
	s.w.receiver.prepare(s.wild)
	n := s.w.receiver.take(s.fd, unix.MSG_WAITFORONE)
	l.Tick()
	return n > 0, n > 0 && s.read(l, n)
}

// receive fills the slots and gives their number; 0 when the socket is dry.
func (r *receiver) receive(fd int) int { return r.take(fd, unix.MSG_DONTWAIT) }

func (r *receiver) take(fd, flags int) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.hdr[0])), batch, uintptr(flags), 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// packet is the datagram in slot i; of one longer than any query only the header, so that the gate refuses it.
func (r *receiver) packet(i int) []byte {
	h := &r.hdr[i]
	if h.hdr.Flags&unix.MSG_TRUNC != 0 {
		return r.buf[i][:min(h.n, 12)]
	}
	return r.buf[i][:h.n]
}

// client tells who sent the datagram in slot i, for counting.
func (r *receiver) client(i int) client {
	a := &r.addr[i]
	if r.hdr[i].hdr.Namelen == unix.SizeofSockaddrInet4 {
		return client4(binary.BigEndian.Uint32(a[4:]))
	}
	return client{binary.BigEndian.Uint64(a[8:]), binary.BigEndian.Uint64(a[16:])}
}

// origin notes where the datagram in slot i came from and was sent to.
func (r *receiver) origin(i int, q *chain.Query) {
	h := &r.hdr[i].hdr
	q.Client = loop.RawAddr(&r.addr[i])
	back := &q.Back
	back.Addr, back.AddrLen = r.addr[i], uint8(h.Namelen)
	if r.size > 0 {
		back.From, back.IfIndex = readControl(r.control[i][:h.Controllen])
	}
}

// slot is the memory of slot i, of which the datagram fills a part.
func (r *receiver) slot(i int) []byte { return r.buf[i][:] }

// answer notes that the datagram in slot i has an answer of size octets in its place, which sender.slots sends.
func (r *receiver) answer(i, size int, wild bool) {
	r.iov[i].SetLen(size)
	r.placed++
	if wild {
		turnControl(r.control[i][:r.hdr[i].hdr.Controllen])
	}
}

// rearm makes the first n slots ready for the next receive; the others still are.
func (r *receiver) rearm(n int) {
	r.placed = 0
	for i := range n {
		invariant.Poison(r.buf[i][:])
		r.iov[i].SetLen(maxQuery)
		h := &r.hdr[i].hdr
		h.Namelen = uint32(len(r.addr[i]))
		h.SetControllen(r.size)
		h.Flags = 0
	}
}

// sender gathers answers of one socket for one system call.
type sender struct {
	n       int
	used    int
	longest int // of the gathered answers, octets
	pieces  fragments
	hdr     [batch]mmsghdr
	iov     [batch]unix.Iovec
	addr    [batch][28]byte
	control [batch][controlSize]byte
	buf     []byte
	dropped *atomic.Uint64 // answers that the kernel did not take
}

// begin prepares for a socket. What the kernel does not take is counted in dropped.
func (o *sender) begin(fd int, local netip.Addr, dropped *atomic.Uint64) {
	o.buf, o.dropped = make([]byte, sendBuffer), dropped
	o.pieces.begin(fd, local)
}

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
	o.longest = max(o.longest, len(b))
	o.n++
}

// slots sends the answers in the first n slots of r, from where they are.
func (o *sender) slots(fd int, r *receiver, n int) {
	switch r.placed {
	case 0:
		return
	case n: // a repeated answer is short
		o.pieces.before(fd, 0)
		o.send(fd, r.hdr[:n])
		return
	}
	for i := range n {
		if r.iov[i].Len == maxQuery {
			continue
		}
		if o.n == batch {
			o.flush(fd)
		}
		o.hdr[o.n].hdr = r.hdr[i].hdr
		o.n++
	}
}

// flush sends what was gathered.
func (o *sender) flush(fd int) {
	if o.n == 0 {
		return
	}
	o.pieces.before(fd, o.longest)
	o.send(fd, o.hdr[:o.n])
	o.n, o.used, o.longest = 0, 0, 0
}

// send sends messages. One that can't be sent does not keep the others.
func (o *sender) send(fd int, all []mmsghdr) {
	for tries := 0; len(all) > 0; {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&all[0])), uintptr(len(all)), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0:
			all, tries = all[n:], 0
		case errno == unix.EINTR:
		case errno == unix.EAGAIN && writableSoon(fd):
		case errno == unix.EMSGSIZE && tries == 0: // a narrow path, or another process with this socket thinks otherwise
			o.pieces.allow(fd, true)
			tries++
		default:
			o.dropped.Add(1)
			all, tries = all[1:], 0
		}
	}
}
