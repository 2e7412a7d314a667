package exposition

import (
	"fmt"
	"math/rand/v2"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSpansHoldEveryBucket(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		want := map[int]uint64{}
		for range r.IntN(20) {
			want[r.IntN(60)-30] = 1 + r.Uint64N(1000)
		}
		spans, deltas := spans(want)
		got, at, n := map[int]uint64{}, 0, int64(0)
		for _, s := range spans {
			at += int(s.GetOffset())
			for range s.GetLength() {
				n += deltas[0]
				deltas = deltas[1:]
				if n > 0 {
					got[at] = uint64(n)
				}
				at++
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || len(deltas) != 0 {
			t.Fatalf("got %v, want %v, %d deltas left", got, want, len(deltas))
		}
	}
}

func TestNativeHistogram(t *testing.T) {
	r := metrics.New(1)
	h := r.Histogram("h", "", []float64{1, 2})
	for _, v := range []float64{0, 0.5, 1.5, 1.5, 100} {
		h.Observe(0, v)
	}
	families, err := (&Gatherer{Registry: r}).Gather()
	if err != nil {
		t.Fatal(err)
	}
	var d *dto.Histogram = families[0].Metric[0].Histogram
	if d.GetSampleCount() != 5 || d.GetSampleSum() != 103.5 || d.GetZeroCount() != 1 || d.GetSchema() != 4 ||
		len(d.Bucket) != 2 || d.Bucket[1].GetCumulativeCount() != 4 {
		t.Errorf("got %v", d)
	}
}
