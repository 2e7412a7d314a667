//go:build !portable

package loop

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestLoopWaitsForASocketThatAloneIsBusy(t *testing.T) {
	l, now := virtual(t)
	s, other := newLine(t), newPipe(t)
	for fd, source := range map[int]Source{s.r: s, other.r: other} {
		if err := l.Add(fd, source, false); err != nil {
			t.Fatal(err)
		}
	}
	if drive(l, now, s, 4*directAfter, directMean+time.Microsecond); l.direct() {
		t.Fatal("waits for a socket that has something rarely")
	}
	for range 4 * directAfter {
		other.feed()
		if drive(l, now, s, 1, time.Microsecond); l.direct() {
			t.Fatal("waits for a socket that always comes with another file")
		}
	}
	for range 4 * directAfter {
		drive(l, now, s, 1, time.Microsecond)
		other.feed()
		if l.Turn(true); l.direct() {
			t.Fatal("waits for a socket that takes turns with another file")
		}
	}
	for range 4 * directAfter {
		other.feed()
		if l.Turn(true); l.direct() {
			t.Fatal("waits for a file that can't wait")
		}
	}
	if drive(l, now, s, directAfter, time.Microsecond); l.direct() || s.waits > 0 {
		t.Fatal("waits for a socket too early")
	}
	if drive(l, now, s, 2, time.Microsecond); !l.direct() || s.waits != 1 {
		t.Errorf("it was waited for %d times, want once", s.waits)
	}
	if want := 13*directAfter + 2; s.reads.Load() != int64(want) || other.reads != 12*directAfter {
		t.Errorf("%d and %d reads, want %d and %d", s.reads.Load(), other.reads, want, 12*directAfter)
	}
}

func TestHeldFilesKeepTheLoopInEpoll(t *testing.T) {
	l, now := virtual(t)
	s, server := newLine(t), newPipe(t)
	if err := l.Add(s.r, s, false); err != nil {
		t.Fatal(err)
	}
	if err := l.AddPatient(server.r, server, false); err != nil {
		t.Fatal(err)
	}
	for range 4 * judgeOver {
		server.feed()
		drive(l, now, s, 1, often/2)
	}
	if !l.poll.patient.held || l.direct() {
		t.Errorf("held is %t, and the loop waits for the socket: %t", l.poll.patient.held, l.direct())
	}
}

// running runs a loop with a line and a pipe beside the test, with as many processors as loops want.
func running(t *testing.T, s *line, other *pipe) (l *Loop, stop func()) {
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(max(3, before))
	l, err := New(0, System())
	if err != nil {
		t.Fatal(err)
	}
	for fd, source := range map[int]Source{s.r: s, other.r: other} {
		if err := l.Add(fd, source, false); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { l.Run(ctx) })
	return l, func() {
		cancel()
		run.Wait()
		l.Close()
		runtime.GOMAXPROCS(before)
	}
}

// ended tells whether what try does, and sees done, ever ended the loop's wait for the line before its limit.
func ended(t *testing.T, l *Loop, s *line, try func()) bool {
	for range 6 {
		var began time.Time
		await(t, "a wait for the socket", func() bool {
			began = time.Now()
			read := s.reads.Load()
			s.feed()
			await(t, "a read", func() bool { return s.reads.Load() > read })
			return l.direct() && s.waiting.Load() // for the next, which does not come
		})
		if try(); time.Since(began) < maxRawWait {
			return true
		}
	}
	return false
}

