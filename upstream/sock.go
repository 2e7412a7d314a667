package upstream

import (
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/loop"
)

// open makes a connected non-blocking socket to a server. A stream's connection may still be under way. Errors are those
// that package net would give.
func open(kind int, to netip.AddrPort, from netip.Addr) (int, netip.AddrPort, error) {
	fd, err := loop.Socket(loop.Family(to.Addr()), kind)
	if err != nil {
		return -1, netip.AddrPort{}, dialError(kind, to, "socket", err)
	}
	if kind == unix.SOCK_STREAM {
		// Without it the second of two questions on a connection waits for the first one's acknowledgement.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if from.IsValid() {
		if err := unix.Bind(fd, loop.Sockaddr(netip.AddrPortFrom(from, 0))); err != nil {
			unix.Close(fd)
			return -1, netip.AddrPort{}, dialError(kind, to, "bind", err)
		}
	}
	if err := unix.Connect(fd, loop.Sockaddr(to)); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return -1, netip.AddrPort{}, dialError(kind, to, "connect", err)
	}
	return fd, loop.Local(fd), nil
}

// pending gives a stream's error, or whether its connection has come about.
func pending(fd int) (connected bool, err error) {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return false, err
	}
	if code != 0 {
		return false, unix.Errno(code)
	}
	_, err = unix.Getpeername(fd) // a number that was given to a new file may carry an old file's event
	return err == nil, nil
}

// network is the word for a kind of socket in errors.
func network(kind int) string {
	if kind == unix.SOCK_DGRAM {
		return "udp"
	}
	return "tcp"
}

func addr(kind int, a netip.AddrPort) net.Addr {
	if !a.IsValid() {
		return nil
	}
	if kind == unix.SOCK_DGRAM {
		return net.UDPAddrFromAddrPort(a)
	}
	return net.TCPAddrFromAddrPort(a)
}

func dialError(kind int, to netip.AddrPort, call string, err error) error {
	return &net.OpError{Op: "dial", Net: network(kind), Addr: addr(kind, to), Err: os.NewSyscallError(call, err)}
}

// ioError words a failed read or write as package net does: directives match on the text.
func ioError(op string, kind int, from, to netip.AddrPort, err error) error {
	if _, ok := err.(unix.Errno); ok {
		err = os.NewSyscallError(op, err)
	}
	return &net.OpError{Op: op, Net: network(kind), Source: addr(kind, from), Addr: addr(kind, to), Err: err}
}

// timeout words the end of an attempt that was silent.
func (t *try) timeout() error {
	to := t.p.s.Addr
	switch {
	case t.socket != nil:
		return ioError("read", unix.SOCK_DGRAM, t.socket.local, to, os.ErrDeadlineExceeded)
	case t.stream != nil && t.stream.ready:
		return ioError("read", unix.SOCK_STREAM, t.stream.local, to, os.ErrDeadlineExceeded)
	}
	return &net.OpError{Op: "dial", Net: "tcp", Addr: addr(unix.SOCK_STREAM, to), Err: os.ErrDeadlineExceeded}
}

// local is the address that the attempt was sent from.
func (t *try) local() netip.AddrPort {
	switch {
	case t.socket != nil:
		return t.socket.local
	case t.stream != nil:
		return t.stream.local
	}
	return netip.AddrPort{}
}
