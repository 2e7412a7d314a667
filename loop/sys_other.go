//go:build !linux || portable

package loop

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// The portable twins of what sys_linux.go has: ordinary calls, through the runtime.

// Socket makes a non-blocking socket that Go's netpoller does not know. Kind is unix.SOCK_DGRAM or unix.SOCK_STREAM.
func Socket(family, kind int) (int, error) {
	fd, err := unix.Socket(family, kind, 0)
	if err != nil {
		return -1, err
	}
	return fd, ours(fd)
}

// ours makes a descriptor non-blocking and closes it in programs that are started.
func ours(fd int) error {
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return err
	}
	return nil
}

// Accept takes a waiting connection of a listening socket, non-blocking, and the address of its client.
func Accept(fd int) (conn int, client netip.AddrPort, errno unix.Errno) {
	conn, sa, err := unix.Accept(fd)
	if err == nil {
		err = ours(conn)
	}
	if err != nil {
		return -1, netip.AddrPort{}, number(err)
	}
	return conn, AddrPort(sa), 0
}

// Read reads a socket once; b must not be empty.
func Read(fd int, b []byte) (int, unix.Errno) {
	n, err := unix.Read(fd, b)
	return max(n, 0), number(err)
}

// Write writes to a connected socket once. B must not be empty.
func Write(fd int, b []byte) (int, unix.Errno) {
	n, err := unix.Write(fd, b)
	return max(n, 0), number(err)
}

func number(err error) unix.Errno {
	errno, _ := err.(unix.Errno)
	return errno
}
