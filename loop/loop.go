// Package loop is the event loop under every query: one goroutine with its own epoll instance, timers and a mailbox.
//
// A loop owns all that is registered with it. Its files are never known to Go's netpoller, and it waits, receives and
// sends by raw system calls, outside the runtime's bookkeeping: below saturation the wake-up is the cost of a query, and
// the runtime doubles it. The price: a loop keeps its processor while it waits, so GOMAXPROCS must be at least the
// number of loops plus two; each turn passes an ordinary function call (a preemption check), an interrupted wait yields, and no
// raw wait is longer than 100 ms. A loop that only one socket keeps awake waits in the call that receives, which another
// goroutine ends by a signal (direct_linux.go); such a socket is no longer non-blocking. A loop that had nothing to do for
// a second waits through the runtime instead.
//
// One turn, in order:
//
//  1. the tasks that other goroutines posted,
//  2. the sockets that had something last time, tried again without asking epoll,
//  3. epoll, at once when step 2 found work, else until the next timer; or the only busy socket, in the same way, and
//     epoll if there was a signal,
//  4. the timers that are due,
//  5. the flushers: what was gathered for sending leaves.
package loop

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Task is work posted to a loop from elsewhere.
type Task interface {
	// Do runs on the loop's goroutine.
	Do(l *Loop)
}

// TaskFunc makes a function a Task.
type TaskFunc func(l *Loop)

// Do calls f.
func (f TaskFunc) Do(l *Loop) { f(l) }

// Source is a registered file. Its methods run on the loop's goroutine.
type Source interface {
	// Ready is called when the file may be read or written (or has failed). It reports whether it found so much that it
	// should be tried again next turn without being asked for.
	Ready(l *Loop, readable, writable bool) (again bool)
}

// Flusher gathers output during a turn and sends it at the turn's end.
type Flusher interface{ Flush(l *Loop) }

// Clock is the time a loop reads: monotonic, as a duration since some fixed start.
type Clock func() time.Duration

// System is the clock of the machine.
func System() Clock {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

// Loop is one event loop. All methods but Post, Index, Wake and Worked belong to its own goroutine.
type Loop struct {
	index int
	clock Clock
	now   time.Duration

	poll  poller
	wheel wheel
	hot   []Source // tried again next turn
	flush []Flusher
	quiet time.Duration // when the last work was done

	measured bool
	resting  bool         // since the clock was last read
	mark     atomic.Int64 // while resting the time worked so far, else that less the time now, which is negative

	mu     sync.Mutex
	posted []Task // guarded by mu
	closed bool   // guarded by mu
	taken  []Task // the other half of the pair, owned by the loop
	awake  atomic.Bool
}

// New makes a loop. Index names its shard of everything that is kept per loop, from 0.
func New(index int, clock Clock) (*Loop, error) {
	l := &Loop{index: index, clock: clock, now: clock()}
	l.wheel.init(l.now)
	if err := l.poll.open(); err != nil {
		return nil, err
	}
	return l, nil
}

// Close releases the loop's own files. Registered files belong to whoever registered them.
func (l *Loop) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.poll.close()
}

// Index is the loop's number, from 0.
func (l *Loop) Index() int { return l.index }

// Now is the monotonic time as read at the last receive or wake-up of this turn.
func (l *Loop) Now() time.Duration { return l.now }

// Tick reads the clock again and gives the new Now.
func (l *Loop) Tick() time.Duration {
	l.now = l.clock()
	l.poll.waited()
	if l.resting {
		l.resting = false
		l.mark.Add(-int64(l.now))
	}
	return l.now
}

// Measure has the loop note when it waits, for Worked. It costs a look at the clock before each wait. It is called before
// Run.
func (l *Loop) Measure() {
	l.measured = true
	l.mark.Store(-int64(l.now))
}

// rest notes that from now on the loop waits.
func (l *Loop) rest() {
	if l.measured && !l.resting {
		l.resting = true
		l.mark.Add(int64(l.clock()))
	}
}

