//go:build !portable

package loop

import (
	"fmt"
	"math"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller is an epoll instance with an eventfd to end its wait.
type poller struct {
	ep, event int
	sources   []registered // by file descriptor
	given     int32        // registrations so far
	events    [64]unix.EpollEvent
	patient   patience
	direct    direct
}

// registered is a source and the number of its registration. Events carry the number too, so that one which was waiting
// when its file was removed is not taken for the next file of that descriptor.
type registered struct {
	s       Source
	number  int32
	events  uint32 // that it is watched for
	patient bool   // in the instance of the patient files
}

func (p *poller) open() error {
	var err error
	if p.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll_create: %w", err)
	}
	if p.event, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		unix.Close(p.ep)
		return fmt.Errorf("eventfd: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(p.event)}
	if err := unix.EpollCtl(p.ep, unix.EPOLL_CTL_ADD, p.event, &ev); err != nil {
		p.close()
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

func (p *poller) close() {
	p.direct.close()
	p.patient.close()
	unix.Close(p.event)
	unix.Close(p.ep)
}

func (p *poller) wake() {
	one := uint64(1)
	// EAGAIN means that a wake-up is already on its way.
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(p.event), uintptr(unsafe.Pointer(&one)), 8)
}

func interest(write bool) uint32 {
	if write {
		return unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP
	}
	return unix.EPOLLIN | unix.EPOLLRDHUP
}

// Add registers a non-blocking file: s is called when it can be read, and with write when it can be written. The caller
// keeps the file and must Remove it before closing it.
func (l *Loop) Add(fd int, s Source, write bool) error { return l.poll.add(l.poll.ep, fd, s, write) }

func (p *poller) add(ep, fd int, s Source, write bool) error {
	p.given++
	ev := unix.EpollEvent{Events: interest(write), Fd: int32(fd), Pad: p.given}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	for len(p.sources) <= fd {
		p.sources = append(p.sources, registered{})
	}
	p.sources[fd] = registered{s, p.given, ev.Events, ep != p.ep}
	return nil
}

// instance is the epoll instance that a registered file is in.
func (p *poller) instance(fd int) int {
	if p.direct.s != nil && p.direct.fd == fd {
		p.leave() // what is done to the file shall be seen
	}
	if p.sources[fd].patient {
		return p.patient.ep
	}
	return p.ep
}

// Watch says whether a registered file is also watched for being writable.
func (l *Loop) Watch(fd int, write bool) { l.poll.watch(fd, interest(write)) }

// Pause stops watching a file for being read, so that its peer has to wait, until Watch is called.
func (l *Loop) Pause(fd int, write bool) {
	var events uint32
	if write {
		events = unix.EPOLLOUT
	}
	l.poll.watch(fd, events)
}

func (p *poller) watch(fd int, events uint32) {
	p.interested(p.instance(fd), fd, events)
	p.sources[fd].events = events
}

// interested changes what an instance tells of a registered file.
func (p *poller) interested(ep, fd int, events uint32) {
	ev := unix.EpollEvent{Events: events, Fd: int32(fd), Pad: p.sources[fd].number}
	_ = unix.EpollCtl(ep, unix.EPOLL_CTL_MOD, fd, &ev) // a file that is registered can be modified
}

// Remove takes a file out.
func (l *Loop) Remove(fd int) {
	if s := l.poll.sources[fd].s; s != nil {
		l.forget(s)
	}
	var ev unix.EpollEvent
	_ = unix.EpollCtl(l.poll.instance(fd), unix.EPOLL_CTL_DEL, fd, &ev)
	l.poll.sources[fd] = registered{}
}

// wait sleeps for at most timeout and hands out what is ready.
func (p *poller) wait(l *Loop, timeout time.Duration, raw bool) (n int, interrupted bool) {
	if p.direct.s != nil && raw {
		return p.waitDirectly(l, timeout)
	}
	if p.direct.s != nil {
		p.leave()
	}
	// Rounded up: waking a moment before a timer would turn the loop twice.
	ms := int(min((timeout+time.Millisecond-1)/time.Millisecond, math.MaxInt32))
	if raw {
		r, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.ep), uintptr(unsafe.Pointer(&p.events[0])),
			uintptr(len(p.events)), uintptr(ms), 0, 0)
		n, interrupted = int(r), errno != 0
	} else {
		var err error
		n, err = unix.EpollWait(p.ep, p.events[:], ms)
		interrupted = err != nil
	}
	l.Tick()
	if interrupted {
		return 0, true
	}
	late := 0
	if p.patient.held { // first, so that what it answers leaves with what the others answer
		late = p.patients(l)
	}
	others := p.hand(l, p.events[:n])
	if others > 0 && p.patient.ep > 0 {
		p.woken(l.now)
	}
	if others == 1 && n == 1 {
		p.wokenBy(l, int(p.events[0].Fd))
	} else if n > 0 {
		p.direct.last = -1
	}
	return n + late, false
}

// hand calls the sources of events and tells how many there were besides the loop's own files.
func (p *poller) hand(l *Loop, events []unix.EpollEvent) (others int) {
	for i := range events {
		ev := &events[i]
		switch int(ev.Fd) {
		case p.event:
			var b [8]byte
			_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(p.event), uintptr(unsafe.Pointer(&b[0])), 8)
			continue
		case p.patient.ep:
			p.patients(l)
			continue
		case p.patient.timer:
			p.ticked(l.now)
			continue
		case p.direct.timer:
			var b [8]byte
			_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(p.direct.timer), uintptr(unsafe.Pointer(&b[0])), 8)
			continue
		}
		others++
		s := p.sources[ev.Fd].s
		if s == nil || p.sources[ev.Fd].number != ev.Pad { // removed by an earlier event of this wait
			continue
		}
		failed := ev.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0
		readable := failed || ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP) != 0
		writable := failed || ev.Events&unix.EPOLLOUT != 0
		if s.Ready(l, readable, writable) && p.sources[ev.Fd].number == ev.Pad && !l.isHot(s) {
			l.hot = append(l.hot, s)
		}
	}
	return others
}
