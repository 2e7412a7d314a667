//go:build !portable

package loop

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A loop that only one socket keeps busy waits for it in the call that receives, and not in epoll: a wake-up then takes one
// call less, which at 20,000 queries a second is a tenth of a query. In steps:
//
//  1. When that socket alone woke the loop for a while, epoll tells of it no more, and the loop waits in its Wait
//     (poller.wokenBy).
//  2. A caller, another goroutine, waits for all else: the loop's files, its mailbox, and by a timer its timers. It ends the
//     loop's wait by a signal to its thread, the runtime's own for preemption, which means nothing else to the program.
//  3. The loop hands out what epoll has, and goes on with step 1's socket (poller.answer).
//  4. When others have something often, or the socket has nothing for a while, it goes back to epoll (poller.leave).
//
// A signal that comes between the loop's last look at the state and its wait is lost; so the caller goes on until it is heard.
// It is not heard while the loop is on another thread than it was: the runtime moves it seldom, and to ask for the thread costs
// a call, so that is done when a wait was interrupted and else now and then. Then a datagram ends the wait, or its limit.
const (
	directAfter  = 32                     // wake-ups by one socket alone
	directMean   = 2 * time.Millisecond   // between two of them, at most
	directJudge  = 64                     // turns of which the share of calls is taken
	directCalls  = directJudge / 8        // calls among them that are too many
	directThread = 16                     // turns after which the loop asks again which thread it is on
	directEmpty  = 16                     // waits in a row that find nothing and nobody ended: something is wrong with it
	directAgain  = 100 * time.Millisecond // until it is tried again after too many
	callAgain    = 50 * time.Microsecond  // between two signals
	callLongest  = time.Millisecond       // the same, when nobody heard
	directSignal = unix.SIGURG
)

// What the caller has to do. A call is for a loop that waits for a socket of its own: one that came when the loop has gone back
// to epoll would never be answered.
const (
	inEpoll  int32 = iota // nothing
	directly              // it calls when others have something
	called                // it goes on until it is heard
)

// Waiter is a Source that can wait in the kernel for what it reads. The loop may take O_NONBLOCK from its file, and does not
// put it back, so Ready says for itself that it does not wait.
type Waiter interface {
	Source
	// Wait is Ready for a file that may have nothing yet. It waits until there is something, a signal comes or the file's
	// SO_RCVTIMEO is over, by one raw call that the runtime does not know of, then calls Tick, and tells whether it found anything.
	Wait(l *Loop) (found, again bool)
}

// direct is the waiting for one socket.
type direct struct {
	s  Waiter // nil while the loop waits in epoll
	fd int

	last      int           // the file that woke the loop last, alone
	count     int           // wake-ups by it in a row
	since     time.Duration // when they began
	turns     int           // of waiting for the socket, since the share of calls was judged
	calls     int           // among them
	had       time.Duration // when the socket had something
	empty     int           // waits that found nothing since
	notBefore time.Duration // for the next time
	deadline  time.Duration // what the timer is set to
	waiting   bool          // until Tick is called
	tid       int32         // of the thread that the loop was on when it asked; 0 when it may be on another

	timer, watch, stop int          // of the caller: the loop's next timer, the instance that it waits in, its end; 0 before
	state              atomic.Int32 // inEpoll, directly or called
	thread             atomic.Int32 // that waits for the socket, or is about to; else 0
	caller             sync.WaitGroup
}

// wokenBy counts a wake-up by one file alone, and has the loop wait for it when there were many.
func (p *poller) wokenBy(l *Loop, fd int) {
	d := &p.direct
	if fd != d.last || p.patient.held {
		d.last, d.count, d.since = fd, 0, l.now
		return
	}
	if d.count++; d.count < directAfter {
		return
	}
	often := l.now-d.since < directAfter*directMean && l.now >= d.notBefore
	d.count, d.since = 0, l.now
	s, ok := p.sources[fd].s.(Waiter)
	if !ok || !often || p.sources[fd].events != interest(false) { // its Ready may have paused it
		return
	}
	if p.prepare(fd) != nil { // it stays in epoll
		d.notBefore = math.MaxInt64
		return
	}
	d.s, d.fd = s, fd
	d.turns, d.calls, d.had, d.empty, d.tid = 0, 0, l.now, 0, 0
	d.state.Store(directly)
	p.interested(p.ep, fd, 0)
	p.arm(unix.EPOLLIN | unix.EPOLLONESHOT)
}

// prepare makes a socket fit to be waited for, and starts the caller if there is none yet. The socket stays so: another
// process may have it too and wait for it. Who reads it without waiting has to say so (MSG_DONTWAIT).
func (p *poller) prepare(fd int) error {
	if p.direct.watch == 0 {
		if err := p.openCaller(); err != nil {
			return err
		}
	}
	limit := unix.NsecToTimeval(int64(maxRawWait)) // with a limit the call is not restarted after a signal, either
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return err
	}
	return unix.SetNonblock(fd, false)
}

// leave has epoll tell of the socket again.
func (p *poller) leave() {
	d := &p.direct
	d.state.Store(inEpoll)
	p.arm(0)
	p.interested(p.ep, d.fd, p.sources[d.fd].events)
	d.s, d.last = nil, -1
}