// Worked gives how long the loop has not been waiting since Measure, until now by its clock. Any goroutine may ask.
func (l *Loop) Worked(now time.Duration) time.Duration {
	mark := time.Duration(l.mark.Load())
	if mark < 0 {
		return now + mark
	}
	return mark
}

// Post hands a task to the loop, from any goroutine. Tasks run in the order in which they were posted; those posted
// while the loop is closing are dropped with it.
func (l *Loop) Post(t Task) {
	l.mu.Lock()
	l.posted = append(l.posted, t)
	l.mu.Unlock()
	l.Wake()
}

// Wake ends the loop's wait, from any goroutine.
func (l *Loop) Wake() {
	if l.awake.CompareAndSwap(false, true) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.closed { // the number of its file may be another's by then
			l.poll.wake()
		}
	}
}

// OnFlush adds a flusher, to be called at the end of every turn.
func (l *Loop) OnFlush(f Flusher) { l.flush = append(l.flush, f) }

// RemoveFlush takes a flusher away again.
func (l *Loop) RemoveFlush(f Flusher) {
	for i, g := range l.flush {
		if g == f {
			l.flush = append(l.flush[:i:i], l.flush[i+1:]...)
			return
		}
	}
}

// FlushNow sends what was gathered, before something slow.
func (l *Loop) FlushNow() {
	for _, f := range l.flush {
		f.Flush(l)
	}
}

// maxRawWait bounds a wait that the runtime does not know of: a collection can't finish beside it.
const maxRawWait = 100 * time.Millisecond

// idleAfter is how long without work until waits go through the runtime.
const idleAfter = time.Second

// Run turns the loop until ctx is done.
func (l *Loop) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, l.Wake)
	defer stop()
	l.quiet = l.Tick()
	for ctx.Err() == nil {
		l.Turn(true)
	}
}

// Turn does one turn. With wait it may sleep until the next timer or event; without, it only does what is ready. Tests
// with a clock of their own call it directly.
func (l *Loop) Turn(wait bool) (worked bool) {
	worked = l.tasks()
	worked = l.tryHot() || worked
	timeout := time.Duration(0)
	if wait && !worked {
		timeout = l.wheel.until(l.now)
	}
	raw := l.now-l.quiet < idleAfter
	if raw {
		timeout = min(timeout, maxRawWait)
	}
	if timeout > 0 {
		l.rest()
	}
	n, interrupted := l.poll.wait(l, timeout, raw)
	if interrupted {
		runtime.Gosched()
	}
	worked = l.wheel.advance(l, l.now) || worked || n > 0
	l.FlushNow()
	if worked {
		l.quiet = l.now
	}
	return worked
}

// tasks runs what was posted before the turn began.
func (l *Loop) tasks() bool {
	if !l.awake.Load() {
		return false
	}
	l.awake.Store(false)
	l.mu.Lock()
	l.taken, l.posted = l.posted, l.taken[:0]
	l.mu.Unlock()
	for i, t := range l.taken {
		t.Do(l)
		l.taken[i] = nil
	}
	return len(l.taken) > 0
}

// tryHot reads the sockets that were busy in the last turn: under load epoll has nothing to tell. A source may remove
// itself and others while it is read, which leaves their places empty.
func (l *Loop) tryHot() bool {
	if len(l.hot) == 0 {
		return false
	}
	l.Tick()
	for i := range l.hot {
		if s := l.hot[i]; s != nil && !s.Ready(l, true, false) {
			l.hot[i] = nil
		}
	}
	keep := l.hot[:0]
	for _, s := range l.hot {
		if s != nil {
			keep = append(keep, s)
		}
	}
	clear(l.hot[len(keep):])
	l.hot = keep
	return true
}

func (l *Loop) isHot(s Source) bool {
	for _, h := range l.hot {
		if h == s {
			return true
		}
	}
	return false
}

// forget takes a source out of the list of busy ones.
func (l *Loop) forget(s Source) {
	for i, h := range l.hot {
		if h == s {
			l.hot[i] = nil
			return
		}
	}
}
