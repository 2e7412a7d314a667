//go:build !race

package upstream

import (
	"testing"
	"time"

	"github.com/godwit-dns/godwit/loop"
)

func TestUDPExchangeAllocatesNothing(t *testing.T) {
	l, err := loop.New(0, loop.System())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := &bench{t: t, loops: []*loop.Loop{l}, reg: newBench(t, 1).reg}
	// A server that changes one bit of the question: its own allocations would be counted.
	s := mirror(t)
	cfg := Config{Name: "test", MaxFails: 2, MaxAttempts: -1, Loops: 1, Metrics: b.reg, Expire: time.Second}
	g, err := New(cfg, []Target{{Addr: s, Text: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	w := new(flag)
	r := question("warm.example.org.")
	run := func() {
		w.done = false
		g.Ask(l, r, Options{Via: UDP}, w)
		l.FlushNow()
		for !w.done {
			l.Turn(true)
		}
		if w.err != nil {
			t.Fatal(w.err)
		}
	}
	for range 500 {
		run()
	}
	if n := testing.AllocsPerRun(300, run); n != 0 {
		t.Errorf("%v allocations an exchange", n)
	}
	g.member(l).close(true)
}

type flag struct {
	done bool
	err  error
}

func (f *flag) Done(a *Answer) { f.done, f.err = true, a.Err }
