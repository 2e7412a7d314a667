package server

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// receiveBuffer is asked of the kernel for every UDP socket: about 40 ms of queries at a core's full rate.
const receiveBuffer = 4 << 20

// backlog is the queue of TCP connections that nobody has accepted yet.
const backlog = 4096

// socket makes a bound, non-blocking socket that Go's netpoller does not know.
func socket(addr netip.AddrPort, kind int, shared bool) (fd int, err error) {
	family := unix.AF_INET
	if addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	if fd, err = unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err = prepare(fd, addr, kind, shared); err == nil {
		err = unix.Bind(fd, sockaddr(addr))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func prepare(fd int, addr netip.AddrPort, kind int, shared bool) error {
	v6 := addr.Addr().Is6()
	option := func(err error, level, name, value int) error {
		if err != nil {
			return err
		}
		return unix.SetsockoptInt(fd, level, name, value)
	}
	var err error
	if shared {
		err = option(err, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if v6 {
		// The wildcard has a socket for each family, so that no address is ever an IPv4 one in IPv6 clothes.
		err = option(err, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if kind == unix.SOCK_STREAM {
		// A restart must not wait for the last one's connections to leave TIME_WAIT.
		return option(err, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	switch wild := addr.Addr().IsUnspecified(); {
	case wild && v6:
		err = option(err, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	case wild: // a bound socket knows its address, and the kernel need not find it out for each datagram
		err = option(err, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
	if !v6 {
		// Path MTU discovery is left to others: a fragmented answer is better than none (RFC 9715 concerns larger ones).
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer) // less is not an error
	}
	return err
}

func sockaddr(addr netip.AddrPort) unix.Sockaddr {
	if addr.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	sa := &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	if zone := addr.Addr().Zone(); zone != "" {
		sa.ZoneId = zoneIndex(zone)
	}
	return sa
}

// probe finds out whether the address is free, also where its holder would share it: without SO_REUSEPORT of our own
// the kernel shares with nobody.
func probe(addr netip.AddrPort, kind int) error {
	fd, err := socket(addr, kind, false)
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
