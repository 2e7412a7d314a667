package run

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// calls counts how its text was written.
type calls struct {
	mu sync.Mutex
	b  bytes.Buffer
	n  int
}

func (c *calls) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.b.Write(p)
}

func (c *calls) text() (string, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.b.String(), c.n
}

func TestLinesGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &calls{}
		p := newPrinter(out, 2)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { p.run(ctx) })
		p.print(0, []byte("a\n"))
		p.print(1, []byte("b\n"))
		p.print(0, []byte("c\n"))
		if text, _ := out.text(); text != "" {
			t.Errorf("written at once: %q", text)
		}
		time.Sleep(2 * gatherFor)
		if text, n := out.text(); text != "a\nc\nb\n" || n != 2 {
			t.Errorf("%q in %d writes", text, n)
		}
		p.print(1, []byte("d\n"))
		time.Sleep(2 * gatherFor)
		if text, _ := out.text(); !strings.HasSuffix(text, "d\n") {
			t.Errorf("the second round: %q", text)
		}
		p.print(0, []byte("last\n"))
		cancel()
		running.Wait()
		if text, _ := out.text(); !strings.HasSuffix(text, "last\n") {
			t.Errorf("the end: %q", text)
		}
	})
}

func TestLinesAreLostRatherThanWaitedFor(t *testing.T) {
	out := &calls{}
	p := newPrinter(out, 1)
	line := bytes.Repeat([]byte("x"), printLimit/4)
	for range 6 {
		p.print(0, line)
	}
	p.flush(nil)
	if text, _ := out.text(); !strings.HasSuffix(text, "[WARNING] 2 log lines were lost: the log is read more slowly than it is written\n") ||
		strings.Count(text, "x") != printLimit {
		t.Errorf("%d octets, the end %q", len(text), text[max(0, len(text)-100):])
	}
	p.print(0, []byte("next\n"))
	p.flush(nil)
	if text, _ := out.text(); !strings.HasSuffix(text, "written\nnext\n") {
		t.Error("nothing is written after a loss")
	}
}

func TestPrintDoesNotAllocate(t *testing.T) {
	p := newPrinter(&calls{}, 1)
	line := []byte(strings.Repeat("y", 100))
	for range 100 {
		p.print(0, line)
	}
	spare := p.flush(make([]byte, 0, 1<<16))
	if n := testing.AllocsPerRun(50, func() {
		p.print(0, line)
		spare = p.flush(spare)
	}); n > 0.5 {
		t.Errorf("%v allocations", n)
	}
}
