//go:build !portable

package loop

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A loop that asks other servers would be woken for a query, and again for its reply. While the other files wake it often
// anyway the patient ones are held: they wake nobody, and are looked at whenever somebody has. A wake-up costs as much as
// the rest of a query.
//
// They are only held while they have something often, too: to look at them costs a call each time.
//
// A timer of its own looks for replies that nobody came for. Setting an earlier end to each wait would cost nearly what
// is saved: the clock of a virtual machine is set by its host.
const (
	often     = 150 * time.Microsecond // between two wake-ups by others: the mean below which files are held
	judgeOver = 32                     // wake-ups of which the mean is taken
	worthIt   = judgeOver / 4          // patient files that had something meanwhile
	maxHeld   = time.Millisecond       // how long a reply may be held
	holdAgain = 100 * time.Millisecond // after others were silent for as long: they may wait for what is held
)

// patience is the files that can wait for others.
type patience struct {
	ep, timer int // 0 before there is such a file
	held      bool
	count     int           // wake-ups by others
	since     time.Duration // when they began to be counted
	had       int           // patient files that had something since
	heard     bool          // others woke the loop since the timer last did
	notBefore time.Duration // for the next hold
	events    [64]unix.EpollEvent
}

func (q *patience) close() {
	if q.ep > 0 {
		unix.Close(q.timer)
		unix.Close(q.ep)
	}
}

// AddPatient is Add for a file that may be read up to a millisecond late when the loop is busy with others.
func (l *Loop) AddPatient(fd int, s Source, write bool) error {
	p := &l.poll
	if p.patient.ep == 0 {
		if err := p.openPatient(); err != nil {
			return err
		}
	}
	return p.add(p.patient.ep, fd, s, write)
}

func (p *poller) openPatient() error {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll_create: %w", err)
	}
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		unix.Close(ep)
		return fmt.Errorf("timerfd_create: %w", err)
	}
	for _, fd := range []int{ep, timer} {
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if err := unix.EpollCtl(p.ep, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
			unix.Close(timer)
			unix.Close(ep)
			return fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	p.patient.ep, p.patient.timer = ep, timer
	return nil
}

// patients hands out what patient files have, without waiting, and tells how many had anything.
func (p *poller) patients(l *Loop) int {
	q := &p.patient
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(q.ep), uintptr(unsafe.Pointer(&q.events[0])),
		uintptr(len(q.events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	q.had += int(n)
	p.hand(l, q.events[:n])
	return int(n)
}

// woken counts a wake-up by others, and from time to time judges whether they come often enough, and replies too.
func (p *poller) woken(now time.Duration) {
	q := &p.patient
	q.heard = true
	if q.count++; q.count < judgeOver {
		return
	}
	busy := now-q.since < judgeOver*often && q.had >= worthIt && now >= q.notBefore
	q.count, q.had, q.since = 0, 0, now
	if busy != q.held {
		p.hold(busy)
	}
}

// ticked looks at the end of each maxHeld whether others are still there.
func (p *poller) ticked(now time.Duration) {
	q := &p.patient
	var b [8]byte
	_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(q.timer), uintptr(unsafe.Pointer(&b[0])), 8)
	if q.held && !q.heard {
		q.notBefore = now + holdAgain
		p.hold(false)
	}
	q.heard = false
}

// hold makes the patient files wake nobody, or the loop again.
func (p *poller) hold(on bool) {
	q := &p.patient
	q.held, q.heard = on, on
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(q.ep)}
	var every unix.ItimerSpec
	if on {
		ev.Events = 0
		every.Interval = unix.NsecToTimespec(int64(maxHeld))
		every.Value = every.Interval
	}
	_ = unix.EpollCtl(p.ep, unix.EPOLL_CTL_MOD, q.ep, &ev) // as Watch
	_ = unix.TimerfdSettime(q.timer, 0, &every, nil)
}
