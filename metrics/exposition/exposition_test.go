package exposition

import (
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
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

func TestHandler(t *testing.T) {
	r := metrics.New(1)
	r.Counter("c_total", "Help.", metrics.L("b", "2", "a", "1")...).Inc(0)
	r.GaugeFunc("g", "Help.", func() float64 { return 0.5 })
	w := httptest.NewRecorder()
	Handler(r, "Godwit-1.2.3\nlinux\n").ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{`c_total{a="1",b="2"} 1`, "g 0.5", `coredns_build_info{goversion="`, `version="1.2.3"} 1`, "go_goroutines ", "process_open_fds "} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%q is not in\n%s", want, w.Body)
		}
	}
}
