package main

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"
	"unsafe"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// The open-loop client: queries leave at times fixed beforehand, whatever has been answered, and the time to an answer
// counts from when its query was due. It never sleeps, so that a wake-up of its own is not counted as the server's.

// histogram counts durations in buckets of 1/64 of a power of two.
type histogram struct {
	counts [64 * 40]uint32
	n      uint64
}

func bucketOf(ns int64) int {
	v := uint64(max(ns, 64))
	shift := bits.Len64(v) - 7
	return min(shift<<6+int(v>>shift&63), 64*40-1)
}

// bucketEnd is the highest duration of a bucket, in nanoseconds.
func bucketEnd(i int) int64 { return (int64(i&63)+64+1)<<(i>>6) - 1 }

func (h *histogram) add(ns int64) {
	h.counts[bucketOf(ns)]++
	h.n++
}

// latencies is one run.
type latencies struct {
	h    *histogram
	sent uint64
}

// quantile gives microseconds.
func (l latencies) quantile(q float64) float64 {
	left := uint64(q * float64(l.h.n))
	for i, c := range l.h.counts {
		if uint64(c) > left {
			return float64(bucketEnd(i)) / 1000
		}
		left -= uint64(c)
	}
	return 0
}

// longest gives microseconds.
func (l latencies) longest() float64 {
	for i := len(l.h.counts) - 1; i >= 0; i-- {
		if l.h.counts[i] > 0 {
			return float64(bucketEnd(i)) / 1000
		}
	}
	return 0
}

func (l latencies) lost() float64 { return 1 - float64(l.h.n)/float64(l.sent) }

const clientSockets = 64

// client is the sockets of the open loop and what is on its way.
type client struct {
	ep      int
	fds     [clientSockets]int
	queries [][]byte
	due     [1 << 16]int64 // by ID: when its query was due; 0 when answered
	h       *histogram
	sent    uint64
	events  [clientSockets]unix.EpollEvent
	buf     [4096]byte
}

// openLoop offers the questions at a rate for a time.
func openLoop(ctx context.Context, addr string, questions []question, rate int, length time.Duration) (latencies, error) {
	c := &client{h: &histogram{}}
	for _, q := range questions {
		m := new(dns.Msg)
		m.SetQuestion(q.name, q.typ)
		b, err := m.Pack()
		if err != nil {
			return latencies{}, err
		}
		c.queries = append(c.queries, b)
	}
	if err := c.open(addr); err != nil {
		return latencies{}, err
	}
	defer c.close()
	done := make(chan error)
	go func() { done <- c.run(ctx, rate, length) }()
	err := <-done
	return latencies{c.h, c.sent}, err
}

func (c *client) open(addr string) error {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	if c.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	for i := range c.fds {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		c.fds[i] = fd
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
			return err
		}
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if err := unix.EpollCtl(c.ep, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) close() {
	for _, fd := range c.fds {
		if fd > 0 {
			unix.Close(fd)
		}
	}
	unix.Close(c.ep)
}

// run is the loop, on a thread of its own on the generator's core, without a collector.
func (c *client) run(ctx context.Context, rate int, length time.Duration) error {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and with it its core
	core, err := strconv.Atoi(clientCore)
	if err != nil {
		return err
	}
	var set unix.CPUSet
	set.Set(core)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("sched_setaffinity: %w", err)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	start := time.Now()
	step, end := int64(time.Second)/int64(rate), length.Nanoseconds()
	next := int64(0)
	for now := int64(0); now < end; now = time.Since(start).Nanoseconds() {
		for n := 0; next <= now && n < 16; n++ {
			c.send(next)
			next += step
		}
		c.receive(start)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	for until := time.Now().Add(200 * time.Millisecond); time.Now().Before(until); {
		c.receive(start)
	}
	if c.h.n == 0 {
		return errors.New("no answer at all")
	}
	return nil
}

func (c *client) send(due int64) {
	q := c.queries[c.sent%uint64(len(c.queries))]
	id := uint16(c.sent)
	q[0], q[1] = byte(id>>8), byte(id)
	c.due[id] = due + 1 // 0 means none
	fd := c.fds[c.sent%clientSockets]
	c.sent++
	// A query that the kernel does not take is lost, as the server would lose it.
	_, _, _ = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&q[0])), uintptr(len(q)), 0, 0, 0)
}

func (c *client) receive(start time.Time) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(c.ep), uintptr(unsafe.Pointer(&c.events[0])), clientSockets, 0, 0, 0)
	if errno != 0 {
		return
	}
	for i := range int(n) {
		for {
			size, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.events[i].Fd), uintptr(unsafe.Pointer(&c.buf[0])), uintptr(len(c.buf)), 0, 0, 0)
			if errno != 0 || size < 12 {
				break
			}
			id := uint16(bigEndian(c.buf[:]))
			if due := c.due[id]; due > 0 {
				c.due[id] = 0
				c.h.add(time.Since(start).Nanoseconds() - (due - 1))
			}
		}
	}
}