// A wait that nobody ends lasts longer than maxRawWait from its datagram on, however fast the machine is. It does in a process
// whose runtime preempts nobody; in others that ends waits too.
func TestOthersEndTheWait(t *testing.T) {
	const alone = "asyncpreemptoff=1"
	if os.Getenv("GODEBUG") != alone {
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		c.Env = append(os.Environ(), "GODEBUG="+alone)
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	s, other := newLine(t), newPipe(t)
	seen := make(chan bool)
	other.then = func(*Loop) { seen <- true }
	l, stop := running(t, s, other)
	defer stop()
	done := TaskFunc(func(*Loop) { seen <- true })
	var tm Timer
	later := TaskFunc(func(l *Loop) { l.After(&tm, 2*tick, &alarm{then: done}) })
	for what, try := range map[string]func(){
		"a task":  func() { l.Post(done) },
		"a timer": func() { l.Post(later) },
		"a file":  other.feed,
	} {
		if !ended(t, l, s, func() { try(); <-seen }) {
			t.Errorf("%s has to wait until the socket's limit", what)
		}
	}
	if !heardLate(t) {
		t.Error("a call that was made before the wait began is not heard")
	}
}

// heardLate tells whether a wait ever ended before its limit that began when there was a signal for it already.
func heardLate(t *testing.T) bool {
	l, now, s, other := directLine(t)
	s.before = func() {
		other.feed()
		for l.poll.direct.state.Load() != called { // not asleep: who wakes up may be on another thread
		}
		spin(4 * callAgain)
	}
	for range 6 {
		began := time.Now()
		if l.Turn(true); time.Since(began) < maxRawWait {
			return true
		}
		*now += time.Microsecond
	}
	return false
}

func TestLoopLeavesWhenOthersComeOften(t *testing.T) {
	l, now, s, other := directLine(t)
	window := func(calls int) {
		for i := range directJudge {
			if i < calls {
				other.feed()
				awaitCall(t, l)
			}
			drive(l, now, s, 1, time.Microsecond)
		}
	}
	l.poll.direct.turns = 0 // as a window begins
	for range 3 {
		if window(directCalls); !l.direct() {
			t.Fatal("left for few calls")
		}
	}
	reads := other.reads
	if window(directCalls + 1); l.direct() {
		t.Fatal("stays although others come often")
	}
	if other.reads != reads+directCalls+1 {
		t.Errorf("the other file was read %d times", other.reads-reads)
	}
	if drive(l, now, s, int(directAgain/time.Millisecond)-1, time.Millisecond); l.direct() {
		t.Fatal("came back at once")
	}
	if drive(l, now, s, 2*directAfter, time.Millisecond); !l.direct() {
		t.Fatal("never came back")
	}
}

func TestLoopLeavesASilentSocket(t *testing.T) {
	l, err := New(0, System())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := newLine(t)
	if err := l.Add(s.r, s, false); err != nil {
		t.Fatal(err)
	}
	await(t, "a wait for the socket", func() bool {
		s.feed()
		l.Turn(true)
		return l.direct()
	})
	for began := l.Now(); l.direct(); {
		if l.Turn(true); l.direct() && l.Now()-began >= maxRawWait {
			t.Fatal("stays although nothing came for as long as a wait may be")
		}
	}
}

// A loop without work waits through the runtime, whatever it did before.
func TestIdleLoopWaitsInEpoll(t *testing.T) {
	l, now, _, other := directLine(t)
	*now += idleAfter
	l.Tick()
	other.feed() // which ends that wait
	if l.Turn(true); l.direct() || other.reads != 1 {
		t.Errorf("waits for the socket: %t; the other file was read %d times", l.direct(), other.reads)
	}
}

// Another process that has the socket too may make its waits return at once.
func TestLoopLeavesASocketThatDoesNotWait(t *testing.T) {
	l, now, s, _ := directLine(t)
	if err := unix.SetNonblock(s.r, true); err != nil {
		t.Fatal(err)
	}
	for range 2 * directEmpty { // one in a while is the runtime's
		drive(l, now, s, 1, maxRawWait-time.Microsecond)
		if l.Turn(true); !l.direct() {
			t.Fatal("left a socket that has something often")
		}
	}
	for range 2 * directEmpty {
		if l.direct() {
			l.Turn(true)
		}
	}
	if l.direct() {
		t.Fatal("spins")
	}
	enter(t, l, now, s)
	if flags, err := unix.FcntlInt(uintptr(s.r), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("it will do so again: flags %#x, %v", flags, err)
	}
}

// The others may keep the loop from waiting at all, or be called for in each turn. The socket has its turns all the same.
func TestDirectSocketIsReadWithoutAWait(t *testing.T) {
	l, _, s, other := directLine(t)
	reads, waits := s.reads.Load(), s.waits
	var again TaskFunc
	again = func(l *Loop) { l.Post(again) }
	l.Post(again)
	for range 3 {
		s.feed()
		l.Turn(true)
	}
	if s.reads.Load() != reads+3 || s.waits != waits {
		t.Errorf("beside tasks it was read %d times", s.reads.Load()-reads)
	}
	other.then = func(*Loop) { other.feed() }
	other.feed()
	for range 3 {
		s.feed()
		awaitCall(t, l)
		l.Turn(false)
	}
	if s.reads.Load() != reads+6 || other.reads != 3 {
		t.Errorf("beside another file it was read %d times, and that %d", s.reads.Load()-reads-3, other.reads)
	}
	s.again = true
	for range 4 {
		s.feed()
	}
	for i := range int64(4) {
		if l.Turn(false); s.reads.Load() != reads+7+i {
			t.Errorf("when it had much it was read %d times in %d turns", s.reads.Load()-reads-6, i+1)
		}
	}
	if !l.direct() {
		t.Error("left")
	}
}

func TestWorkForOthersIsCounted(t *testing.T) {
	l, now, s, other := directLine(t)
	l.Measure()
	drive(l, now, s, 1, time.Millisecond)
	other.feed()
	awaitCall(t, l)
	other.then = func(*Loop) { *now += 3 * time.Second }
	before := l.Worked(*now)
	if l.Turn(true); l.Worked(*now) < before+3*time.Second {
		t.Errorf("worked %v, and %v before", l.Worked(*now), before)
	}
}

func TestWhatIsDoneToADirectFileIsSeenAtOnce(t *testing.T) {
	l, now, s, _ := directLine(t)
	reads := func(what string, want int64) {
		t.Helper()
		before := s.reads.Load()
		s.feed()
		for range 3 {
			l.Turn(false)
		}
		if got := s.reads.Load() - before; got != want {
			t.Errorf("%s: read %d times, want %d", what, got, want)
		}
	}
	l.Pause(s.r, false)
	reads("paused", 0)
	l.Watch(s.r, false)
	reads("watched again", 2)
	enter(t, l, now, s)
	l.Watch(s.r, true)
	if reads("watched for being writable", 1); s.writes != 3 {
		t.Errorf("it was writable %d times, want 3", s.writes)
	}
	if drive(l, now, s, 2*directAfter, time.Microsecond); l.direct() {
		t.Error("waits for a file that is watched for being writable")
	}
	l.Watch(s.r, false)
	enter(t, l, now, s)
	s.again = true
	s.then = func(l *Loop) { l.Remove(s.r) }
	drive(l, now, s, 1, time.Microsecond)
	s.then = nil
	reads("removed in its wait", 0)
	s.again = false
	if err := l.Add(s.r, s, false); err != nil {
		t.Fatal(err)
	}
	reads("added", 2)
	enter(t, l, now, s)
	l.Remove(s.r)
	reads("removed", 0)
}

// A file that pauses itself in the wake-up after which the loop would wait for it stays paused.
func TestPausedFileIsNotWaitedFor(t *testing.T) {
	l, now := virtual(t)
	s := newLine(t)
	if err := l.Add(s.r, s, false); err != nil {
		t.Fatal(err)
	}
	drive(l, now, s, directAfter, time.Microsecond)
	s.then = func(l *Loop) { l.Pause(s.r, false) }
	drive(l, now, s, 1, time.Microsecond)
	s.feed()
	if l.Turn(false); l.direct() || s.reads.Load() != directAfter+1 {
		t.Errorf("waits for a paused file: %t, read %d times", l.direct(), s.reads.Load())
	}
}

// The caller may be about to call when the loop leaves or ends. It must not call then: nobody would hear.
func TestCallThatComesLate(t *testing.T) {
	var delays []time.Duration
	for d := range 60 {
		delays = append(delays, time.Duration(d)*2*time.Microsecond)
	}
	l, now, s, other := directLine(t)
	for _, d := range delays {
		other.feed()
		spin(d)
		l.Pause(s.r, false)
		l.Watch(s.r, false)
		l.Turn(false)
		time.Sleep(100 * time.Microsecond)
		if l.direct() {
			t.Fatal("called for although it has left")
		}
		enter(t, l, now, s)
	}
	files := openFiles(t)
	for _, d := range delays {
		l, err := New(0, System())
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Add(s.r, s, false); err != nil {
			t.Fatal(err)
		}
		*now = 0
		l.clock = func() time.Duration { return *now }
		enter(t, l, now, s)
		l.Wake()
		spin(d)
		closed := make(chan bool)
		go func() {
			l.Close()
			close(closed)
		}()
		select {
		case <-closed:
		case <-time.After(20 * time.Second):
			t.Fatal("the caller does not end")
		}
	}
	if n := openFiles(t); n != files {
		t.Errorf("%d files are open, and %d were", n, files)
	}
}

func openFiles(t *testing.T) int {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// Steady datagrams, and tasks that come and go: the loop waits either way, and back.
func TestNothingIsLostBetweenBothWaits(t *testing.T) {
	s, other := newLine(t), newPipe(t)
	l, stop := running(t, s, other)
	var sent int64
	var end atomic.Bool
	var sender sync.WaitGroup
	sender.Go(func() {
		for ; !end.Load(); time.Sleep(20 * time.Microsecond) {
			for range 4 {
				if _, err := unix.Write(s.w, []byte{1}); err == nil {
					sent++
				}
			}
		}
	})
	var asked, done atomic.Int64
	count := TaskFunc(func(*Loop) { done.Add(1) })
	for range 3 {
		await(t, "a wait for the socket", l.direct)
		var posters sync.WaitGroup
		for range 4 {
			posters.Go(func() {
				for range 500 {
					l.Post(count)
					asked.Add(1)
				}
				for ; l.direct(); time.Sleep(20 * time.Microsecond) {
					l.Post(count)
					asked.Add(1)
				}
			})
		}
		posters.Wait()
	}
	await(t, "the tasks", func() bool { return done.Load() == asked.Load() })
	end.Store(true)
	sender.Wait()
	await(t, "the datagrams", func() bool { return s.reads.Load() == sent })
	stop()
	goleak.VerifyNone(t)
}
