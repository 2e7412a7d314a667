package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ruler over TCP: one wait tells of the connections that have something, and each costs a read and a write. Waits are
// edge-triggered, and a read that does not fill its room is the last: there is no cheaper way to do it on Linux.

// echoStream is the listener and its connections.
type echoStream struct {
	fd, ep int // the listener, and its epoll instance
	conns  int
	kept   map[int][]byte // the beginnings of frames, by connection
	in     [64 << 10]byte
	out    []byte
	events [64]unix.EpollEvent
}

func newEchoStream(addr string) (*echoStream, error) {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	e := &echoStream{kept: map[int][]byte{}, out: make([]byte, 0, 256<<10)}
	if e.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) // without it the port may be taken for a minute
	if err := unix.Bind(e.fd, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}); err != nil {
		return nil, fmt.Errorf("bind %s: %w", addr, err)
	}
	if err := unix.Listen(e.fd, 128); err != nil {
		return nil, fmt.Errorf("listen %s: %w", addr, err)
	}
	if e.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	return e, e.watch(e.fd, unix.EPOLLIN)
}

func (e *echoStream) watch(fd int, events uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: int32(fd)}
	return unix.EpollCtl(e.ep, unix.EPOLL_CTL_ADD, fd, &ev)
}

// run never ends. While there is no connection it waits through the runtime, which interrupts raw waits now and then: the
// ruler over UDP must not pay for this one.
func (e *echoStream) run() {
	for {
		if e.conns == 0 {
			e.accept()
			continue
		}
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(e.ep), uintptr(unsafe.Pointer(&e.events[0])),
			uintptr(len(e.events)), ^uintptr(0), 0, 0)
		if errno != 0 {
			runtime.Gosched()
			continue
		}
		for i := range n {
			if fd := int(e.events[i].Fd); fd == e.fd {
				e.accept()
			} else {
				e.ready(fd, e.events[i].Events&unix.EPOLLRDHUP != 0)
			}
		}
	}
}

func (e *echoStream) accept() {
	fd, _, err := unix.Accept4(e.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if e.watch(fd, unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLET) != nil {
		unix.Close(fd)
		return
	}
	e.conns++
}

// ready echoes what has come over a connection; with last its end has come, too.
func (e *echoStream) ready(fd int, last bool) {
	have := copy(e.in[:], e.kept[fd])
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&e.in[have])), uintptr(len(e.in)-have), 0, 0, 0)
		if errno == unix.EAGAIN {
			return
		}
		if errno != 0 || n == 0 {
			unix.Close(fd)
			delete(e.kept, fd)
			e.conns--
			return
		}
		have += int(n)
		full := have == len(e.in)
		have = e.echo(fd, e.in[:have])
		if !full && !last {
			break
		}
	}
	if have > 0 || len(e.kept[fd]) > 0 {
		e.kept[fd] = append(e.kept[fd][:0], e.in[:have]...)
	}
}

// echo answers the whole frames with one write and moves what is left to the front.
func (e *echoStream) echo(fd int, b []byte) (left int) {
	const more = 16
	e.out = e.out[:0]
	for len(b) >= 2 && len(b) >= 2+bigEndian(b) {
		size := bigEndian(b)
		at := len(e.out)
		e.out = append(append(e.out, b[:2+size]...), 0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 1, 0, 1)
		binary.BigEndian.PutUint16(e.out[at:], uint16(size+more))
		e.out[at+4] |= 0x84
		e.out[at+9] = 1
		b = b[2+size:]
	}
	if len(e.out) > 0 { // the client reads, so there is room
		_, _, _ = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&e.out[0])), uintptr(len(e.out)), unix.MSG_NOSIGNAL, 0, 0)
	}
	return copy(e.in[:], b)
}
