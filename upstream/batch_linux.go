//go:build !portable

package upstream

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// vector is the datagrams of one system call on a connected socket.
type vector struct {
	hdr [batch]mmsghdr
	iov [batch]unix.Iovec
}

func (v *vector) init() {
	for i := range v.hdr {
		v.hdr[i].hdr.Iov, v.hdr[i].hdr.Iovlen = &v.iov[i], 1
	}
}

// put makes b, which must not be empty, the i-th datagram or the room for it.
func (v *vector) put(i int, b []byte) {
	v.iov[i].Base = &b[0]
	v.iov[i].SetLen(len(b))
}

// size is the length of the i-th datagram that was received, or of what there was room for.
func (v *vector) size(i int) int { return int(v.hdr[i].n) }

// send sends the first n datagrams and tells how many left; an error is the first one's.
func (v *vector) send(fd, n int) (int, unix.Errno) {
	sent, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&v.hdr[0])), uintptr(n),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return int(sent), errno
}

// receive fills up to n places and tells how many.
func (v *vector) receive(fd, n int) (int, unix.Errno) {
	got, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&v.hdr[0])), uintptr(n),
		unix.MSG_DONTWAIT, 0, 0)
	return int(got), errno
}
