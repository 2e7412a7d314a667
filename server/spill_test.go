//go:build linux

package server

import (
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

// choice is a spill with a clock, loops and a kernel of its own.
type choice struct {
	spill
	now, done time.Duration
	refuses   bool
	asked     []bool // what the kernel was asked for
	socket    spiller
}

func newChoice() *choice {
	c := &choice{}
	c.spill.worked = func(time.Duration) time.Duration { return c.done }
	c.spill.choose = func(_ int, alone bool) bool {
		c.asked = append(c.asked, alone)
		return !c.refuses
	}
	c.socket = spiller{spill: &c.spill, turns: spillTurns}
	return c
}

// work lets time pass with loops that are busy for some percent of it, and datagrams every millisecond.
func (c *choice) work(d time.Duration, percent int) {
	for end := c.now + d; c.now < end; {
		c.now += time.Millisecond
		c.done += time.Millisecond * time.Duration(percent) / 100
		c.socket.dry(3, c.now)
	}
}

// flood is as many full turns as make the others join.
func (c *choice) flood() {
	for range spillTurns {
		c.socket.full(3, c.now)
	}
}

// is checks whether one loop is alone and how often the kernel has been asked.
func (c *choice) is(t *testing.T, when string, alone bool, asked int) {
	t.Helper()
	if c.alone != alone || len(c.asked) != asked {
		t.Fatalf("%s: alone is %v, the kernel was asked %v; want %v and %d requests", when, c.alone, c.asked, alone, asked)
	}
}

func TestSpillJoinsAndParts(t *testing.T) {
	c := newChoice()
	c.spill.begin(3, 0)
	c.is(t, "at first", true, 1)
	c.work(9*time.Second, 92)
	c.is(t, "with a load between the bounds", true, 1)
	for range spillTurns - 1 {
		c.socket.full(3, c.now)
	}
	c.work(time.Millisecond, 92)
	for range spillTurns - 1 {
		c.socket.full(3, c.now)
	}
	c.is(t, "after two short stalls", true, 1)
	c.work(2*time.Second, 92)
	c.is(t, "after ten seconds", true, 2) // renewed
	c.flood()
	c.is(t, "with a flood", false, 3)
	c.flood()
	c.is(t, "with more of it", false, 3)
	c.work(5*time.Second, 92)
	c.is(t, "together with as much as before", false, 3)
	c.work(2*time.Second, 89)
	c.is(t, "with less", true, 4)
	c.work(2*time.Second, 97)
	c.is(t, "with too much for one", false, 5)
	c.work(time.Second, 170)
	c.flood()
	c.is(t, "with too much for all", false, 6) // another process may have chosen
}

// TestSpillWaitsLongerAfterVain checks that bursts which come again and again find the loops together.
func TestSpillWaitsLongerAfterVain(t *testing.T) {
	c := newChoice()
	c.spill.begin(3, 0)
	for _, window := range []time.Duration{2, 4, 8, 16, 32, 60, 60} {
		c.flood()
		c.work(window*time.Second-5*time.Millisecond, 10)
		if c.alone {
			t.Fatalf("alone before %d seconds", window)
		}
		c.work(1010*time.Millisecond, 10)
		if !c.alone {
			t.Fatalf("not alone after %d seconds", window)
		}
	}
	c.work(spillLasting, 10)
	c.flood()
	c.work(2*time.Second, 10)
	if !c.alone {
		t.Fatal("a long time alone is not forgotten")
	}
}

func TestSpillWithoutKernel(t *testing.T) {
	c := newChoice()
	c.refuses = true
	c.spill.begin(3, 0)
	c.work(time.Minute, 5)
	c.flood()
	c.is(t, "with a kernel that refuses", false, 1)
}

func TestSpillLeaves(t *testing.T) {
	c := newChoice()
	c.spill.begin(3, 0)
	c.socket.leave(3)
	c.socket.leave(4)
	c.flood()
	c.work(time.Minute, 5)
	c.is(t, "after leaving", false, 2)
	c.spill.begin(3, c.now)
	c.is(t, "when it goes on", true, 3)
}

// TestOneLoopWhileItCan asks from many sockets: one loop answers all of them, until it is stalled and finds more than it
// can bear, and again when that is over. Nothing is lost meanwhile.
func TestOneLoopWhileItCan(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(24)) // loops keep their processors while they wait
	cases := map[string]func(t *testing.T) (*rig, string){
		"IPv4":     func(t *testing.T) (*rig, string) { return newRig(t, "127.0.0.1"), "127.0.0.1" },
		"IPv6":     func(t *testing.T) (*rig, string) { return newRig(t, "::1"), "::1" },
		"wildcard": func(t *testing.T) (*rig, string) { return newRig(t, ""), "127.0.0.1" },
		"four": func(t *testing.T) (*rig, string) {
			return startRig(t, freePort(t), Options{Loops: 4}, "127.0.0.1"), "127.0.0.1"
		},
		"replaced": func(t *testing.T) (*rig, string) { // the last socket of the new listener gets the first's place
			r := newRig(t, "")
			r.listen("0.0.0.0")
			return r, "127.0.0.1"
		},
		"inherited": func(t *testing.T) (*rig, string) {
			old := newRig(t, "127.0.0.1")
			inherited, err := old.s.Export()
			if err != nil {
				t.Fatal(err)
			}
			r := startRig(t, old.port, Options{Loops: 3, Inherited: inherited}, "127.0.0.1")
			old.s.Pause()
			old.stop()
			r.s.Pause()
			r.s.Continue() // at once, in place of when it would ask again
			return r, "127.0.0.1"
		},
	}
	t.Run("all", func(t *testing.T) {
		for name, start := range cases {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				spillLive(t, start)
			})
		}
	})
}

