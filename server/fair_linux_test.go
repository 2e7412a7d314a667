//go:build !portable

package server

import (
	"math"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/loop"
)

// filterLen gives the number of instructions of a socket's filter.
func filterLen(t *testing.T, fd int) int {
	t.Helper()
	n := uint32(0)
	if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_GET_FILTER, 0,
		uintptr(unsafe.Pointer(&n)), 0); errno != 0 {
		t.Fatal(errno)
	}
	return int(n)
}

// asNobody runs f on a thread without any privilege.
func asNobody(t *testing.T, f func()) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its goroutine
		if unix.Geteuid() == 0 {
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
				done <- errno
				return
			}
		}
		f()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestFilterBySource sends to sockets of one family and of both with a client thinned to a tenth, by nobody in particular.
func TestFilterBySource(t *testing.T) {
	tenth := func(c client) thinned { return thinned{client: c, pass: math.MaxUint32 / 10} }
	four := []thinned{tenth(client4(0x7f000003)), tenth(client4(0x7f000002)), tenth(client4(0x7f000004))}
	near := []thinned{tenth(client{0, 2}), tenth(client{0, 1<<32 | 1}), tenth(client{1, 1}), tenth(client{1 << 32, 1}), tenth(client4(1))}
	for _, c := range []struct {
		listen, from, to string
		both             bool
		clients          []thinned
		all              bool
	}{
		{"127.0.0.1", "127.0.0.2", "127.0.0.1", false, four, false},
		{"127.0.0.1", "127.0.0.5", "127.0.0.1", false, four, true},
		{"0.0.0.0", "127.0.0.4", "127.0.0.9", false, four, false},
		{"::1", "::1", "::1", false, near, true},
		{"::1", "::1", "::1", false, append(near, tenth(client{0, 1})), false},
		{"::", "::1", "::1", false, append(near, tenth(client{0, 1})), false},
		{"::", "127.0.0.2", "127.0.0.1", true, four, false},
		{"::", "127.0.0.5", "127.0.0.1", true, append(near, four...), true},
		{"::", "::1", "::1", true, four, true},
		{"::", "::1", "::1", true, append(four, tenth(client{0, 1})), false},
	} {
		passed := 0
		asNobody(t, func() { passed = pass(t, c.listen, c.from, c.to, c.both, c.clients) })
		if c.all && passed != 1000 || !c.all && (passed < 50 || passed > 150) {
			t.Errorf("%+v: %d of 1000 passed", c, passed)
		}
	}
}

// pass sends a thousand datagrams to a socket with a filter and gives the number of those that arrive.
func pass(t *testing.T, listen, from, to string, both bool, clients []thinned) (n int) {
	family := unix.AF_INET6
	if net.ParseIP(listen).To4() != nil {
		family = unix.AF_INET
	}
	fd, err := loop.Socket(family, unix.SOCK_DGRAM)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(fd)
	if family == unix.AF_INET6 {
		only := 1
		if both {
			only = 0
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
	}
	if err := unix.Bind(fd, loop.Sockaddr(netip.AddrPortFrom(netip.MustParseAddr(listen), 0))); err != nil {
		t.Error(err)
		return
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Error(err)
		return
	}
	if err := setFilter(fd, clients); err != nil {
		t.Errorf("without privilege: %v", err)
		return
	}
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)},
		&net.UDPAddr{IP: net.ParseIP(to), Port: int(loop.AddrPort(bound).Port())})
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	b := make([]byte, 64)
	for range 10 { // as many at once as any socket holds
		for range 100 {
			if _, err := c.Write(b[:17]); err != nil {
				t.Error(err)
				return
			}
		}
		for { // on the loopback what was sent is there
			got, _, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
			if err != nil {
				break
			}
			if n++; got != 17 {
				t.Errorf("%d octets", got)
			}
		}
	}
	return n
}
