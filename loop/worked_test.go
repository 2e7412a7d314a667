package loop

import (
	"testing"
	"time"
)

// TestWorked moves the clock while a task works and while the loop waits: only the first counts.
func TestWorked(t *testing.T) {
	l, now := virtual(t)
	*now = time.Second
	l.Turn(false)
	if w := l.Worked(*now); w != 0 {
		t.Errorf("a loop that is not measured has worked %v", w)
	}
	l.Measure()
	l.Post(TaskFunc(func(l *Loop) {
		l.Tick()
		*now += 3 * time.Second
		if w := l.Worked(*now); w != 3*time.Second {
			t.Errorf("in a task: %v", w)
		}
	}))
	l.Turn(true)
	*now += time.Second
	if w := l.Worked(*now); w != 4*time.Second {
		t.Errorf("between turns: %v", w)
	}
	var tm Timer
	l.After(&tm, 20*time.Millisecond, &alarm{})
	l.Turn(true) // finds nothing, and waits for the timer
	*now += time.Minute
	l.rest()
	*now += time.Minute
	if w := l.Worked(*now); w != time.Minute+4*time.Second {
		t.Errorf("after a rest: %v", w)
	}
}
