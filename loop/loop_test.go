package loop

import (
	"context"
	"sync"
	"testing"
	"time"
)

type alarm struct {
	fired int
	then  func(l *Loop)
}

func (a *alarm) Fire(l *Loop) {
	a.fired++
	if a.then != nil {
		a.then(l)
	}
}

// virtual is a loop whose clock the test moves.
func virtual(t *testing.T) (*Loop, *time.Duration) {
	now := new(time.Duration)
	l, err := New(0, func() time.Duration { return *now })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l, now
}

func TestTimersFireInTimeAndNeverEarly(t *testing.T) {
	l, now := virtual(t)
	for _, d := range []time.Duration{0, time.Millisecond, 15 * time.Millisecond, time.Second, 6 * time.Second, time.Minute} {
		var tm Timer
		var a alarm
		start := *now
		l.After(&tm, d, &a)
		for a.fired == 0 && *now < start+d+time.Second {
			if *now > start && *now < start+d && a.fired > 0 {
				t.Fatalf("%v fired early", d)
			}
			*now += time.Millisecond
			l.Turn(false)
		}
		late := *now - start - d
		if a.fired != 1 || late < 0 || late > 2*tick+time.Millisecond {
			t.Errorf("%v: fired %d times, %v late", d, a.fired, late)
		}
	}
}

func TestStoppedTimerDoesNotFire(t *testing.T) {
	l, now := virtual(t)
	var t1, t2 Timer
	var b alarm
	a := alarm{then: func(l *Loop) { l.Stop(&t2) }}
	l.After(&t2, 20*time.Millisecond, &b)
	l.After(&t1, 20*time.Millisecond, &a) // same slot, fires first
	*now += time.Second
	l.Turn(false)
	if a.fired != 1 || b.fired != 0 {
		t.Errorf("fired %d and %d times, want 1 and 0", a.fired, b.fired)
	}
}

func TestTimerMayRestartItself(t *testing.T) {
	l, now := virtual(t)
	var tm Timer
	a := &alarm{}
	a.then = func(l *Loop) { l.After(&tm, 50*time.Millisecond, a) }
	l.After(&tm, 50*time.Millisecond, a)
	for range 100 {
		*now += 10 * time.Millisecond
		l.Turn(false)
	}
	if a.fired < 14 || a.fired > 20 {
		t.Errorf("fired %d times in a second at 50 ms", a.fired)
	}
}

func TestPostFromManyGoroutines(t *testing.T) {
	l, err := New(0, System())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	count := 0 // touched by the loop only
	done := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				l.Post(TaskFunc(func(*Loop) {
					if count++; count == 8000 {
						close(done)
					}
				}))
			}
		})
	}
	wg.Go(func() { l.Run(ctx) })
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("tasks were lost")
	}
	cancel()
	wg.Wait()
}
