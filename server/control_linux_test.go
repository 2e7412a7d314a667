//go:build !portable

package server

import (
	"net/netip"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/loop"
)

// narrowly runs f on a thread in a network of its own, whose loopback interface takes packets of mtu octets. It needs root.
func narrowly(t *testing.T, mtu string, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("unshare (this needs root): %v", err)
			return
		}
		if out, err := exec.Command("ip", "link", "set", "lo", "up", "mtu", mtu).CombinedOutput(); err != nil {
			t.Errorf("ip link: %v: %s", err, out)
			return
		}
		f()
	}()
	<-done
}

// TestEveryAnswerFits sends short and long answers by a path that is narrower than any should be.
func TestEveryAnswerFits(t *testing.T) {
	narrowly(t, "700", func() {
		local := netip.MustParseAddrPort("127.0.0.1:5300")
		fd, err := socket(local, unix.SOCK_DGRAM, true, false)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		client, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(client)
		limit := unix.NsecToTimeval(int64(10 * time.Second))
		if err := unix.SetsockoptTimeval(client, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
			t.Error(err)
			return
		}
		if err := unix.Connect(client, loop.Sockaddr(local)); err != nil {
			t.Error(err)
			return
		}
		if _, err := unix.Write(client, make([]byte, 12)); err != nil {
			t.Error(err)
			return
		}
		r := newReceiver()
		if n := r.receive(fd); n != 1 {
			t.Errorf("%d datagrams came", n)
			return
		}
		var q chain.Query
		r.origin(0, &q)
		var dropped atomic.Uint64
		var o sender
		o.begin(fd, local.Addr(), &dropped)
		for _, step := range []struct {
			size, times int
			whole       bool // what is sent next
		}{
			{100, 2, true},
			{900, 1, false}, // which the path does not take
			{100, wholeAgain - 1, false},
			{100, 1, true},
			{2000, 2, false}, // which nobody tries
			{100, wholeAgain, true},
		} {
			for range step.times {
				o.add(&q, append(o.space(fd, step.size), make([]byte, step.size)...), false)
				o.flush(fd)
				var b [4096]byte
				if n, err := unix.Read(client, b[:]); n != step.size {
					t.Errorf("of an answer of %d octets %d came: %v", step.size, n, err)
				}
			}
			mode, err := unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER)
			if whole := mode == unix.IP_PMTUDISC_DO; whole != step.whole || err != nil {
				t.Errorf("after %d of %d octets: whole is %v (%v), want %v", step.times, step.size, whole, err, step.whole)
			}
		}
		if dropped.Load() != 0 {
			t.Errorf("%d answers were dropped", dropped.Load())
		}
	})
}
