package metrics

import "testing"

func count(r *Registry) (n int) {
	for _, f := range r.Families() {
		n += len(f.Series())
	}
	return n
}

func TestTrialLeavesNothing(t *testing.T) {
	r := New(1)
	r.Counter("old", "").Inc(0)
	r.GaugeFunc("size", "", func() float64 { return 7 }, L("server", "a")...)
	for _, keep := range []bool{false, true} {
		try, trial := r.Try()
		try.Counter("old", "").Inc(0)
		try.Counter("new", "", L("server", "b")...).Inc(0)
		try.Gauge("level", "").Set(1)
		try.Histogram("h", "", []float64{1, 2})
		try.GaugeFunc("size", "", func() float64 { return 8 }, L("server", "a")...)
		if n := count(r); n != 5 {
			t.Fatalf("%d series during the trial", n)
		}
		want, value := 2, 7.0
		if keep {
			trial.Keep()
			want, value = 5, 8
		} else {
			trial.Undo()
		}
		trial.Undo() // and no second time
		if n := count(r); n != want {
			t.Errorf("%d series, want %d", n, want)
		}
		for _, f := range r.Families() {
			if f.Name == "size" && f.Series()[0].(*GaugeFunc).Value() != value {
				t.Errorf("the gauge asks the wrong function: %v", f.Series()[0].(*GaugeFunc).Value())
			}
		}
	}
	if r.Counter("old", "").Value() != 3 {
		t.Error("a counter that was there lost what it counted")
	}
}
