package loop

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pipe is a readable file as a source.
type pipe struct {
	t     *testing.T
	r, w  int
	reads int
	again bool
	then  func(l *Loop)
}

func newPipe(t *testing.T) *pipe {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	p := &pipe{t: t, r: fds[0], w: fds[1]}
	t.Cleanup(func() {
		unix.Close(p.r)
		unix.Close(p.w)
	})
	return p
}

func (p *pipe) feed() {
	if _, err := unix.Write(p.w, []byte{1}); err != nil {
		p.t.Fatal(err)
	}
}

// Ready counts, and drains.
func (p *pipe) Ready(l *Loop, readable, _ bool) bool {
	p.reads++
	var b [16]byte
	_, _ = unix.Read(p.r, b[:])
	if p.then != nil {
		p.then(l)
	}
	return p.again
}

func TestHotSourcesMayRemoveEachOther(t *testing.T) {
	for _, victim := range []int{0, 1, 2} {
		l, _ := virtual(t)
		var pipes []*pipe
		for range 3 {
			p := newPipe(t)
			p.again = true
			if err := l.Add(p.r, p, false); err != nil {
				t.Fatal(err)
			}
			pipes = append(pipes, p)
			p.feed()
		}
		l.Turn(false)
		for i, p := range pipes {
			p.then = func(l *Loop) {
				if pipes[victim].again {
					pipes[victim].again = i == victim // what it says of itself does not matter any more
					l.Remove(pipes[victim].r)
				}
			}
		}
		l.Turn(false)
		before := pipes[victim].reads
		for range 3 {
			l.Turn(false)
		}
		if pipes[victim].reads != before {
			t.Errorf("%d was read after it was removed", victim)
		}
		for i, p := range pipes {
			if i != victim && p.reads < 4 {
				t.Errorf("%d was read %d times only", i, p.reads)
			}
		}
	}
}

func TestEventsOfARemovedFileAreLost(t *testing.T) {
	l, _ := virtual(t)
	a, b := newPipe(t), newPipe(t)
	fresh := newPipe(t)
	swap := func(victim *pipe) func(l *Loop) {
		return func(l *Loop) {
			l.Remove(victim.r)
			if err := unix.Dup3(fresh.r, victim.r, unix.O_CLOEXEC); err != nil { // the descriptor's number lives on
				t.Fatal(err)
			}
			if err := l.Add(victim.r, fresh, false); err != nil {
				t.Fatal(err)
			}
			a.then, b.then = nil, nil
		}
	}
	a.then, b.then = swap(b), swap(a)
	for _, p := range []*pipe{a, b} {
		if err := l.Add(p.r, p, false); err != nil {
			t.Fatal(err)
		}
		p.feed()
	}
	l.Turn(false)
	if a.reads+b.reads != 1 || fresh.reads != 0 {
		t.Errorf("read %d, %d and the new file %d times", a.reads, b.reads, fresh.reads)
	}
}

func TestPauseAndWatch(t *testing.T) {
	l, _ := virtual(t)
	p := newPipe(t)
	if err := l.Add(p.r, p, false); err != nil {
		t.Fatal(err)
	}
	l.Pause(p.r, false)
	p.feed()
	if l.Turn(false); p.reads != 0 {
		t.Error("a paused file was read")
	}
	l.Watch(p.r, false)
	if l.Turn(false); p.reads != 1 {
		t.Errorf("read %d times", p.reads)
	}
	l.Remove(p.r)
	p.feed()
	if l.Turn(false); p.reads != 1 {
		t.Error("a removed file was read")
	}
	if err := l.Add(1<<20, p, false); err == nil {
		t.Error("no error for a descriptor that is not open")
	}
}

type flusher struct{ n int }

func (f *flusher) Flush(*Loop) { f.n++ }

func TestFlushersAreCalledEachTurn(t *testing.T) {
	l, _ := virtual(t)
	var a, b flusher
	l.OnFlush(&a)
	l.OnFlush(&b)
	l.Turn(false)
	l.RemoveFlush(&a)
	l.Turn(false)
	l.FlushNow()
	if a.n != 1 || b.n != 3 {
		t.Errorf("flushed %d and %d times, want 1 and 3", a.n, b.n)
	}
}

func TestPostWakesAWaitingLoop(t *testing.T) {
	l, err := New(0, System())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(ctx)
	}()
	time.Sleep(1500 * time.Millisecond) // by now it waits through the runtime
	asked, done := time.Now(), make(chan time.Time, 1)
	l.Post(TaskFunc(func(*Loop) { done <- time.Now() }))
	if late := (<-done).Sub(asked); late > 200*time.Millisecond {
		t.Errorf("woken %v late", late)
	}
	cancel()
	<-ended
}

func TestLoopWithoutWorkUsesLittleTime(t *testing.T) {
	l, err := New(0, System())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 1300*time.Millisecond)
	defer cancel()
	var before, after unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
	l.Run(ctx)
	_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
	if used := time.Duration(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano()) * time.Nanosecond; used > 200*time.Millisecond {
		t.Errorf("an idle loop used %v of 1.3 s", used)
	}
}
