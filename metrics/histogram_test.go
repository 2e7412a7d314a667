package metrics

import (
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
		}
	}
	got, want := whole.Read(), plain.Read()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("ObserveInt:\n%+v\nObserve:\n%+v", got, want)
	}
	if want.Count != 30 || want.Zero != 4 {
		t.Errorf("%d observations and %d zeros, want 30 and 4", want.Count, want.Zero)
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

func BenchmarkObserveInt(b *testing.B) {
	h := New(1).Histogram("h", "", []float64{0, 100, 200, 300, 400, 511, 1023})
	for b.Loop() {
		h.ObserveInt(0, 123)
	}
}

func BenchmarkCount(b *testing.B) {
	name := func(uint16) string { return "X" }
	t := New(1).Traffic("dns://:53", ".", "", name, name)
	r := Report{Type: 28, Plugin: "cache", Request: 40, Response: 80, Seconds: -1}
	b.ReportAllocs()
	for b.Loop() {
		t.Count(0, &r)
	}
}
