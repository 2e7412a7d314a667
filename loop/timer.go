package loop

import (
	"math/bits"
	"time"
)

// tick is the resolution of timers: they fire up to one tick late, never early.
const tick = 10 * time.Millisecond

// slots is the size of the wheel; a timer further away than one round is looked at once a round.
const slots = 512

// Alarm is what a timer calls.
type Alarm interface {
	// Fire runs on the loop's goroutine. The timer is stopped by then and may be started again.
	Fire(l *Loop)
}

// Timer is one entry of a loop's wheel, embedded in what it belongs to so that starting it allocates nothing. Its zero
// value is a stopped timer. It belongs to the loop that started it.
type Timer struct {
	alarm      Alarm
	at         int64 // tick at which it fires
	slot       int
	next, prev *Timer
	running    bool
}

// Running reports whether the timer is started and has not fired.
func (t *Timer) Running() bool { return t.running }

// After starts t to call a after d; a running timer is moved.
func (l *Loop) After(t *Timer, d time.Duration, a Alarm) {
	l.Stop(t)
	t.alarm = a
	t.at = int64((l.now+d+tick-1)/tick) + 1
	if t.at <= l.wheel.done {
		t.at = l.wheel.done + 1
	}
	l.wheel.add(t)
}

// Stop stops t; stopping a stopped timer does nothing.
func (l *Loop) Stop(t *Timer) {
	if t.running {
		l.wheel.remove(t)
	}
}

// wheel is a hashed timing wheel with a bitmap of its non-empty slots.
type wheel struct {
	slot [slots]*Timer
	used [slots / 64]uint64
	done int64 // the last tick that was handled
	n    int
}

func (w *wheel) init(now time.Duration) { w.done = int64(now / tick) }

func (w *wheel) add(t *Timer) {
	t.slot = int(t.at % slots)
	t.running = true
	t.prev, t.next = nil, w.slot[t.slot]
	if t.next != nil {
		t.next.prev = t
	}
	w.slot[t.slot] = t
	w.used[t.slot/64] |= 1 << (t.slot % 64)
	w.n++
}

func (w *wheel) remove(t *Timer) {
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		w.slot[t.slot] = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	if w.slot[t.slot] == nil {
		w.used[t.slot/64] &^= 1 << (t.slot % 64)
	}
	t.next, t.prev, t.running = nil, nil, false
	w.n--
}

// until gives the time to the next slot with a timer in it; an hour when there is none.
func (w *wheel) until(now time.Duration) time.Duration {
	if w.n == 0 {
		return time.Hour
	}
	first := int((w.done + 1) % slots)
	for i := 0; i <= len(w.used); i++ {
		word := (first/64 + i) % len(w.used)
		b := w.used[word]
		if i == 0 {
			b &= ^uint64(0) << (first % 64)
		}
		if b != 0 {
			s := word*64 + bits.TrailingZeros64(b)
			ahead := (s - first + slots) % slots
			return max(0, time.Duration(w.done+1+int64(ahead))*tick-now)
		}
	}
	return 0
}

// advance fires what is due at now, each timer at most once a call.
func (w *wheel) advance(l *Loop, now time.Duration) bool {
	end := int64(now / tick)
	fired := false
	if end-w.done > slots && w.n == 0 {
		w.done = end
	}
	for w.done < end {
		w.done++
		s := int(w.done % slots)
		if w.used[s/64]&(1<<(s%64)) == 0 {
			continue
		}
		for again := true; again; { // firing may start and stop others in this slot
			again = false
			for t := w.slot[s]; t != nil; t = t.next {
				if t.at <= w.done {
					w.remove(t)
					t.alarm.Fire(l)
					fired, again = true, true
					break
				}
			}
		}
	}
	return fired
}
