package server

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/loop"
)

// receiveBuffer is asked of the kernel for every UDP socket: about 40 ms of queries at a core's full rate.
const receiveBuffer = 4 << 20

// backlog is the queue of TCP connections that nobody has accepted yet.
const backlog = 4096

// socket makes a bound, non-blocking socket that Go's netpoller does not know.
func socket(addr netip.AddrPort, kind int, shared, freebind bool) (int, error) {
	fd, err := loop.Socket(loop.Family(addr.Addr()), kind)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err = prepare(fd, addr, kind, shared); err == nil && freebind {
		err = allowAnyAddress(fd, addr.Addr().Is6())
	}
	if err == nil {
		err = unix.Bind(fd, loop.Sockaddr(addr))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func prepare(fd int, addr netip.AddrPort, kind int, shared bool) error {
	var err error
	if shared {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err == nil && addr.Addr().Is6() {
		// The wildcard has a socket for each family, so that no address is ever an IPv4 one in IPv6 clothes.
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	switch {
	case err != nil:
		return err
	case kind == unix.SOCK_STREAM:
		// A restart must not wait for the last one's connections to leave TIME_WAIT.
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	return tune(fd, addr.Addr())
}

// Share prepares one of package net's listeners, in its Control, to be shared with other processes (SO_REUSEPORT), and with
// freebind to be bound to an address that the host does not have yet. Network ends in the family: tcp4, tcp6.
func Share(network string, raw syscall.RawConn, freebind bool) error {
	var err error
	if e := raw.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err == nil && freebind {
			err = allowAnyAddress(int(fd), network[len(network)-1] == '6')
		}
	}); e != nil {
		return e
	}
	return err
}

// probe finds out whether the address is free, also where its holder would share it: without SO_REUSEPORT of our own
// the kernel shares with nobody.
func probe(addr netip.AddrPort, kind int, freebind bool) error {
	fd, err := socket(addr, kind, false, freebind)
	if err != nil {
		return err
	}
	if kind == unix.SOCK_STREAM {
		if err = unix.Listen(fd, 1); err != nil {
			unix.Close(fd)
			return err
		}
	}
	return unix.Close(fd)
}

// bindError explains a failure to bind to an operator.
func bindError(network string, addr netip.AddrPort, err error) error {
	hint := ""
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		hint = "; another process holds the port (ss -lunpt shows which)"
	case errors.Is(err, unix.EACCES) && addr.Port() < 1024:
		hint = "; give the process CAP_NET_BIND_SERVICE, or lower net.ipv4.ip_unprivileged_port_start (in a pod: securityContext.sysctls), or use -dns.port"
	case errors.Is(err, unix.EADDRNOTAVAIL):
		hint = "; no interface of this host has that address"
	}
	return fmt.Errorf("listen %s %s: bind: %w%s", network, addr, err, hint)
}
