//go:build !portable

package loop

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls here are raw: they never block, so the runtime need not know of them.

// Socket makes a non-blocking socket that Go's netpoller does not know. Kind is unix.SOCK_DGRAM or unix.SOCK_STREAM.
func Socket(family, kind int) (int, error) {
	return unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

// Accept takes a waiting connection of a listening socket, non-blocking, and the address of its client.
func Accept(fd int) (conn int, client netip.AddrPort, errno unix.Errno) {
	var raw [28]byte
	size := uint32(len(raw))
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&raw[0])),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	return int(n), RawAddr(&raw), 0
}

// RawAddr reads a socket address that the kernel wrote. The zone of a link-local address is not resolved to a name.
func RawAddr(raw *[28]byte) netip.AddrPort {
	port := binary.BigEndian.Uint16(raw[2:])
	if *(*uint16)(unsafe.Pointer(&raw[0])) == unix.AF_INET6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(raw[8:24])), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(raw[4:8])), port)
}

// Read reads a socket once; b must not be empty.
func Read(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
	return int(n), errno
}

// Write writes to a connected socket once; a closed connection is an error and no signal. B must not be empty.
func Write(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
		unix.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}
