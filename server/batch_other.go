//go:build !linux || portable

package server

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/invariant"
	"github.com/godwit-dns/godwit/loop"
)

// The portable twins of batch_linux.go: one call for each datagram. Answers of a socket for all addresses leave from the
// address that the system chooses.

// receiver is a loop's receive slots.
type receiver struct {
	from [batch]unix.Sockaddr
	size [batch]int
	// placed is how long the answer is that took a datagram's place, 0 for none.
	placed [batch]int
	buf    [batch][maxQuery + 1]byte // one octet more tells what is longer than any query
}

func newReceiver() *receiver { return new(receiver) }

func (r *receiver) prepare(bool) {}

// receive fills the slots and gives their number; 0 when the socket is dry.
func (r *receiver) receive(fd int) int {
	for i := range batch {
		n, from, err := unix.Recvfrom(fd, r.buf[i][:], unix.MSG_DONTWAIT) // a predecessor may have made it wait
		if err != nil {
			return i
		}
		r.size[i], r.from[i] = n, from
	}
	return batch
}

// packet is the datagram in slot i; of one longer than any query only the header, so that the gate refuses it.
func (r *receiver) packet(i int) []byte {
	if r.size[i] > maxQuery {
		return r.buf[i][:12]
	}
	return r.buf[i][:r.size[i]]
}

// client tells who sent the datagram in slot i, for counting.
func (r *receiver) client(i int) client {
	switch from := r.from[i].(type) {
	case *unix.SockaddrInet4:
		return client4(binary.BigEndian.Uint32(from.Addr[:]))
	case *unix.SockaddrInet6:
		return client{binary.BigEndian.Uint64(from.Addr[:]), binary.BigEndian.Uint64(from.Addr[8:])}
	}
	return client{}
}

// origin notes where the datagram in slot i came from.
func (r *receiver) origin(i int, q *chain.Query) {
	q.Client = loop.AddrPort(r.from[i])
	if v6, ok := r.from[i].(*unix.SockaddrInet6); ok {
		q.Back.IfIndex = v6.ZoneId
	}
}

// slot is the memory of slot i, of which the datagram fills a part.
func (r *receiver) slot(i int) []byte { return r.buf[i][:] }

// answer notes that the datagram in slot i has an answer of size octets in its place, which sender.slots sends.
func (r *receiver) answer(i, size int, _ bool) { r.placed[i] = size }

// rearm makes the first n slots ready for the next receive.
func (r *receiver) rearm(n int) {
	clear(r.placed[:n])
	for i := range n {
		invariant.Poison(r.buf[i][:])
	}
}

// sender gathers answers of one socket.
type sender struct {
	n       int
	used    int
	to      [batch]unix.Sockaddr
	msg     [batch][]byte
	buf     []byte
	dropped *atomic.Uint64 // answers that the kernel did not take
}

// begin prepares for a socket. What the system does not take is counted in dropped.
func (o *sender) begin(_ int, _ netip.Addr, dropped *atomic.Uint64) {
	o.buf, o.dropped = make([]byte, sendBuffer), dropped
}

// space gives an empty slice with room for size octets behind what is already gathered, sending that first if need be.
func (o *sender) space(fd, size int) []byte {
	if o.n == batch || o.used+size > len(o.buf) {
		o.flush(fd)
	}
	return o.buf[o.used:o.used:len(o.buf)]
}

// add gathers an answer that was written into the space.
func (o *sender) add(q *chain.Query, b []byte, _ bool) {
	to := loop.Sockaddr(netip.AddrPortFrom(q.Client.Addr(), q.Client.Port()))
	if v6, ok := to.(*unix.SockaddrInet6); ok {
		v6.ZoneId = q.Back.IfIndex
	}
	o.to[o.n], o.msg[o.n] = to, b
	o.used += len(b)
	o.n++
}

// slots gathers the answers in the first n slots of r, which must be sent before the slots are used again.
func (o *sender) slots(fd int, r *receiver, n int) {
	for i := range n {
		if r.placed[i] == 0 {
			continue
		}
		if o.n == batch {
			o.flush(fd)
		}
		o.to[o.n], o.msg[o.n] = r.from[i], r.buf[i][:r.placed[i]]
		o.n++
	}
}

// flush sends what was gathered. One that can't be sent does not keep the others.
func (o *sender) flush(fd int) {
	for i := 0; i < o.n; {
		switch err := unix.Sendto(fd, o.msg[i], 0, o.to[i]); {
		case err == unix.EINTR, err == unix.EAGAIN && writableSoon(fd):
		case err != nil:
			o.dropped.Add(1)
			i++
		default:
			i++
		}
	}
	o.n, o.used = 0, 0
}

// tune asks for the receive buffer of a UDP socket.
func tune(fd int, _ netip.Addr) error {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer) // less is not an error
	return nil
}

// allowAnyAddress is Linux's alone, as is the node agent that asks for it.
func allowAnyAddress(int, bool) error { return unix.EOPNOTSUPP }
