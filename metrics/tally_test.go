package metrics

import (
	"testing"
	"time"
)

// What a tally counted is in all its counters whenever one is read, and stays there when it has ended.
func TestTallyIsItsCounters(t *testing.T) {
	r := New(1)
	trial, _ := r.Try()
	a, b := r.Counter("a", ""), trial.Counter("b", "")
	h := r.Histogram("h", "", []float64{100})
	var both, one Tally
	both.Add(7) // of before
	r.Tally(&both, a.Cell(), b.Cell(), h.cell(20), h.cell(2000))
	r.Tally(&one, a.Cell())
	check := func(wantA, wantB uint64, sum float64) {
		t.Helper()
		if s := h.Read(); a.Value() != wantA || b.Value() != wantB || s.Sum != sum || s.Count != 2*wantB || s.Classic[0] != wantB {
			t.Errorf("a %d, b %d, h %v, want %d, %d and a sum of %g", a.Value(), b.Value(), s, wantA, wantB, sum)
		}
	}
	check(0, 0, 0)
	both.Add(2)
	one.Add(1)
	check(3, 2, 2*2020)
	both.Add(1)
	r.EndTally(&both)
	one.Add(1)
	check(5, 3, 3*2020)
	trial.EndTally(&one)
	if n := len(r.tallies.all); n != 0 || both.Value() != 10 {
		t.Errorf("%d tallies are left; %d counted", n, both.Value())
	}
	check(5, 3, 3*2020)
}

// Short durations are counted to the next Tick, long ones as they are.
func TestObserveTime(t *testing.T) {
	for _, c := range []struct{ took, counted time.Duration }{
		{0, 0}, {Tick/2 - 1, 0}, {Tick / 2, Tick}, {10 * Tick, 10 * Tick}, {1234, 39 * Tick},
		{(smallInts-1)*Tick + 3, (smallInts - 1) * Tick}, {smallInts * Tick, smallInts * Tick}, {time.Second, time.Second},
	} {
		h, want := New(1).Durations("h", "", TimeBounds()), New(1).Histogram("w", "", TimeBounds())
		h.Shard(0).ObserveTime(c.took, 3)
		want.ObserveN(0, c.counted.Seconds(), 3)
		got, is := h.Read(), want.Read()
		if diff := got.Sum - is.Sum; diff > 1e-12 || diff < -1e-12 {
			t.Errorf("%v: sum %g, want %g", c.took, got.Sum, is.Sum)
		}
		if got.Sum = is.Sum; !equal(got, is) {
			t.Errorf("%v:\n%+v, want\n%+v", c.took, got, is)
		}
	}
}
