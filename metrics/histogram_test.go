package metrics

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

// Whole numbers are counted apart and sorted later: what is read must not tell the difference.
func TestObserveIntCountsAsObserve(t *testing.T) {
	r := New(1)
	bounds := []float64{0, 100, 200, 511, 1023, 2047}
	whole, plain := r.Histogram("whole", "", bounds), r.Histogram("plain", "", bounds)
	for _, shard := range []int{0, r.Shared()} {
		for _, v := range []int{0, 0, 1, 2, 99, 100, 101, 511, 512, 1022, 1023, 1024, 2047, 2048, 65535} {
			whole.ObserveInt(shard, v)
			plain.Observe(shard, float64(v))
			whole.cell(v).Add(2)
			plain.ObserveN(shard, float64(v), 2)
		}
	}
	got, want := whole.Read(), plain.Read()
	if !equal(got, want) {
		t.Errorf("ObserveInt:\n%+v\nObserve:\n%+v", got, want)
	}
	if want.Count != 90 || want.Zero != 12 {
		t.Errorf("%d observations and %d zeros, want 90 and 12", want.Count, want.Zero)
	}
}

func equal(a, b Snapshot) bool { return reflect.DeepEqual(a, b) }

// A shard has places for so many greater numbers and no more.
func TestCellsAreBounded(t *testing.T) {
	h := New(1).Histogram("h", "", []float64{100})
	for v := range maxLarge {
		if h.cell(smallInts+v) == nil {
			t.Fatalf("no place for %d numbers", v)
		}
	}
	if h.cell(smallInts+maxLarge) != nil || h.cell(smallInts) == nil {
		t.Error("a new number has a place, or a known one has none")
	}
}

// The bucket of a value is the one whose bounds it lies between.
func TestNativeIndexIsBetweenItsBounds(t *testing.T) {
	bound := func(i int) float64 { return math.Exp2(float64(i) / (1 << nativeSchema)) }
	random := rand.New(rand.NewPCG(1, 2))
	for range 100000 {
		v := math.Exp2(random.Float64()*44 - 22)
		if i := nativeIndex(v); v > bound(i) || v <= bound(i-1) {
			t.Fatalf("%g is in bucket %d, between %g and %g", v, i, bound(i-1), bound(i))
		}
	}
	for e := -20; e <= 20; e++ {
		if i := nativeIndex(math.Exp2(float64(e))); i != e<<nativeSchema {
			t.Errorf("2^%d is in bucket %d", e, i)
		}
	}
	if nativeIndex(math.MaxFloat64) != nativeHigh || nativeIndex(math.SmallestNonzeroFloat64) != nativeLow {
		t.Error("what is beyond the ends is not in the buckets at the ends")
	}
}

func TestColumnsLeadToMonitoredTypes(t *testing.T) {
	for typ, i := range columns {
		if int(i) < len(monitored) && int(monitored[i]) != typ {
			t.Errorf("type %d has the column of type %d", typ, monitored[i])
		}
	}
	for i, typ := range monitored {
		if int(columns[typ]) != i {
			t.Errorf("type %d has column %d, want %d", typ, columns[typ], i)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	h := New(1).Histogram("h", "", TimeBounds())
	for b.Loop() {
		h.ObserveN(0, 0.0000123, 3)
	}
}

func BenchmarkObserveInt(b *testing.B) {
	h := New(1).Histogram("h", "", []float64{0, 100, 200, 300, 400, 511, 1023})
	for b.Loop() {
		h.ObserveInt(0, 123)
	}
}

func BenchmarkCount(b *testing.B) {
	name := func(uint16) string { return "X" }
	t := New(1).Traffic("dns://:53", ".", "", name, name)
	r := Report{Type: 28, Plugin: "cache", Request: 40, Response: 80, Took: -1}
	b.ReportAllocs()
	for b.Loop() {
		t.Count(0, &r)
	}
}
