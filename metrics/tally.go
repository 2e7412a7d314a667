package metrics

import (
	"sync"
	"sync/atomic"
)

// Tally is a number that one goroutine counts in place of several counters that always count together. It costs one
// addition, on a cache line that the goroutine has at hand anyway; the counters get it when somebody reads them.
type Tally struct {
	n    atomic.Uint64
	told *told // nil before Registry.Tally
}

// told is what of a tally its counters have.
type told struct {
	tally *Tally
	n     uint64
	cells []*atomic.Uint64 // of the shard that several goroutines may write
	at    int              // in tallies
}

// Add adds n. Only one goroutine may.
func (t *Tally) Add(n uint64) { AddAlone(&t.n, n) }

// Value is what was counted in the tally itself.
func (t *Tally) Value() uint64 { return t.n.Load() }

// tallies are those that have been begun and not ended.
type tallies struct {
	mu  sync.Mutex
	all []*told // guarded by mu
}

// Tally begins t, whose count from now on is also that of the cells: Counter.Cell, Traffic.Cells.
func (r *Registry) Tally(t *Tally, cells ...*atomic.Uint64) {
	s := r.tallies
	s.mu.Lock()
	defer s.mu.Unlock()
	t.told = &told{tally: t, n: t.n.Load(), cells: cells, at: len(s.all)}
	s.all = append(s.all, t.told)
}

// EndTally gives the counters the rest of t, of which nothing more may be counted.
func (r *Registry) EndTally(t *Tally) {
	s := r.tallies
	s.mu.Lock()
	defer s.mu.Unlock()
	t.told.settle()
	last := len(s.all) - 1
	s.all[t.told.at] = s.all[last]
	s.all[t.told.at].at = t.told.at
	s.all[last] = nil
	s.all = s.all[:last]
}

// settle brings all counters up to date.
func (s *tallies) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.all {
		t.settle()
	}
}

func (t *told) settle() {
	n := t.tally.n.Load()
	if n == t.n {
		return
	}
	for _, c := range t.cells {
		c.Add(n - t.n)
	}
	t.n = n
}
