//go:build !linux || portable

package loop

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// poller is the portable twin of the one in poll_linux.go: poll(2), with a pipe to end its wait. It looks at every file
// at every wait, and waits through the runtime.
type poller struct {
	in, out int // of the pipe
	files   []unix.PollFd
	sources []Source
	gone    bool // a file was removed while events are being handed out
}

func (p *poller) open() error {
	var ends [2]int
	if err := unix.Pipe(ends[:]); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	for _, fd := range ends {
		if err := ours(fd); err != nil {
			return fmt.Errorf("pipe: %w", err)
		}
	}
	p.in, p.out = ends[0], ends[1]
	p.files = []unix.PollFd{{Fd: int32(p.in), Events: unix.POLLIN}}
	p.sources = []Source{nil}
	return nil
}

func (p *poller) close() {
	unix.Close(p.in)
	unix.Close(p.out)
}

func (p *poller) wake() { _, _ = unix.Write(p.out, []byte{0}) } // a full pipe wakes as well

func (p *poller) index(fd int) int {
	for i := 1; i < len(p.files); i++ {
		if p.files[i].Fd == int32(fd) {
			return i
		}
	}
	return -1
}

func (p *poller) waited() {}

// Add registers a non-blocking file: s is called when it can be read, and with write when it can be written. The caller
// keeps the file and must Remove it before closing it.
func (l *Loop) Add(fd int, s Source, write bool) error {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	l.poll.files = append(l.poll.files, unix.PollFd{Fd: int32(fd)})
	l.poll.sources = append(l.poll.sources, s)
	l.Watch(fd, write)
	return nil
}

// AddPatient is Add: poll(2) can't leave a file for later.
func (l *Loop) AddPatient(fd int, s Source, write bool) error { return l.Add(fd, s, write) }

// Watch says whether a registered file is also watched for being writable.
func (l *Loop) Watch(fd int, write bool) { l.watch(fd, unix.POLLIN, write) }

// Pause stops watching a file for being read, so that its peer has to wait, until Watch is called.
func (l *Loop) Pause(fd int, write bool) { l.watch(fd, 0, write) }

func (l *Loop) watch(fd int, events int16, write bool) {
	if write {
		events |= unix.POLLOUT
	}
	if i := l.poll.index(fd); i > 0 {
		l.poll.files[i].Events = events
	}
}

// Remove takes a file out.
func (l *Loop) Remove(fd int) {
	p := &l.poll
	i := p.index(fd)
	if i < 0 {
		return
	}
	l.forget(p.sources[i])
	p.files[i] = unix.PollFd{Fd: -1} // poll passes over it; taken out before the next wait
	p.sources[i] = nil
	p.gone = true
}

// tidy takes out the files that were removed.
func (p *poller) tidy() {
	if !p.gone {
		return
	}
	n := 1
	for i := 1; i < len(p.files); i++ {
		if p.sources[i] != nil {
			p.files[n], p.sources[n] = p.files[i], p.sources[i]
			n++
		}
	}
	clear(p.sources[n:])
	p.files, p.sources, p.gone = p.files[:n], p.sources[:n], false
}

// wait sleeps for at most timeout and hands out what is ready.
func (p *poller) wait(l *Loop, timeout time.Duration, _ bool) (n int, interrupted bool) {
	p.tidy()
	ms := int(min((timeout+time.Millisecond-1)/time.Millisecond, math.MaxInt32))
	if _, err := unix.Poll(p.files, ms); err != nil {
		return 0, true
	}
	l.Tick()
	if p.files[0].Revents != 0 {
		var b [64]byte
		_, _ = unix.Read(p.in, b[:])
	}
	known := len(p.files) // files that are added from here on have not been waited for
	for i := 1; i < known; i++ {
		got, s := p.files[i].Revents, p.sources[i]
		if got == 0 || s == nil {
			continue
		}
		n++
		failed := got&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0
		if s.Ready(l, failed || got&unix.POLLIN != 0, failed || got&unix.POLLOUT != 0) && !l.isHot(s) {
			l.hot = append(l.hot, s)
		}
	}
	return n, false
}