// arm has the caller told once that the loop's files have something, or not at all.
func (p *poller) arm(events uint32) {
	ev := unix.EpollEvent{Events: events, Fd: int32(p.ep)}
	_ = unix.EpollCtl(p.direct.watch, unix.EPOLL_CTL_MOD, p.ep, &ev)
}

// waitDirectly is wait for a loop that waits for a socket of its own.
func (p *poller) waitDirectly(l *Loop, timeout time.Duration) (n int, interrupted bool) {
	d, s := &p.direct, p.direct.s
	var found, again bool
	waits := timeout > 0 && p.begin(l, timeout)
	if waits {
		found, again = s.Wait(l)
		if interrupted = !found; interrupted {
			d.tid = 0 // the loop yields
		}
	} else if l.Tick(); !l.isHot(s) { // that one has had its turn
		again = s.Ready(l, true, false)
	}
	if again && d.s != nil && !l.isHot(s) { // unless it was taken out meanwhile
		l.hot = append(l.hot, s)
	}
	if found {
		n, d.had, d.empty = 1, l.now, 0
	}
	switch state := d.state.Load(); {
	case state == called:
		d.calls++
		n += p.answer(l)
	case state == directly && waits && !found:
		// Nobody came, or the runtime wanted a look at this thread, which it does every 10 ms. Or the wait returns at once.
		if d.empty++; d.empty > directEmpty || l.now-d.had >= maxRawWait {
			p.leave()
		}
	}
	p.judge(l.now)
	return n, interrupted
}

// begin makes ready for a wait, unless others have something already.
func (p *poller) begin(l *Loop, timeout time.Duration) bool {
	d := &p.direct
	if deadline := l.now + timeout; timeout < maxRawWait && deadline != d.deadline {
		d.deadline = deadline
		at := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(timeout))}
		_ = unix.TimerfdSettime(d.timer, 0, &at, nil)
	}
	if d.tid == 0 || d.turns%directThread == 0 {
		tid, _, _ := unix.RawSyscall(unix.SYS_GETTID, 0, 0, 0)
		d.tid = int32(tid)
	}
	d.waiting = true
	d.thread.Store(d.tid)
	if d.state.Load() == called {
		p.waited()
		return false
	}
	return true
}

// waited notes that a wait is over, if there was one: signals would hit other calls from here on.
func (p *poller) waited() {
	if p.direct.waiting {
		p.direct.waiting = false
		p.direct.thread.Store(0)
	}
}

// judge goes back to epoll if calls were too many.
func (p *poller) judge(now time.Duration) {
	d := &p.direct
	if d.turns++; d.turns < directJudge {
		return
	}
	if d.s != nil && d.calls > directCalls {
		p.leave()
		d.notBefore = now + directAgain
	}
	d.turns, d.calls = 0, 0
}

// answer hands out what the other files have.
func (p *poller) answer(l *Loop) int {
	d := &p.direct
	d.state.Store(directly)
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.ep), uintptr(unsafe.Pointer(&p.events[0])),
		uintptr(len(p.events)), 0, 0, 0)
	if errno != 0 {
		n = 0
	}
	p.hand(l, p.events[:n])
	if d.s != nil {
		p.arm(unix.EPOLLIN | unix.EPOLLONESHOT)
	}
	return int(n)
}

// openCaller makes the caller's files and starts it.
func (p *poller) openCaller() (err error) {
	d := &p.direct
	var files [3]int
	open := []func() (int, error){
		func() (int, error) { return unix.EpollCreate1(unix.EPOLL_CLOEXEC) },
		func() (int, error) {
			return unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
		},
		func() (int, error) { return unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC) },
	}
	defer func() {
		for _, fd := range files {
			if err != nil && fd > 0 {
				unix.Close(fd)
			}
		}
	}()
	for i, f := range open {
		if files[i], err = f(); err != nil {
			return fmt.Errorf("waiting for one socket: %w", err)
		}
	}
	for _, in := range []struct {
		ep, fd int
		events uint32
	}{{files[0], p.ep, 0}, {files[0], files[2], unix.EPOLLIN}, {p.ep, files[1], unix.EPOLLIN}} {
		ev := unix.EpollEvent{Events: in.events, Fd: int32(in.fd)}
		if err = unix.EpollCtl(in.ep, unix.EPOLL_CTL_ADD, in.fd, &ev); err != nil {
			return fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	d.watch, d.timer, d.stop = files[0], files[1], files[2]
	d.caller.Go(d.call)
	return nil
}

// close ends the caller.
func (d *direct) close() {
	if d.watch == 0 {
		return
	}
	d.state.Store(inEpoll)
	_, _ = unix.Write(d.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	d.caller.Wait()
	for _, fd := range []int{d.watch, d.timer, d.stop} {
		unix.Close(fd)
	}
}

// call is the caller: step 2.
func (d *direct) call() {
	var events [2]unix.EpollEvent
	for {
		n, err := unix.EpollWait(d.watch, events[:], -1)
		if err != nil { // interrupted
			continue
		}
		for _, ev := range events[:n] {
			if int(ev.Fd) == d.stop {
				return
			}
		}
		if !d.state.CompareAndSwap(directly, called) { // the loop looks itself, and tells of nothing until it is back
			continue
		}
		for pause := callAgain; d.state.Load() == called; pause = min(2*pause, callLongest) {
			if thread := d.thread.Load(); thread != 0 {
				_ = unix.Tgkill(unix.Getpid(), int(thread), directSignal)
			}
			time.Sleep(pause)
		}
	}
}
