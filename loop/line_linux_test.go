//go:build !portable

package loop

import (
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// line is a pair of datagram sockets, of which a loop may wait for one.
type line struct {
	t       *testing.T
	r, w    int
	waiting atomic.Bool  // about to wait, or waiting
	reads   atomic.Int64 // datagrams
	waits   int
	writes  int // times that it was said to be writable
	again   bool
	before  func()        // when a wait is about to begin
	then    func(l *Loop) // with each datagram
}

func newLine(t *testing.T) *line {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &line{t: t, r: fds[0], w: fds[1]}
	t.Cleanup(func() {
		unix.Close(s.r)
		unix.Close(s.w)
	})
	return s
}

func (s *line) feed() {
	if _, err := unix.Write(s.w, []byte{1}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *line) Ready(l *Loop, _, writable bool) bool {
	if writable {
		s.writes++
	}
	return s.read(l, unix.MSG_DONTWAIT) && s.again
}

func (s *line) Wait(l *Loop) (found, again bool) {
	s.waits++
	if l.poll.direct.thread.Load() == 0 {
		s.t.Error("nobody could end the wait that begins")
	}
	s.waiting.Store(true)
	if s.before != nil {
		s.before()
	}
	found = s.read(l, 0)
	return found, found && s.again
}

func (s *line) read(l *Loop, flags uintptr) bool {
	var b [16]byte
	_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.r), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), flags, 0, 0)
	s.waiting.Store(false)
	if flags == 0 {
		l.Tick()
	}
	if errno != 0 {
		return false
	}
	s.reads.Add(1)
	if l.poll.direct.thread.Load() != 0 {
		s.t.Error("the wait is over and may still be ended")
	}
	if s.then != nil {
		s.then(l)
	}
	return true
}

// direct tells whether the loop waits for a socket of its own. Any goroutine may ask.
func (l *Loop) direct() bool { return l.poll.direct.state.Load() != inEpoll }

// drive wakes the loop by a datagram n times, a pause apart.
func drive(l *Loop, now *time.Duration, s *line, n int, pause time.Duration) {
	for range n {
		s.feed()
		*now += pause
		l.Turn(true)
	}
}

// directLine is a loop that waits for a line, a pipe beside it, and the clock.
func directLine(t *testing.T) (l *Loop, now *time.Duration, s *line, other *pipe) {
	l, now = virtual(t)
	s, other = newLine(t), newPipe(t)
	for fd, source := range map[int]Source{s.r: s, other.r: other} {
		if err := l.Add(fd, source, false); err != nil {
			t.Fatal(err)
		}
	}
	enter(t, l, now, s)
	return l, now, s, other
}

func enter(t *testing.T, l *Loop, now *time.Duration, s *line) {
	*now += directAgain
	if drive(l, now, s, 2*directAfter+1, time.Microsecond); !l.direct() {
		t.Fatal("the loop does not wait for a socket that alone wakes it all the time")
	}
}

// await waits for what another goroutine does.
func await(t *testing.T, what string, done func() bool) {
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(20 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatal("in vain: ", what)
		}
	}
}

// spin lets time pass that is too short for a sleep.
func spin(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
	}
}

// awaitCall waits until the caller has noticed that others have something.
func awaitCall(t *testing.T, l *Loop) {
	await(t, "a call", func() bool { return l.poll.direct.state.Load() == called })
}