func spillLive(t *testing.T, start func(t *testing.T) (*rig, string)) {
	r, host := start(t)
	clients := make([]net.Conn, 32)
	for i := range clients {
		clients[i] = r.dial("udp", host)
	}
	if n := r.share(clients); n != 1 {
		t.Errorf("%d loops answer a quiet load", n)
	}
	r.stall(clients)
	if n := r.share(clients); n < 2 {
		t.Error("one loop answers alone after a burst")
	}
	r.until("one loop answers alone again", func() bool { return r.share(clients) == 1 })
}

// share asks once from each client and gives the number of loops that answered.
func (r *rig) share(clients []net.Conn) (loops int) {
	r.t.Helper()
	before := r.datagrams()
	for i, c := range clients {
		if exchange(r.t, c, query(fmt.Sprintf("share%d.example.", i), uint16(i), 0), 5*time.Second) == nil {
			r.t.Fatal("a query was lost")
		}
	}
	for i, n := range r.datagrams() {
		if n > before[i] {
			loops++
		}
	}
	return loops
}

// datagrams gives what each loop has received.
func (r *rig) datagrams() (all []uint64) {
	for _, w := range r.s.workers {
		all = append(all, w.datagrams.Value())
	}
	return all
}

// stall holds all loops while more queries come than one of them may find, and waits for every answer.
func (r *rig) stall(clients []net.Conn) {
	r.t.Helper()
	var held, end sync.WaitGroup
	held.Add(len(r.s.workers))
	end.Add(1)
	turns := 0
	for _, w := range r.s.workers {
		for _, l := range r.s.listeners {
			for _, u := range l.udp[w.Loop.Index()] {
				turns = u.spill.turns
			}
		}
		w.Loop.Post(taskFunc(func() {
			held.Done()
			end.Wait()
		}))
	}
	held.Wait()
	each := (turns+1)*batch*rounds/len(clients) + 1
	for i := range each {
		for _, c := range clients {
			write(r.t, c, query("burst.example.", uint16(i), 0))
		}
	}
	end.Done()
	b := make([]byte, 512)
	for _, c := range clients {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		for i := range each {
			if _, err := c.Read(b); err != nil {
				r.t.Fatalf("answer %d of %d: %v", i, each, err)
			}
		}
	}
}
