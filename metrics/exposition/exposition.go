// Package exposition gives the metrics of the process in the form that client_golang writes out, to whoever serves them over
// HTTP: the prometheus directive and the node's agent.
package exposition

import (
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/godwit-dns/godwit/metrics"
)

// Gatherer gives the metrics of the process, and those that belong to one configuration: they change with the endpoint's
// handler, at the moment when the configuration is published.
type Gatherer struct {
	Registry *metrics.Registry
	Fixed    []*dto.MetricFamily
}

// Gather reads everything once.
func (g *Gatherer) Gather() ([]*dto.MetricFamily, error) {
	all := slices.Clone(g.Fixed)
	for _, f := range g.Registry.Families() {
		out := &dto.MetricFamily{Name: ptr(f.Name), Help: ptr(f.Help), Type: kindOf(f.Kind).Enum()}
		for _, s := range f.Series() {
			out.Metric = append(out.Metric, metricOf(s))
		}
		if len(out.Metric) > 0 {
			all = append(all, out)
		}
	}
	slices.SortFunc(all, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return all, nil
}

func ptr[T any](v T) *T { return &v }

func kindOf(k metrics.Kind) dto.MetricType {
	switch k {
	case metrics.KindCounter:
		return dto.MetricType_COUNTER
	case metrics.KindHistogram:
		return dto.MetricType_HISTOGRAM
	}
	return dto.MetricType_GAUGE
}

func metricOf(series any) *dto.Metric {
	switch s := series.(type) {
	case *metrics.Counter:
		return &dto.Metric{Label: labels(s.Labels), Counter: &dto.Counter{Value: ptr(float64(s.Value()))}}
	case *metrics.Gauge:
		return Gauge(s.Value(), s.Labels)
	case *metrics.GaugeFunc:
		return Gauge(s.Value(), s.Labels)
	case *metrics.Histogram:
		return &dto.Metric{Label: labels(s.Labels), Histogram: histogram(s.Bounds, s.Read())}
	}
	panic("exposition: a series of an unknown type")
}

// Gauge gives one gauge of a family.
func Gauge(v float64, l []metrics.Label) *dto.Metric {
	return &dto.Metric{Label: labels(l), Gauge: &dto.Gauge{Value: &v}}
}

// labels are in the order of their names, as the format's readers expect.
func labels(l []metrics.Label) []*dto.LabelPair {
	pairs := make([]*dto.LabelPair, len(l))
	for i := range l {
		pairs[i] = &dto.LabelPair{Name: ptr(l[i].Name), Value: ptr(l[i].Value)}
	}
	slices.SortFunc(pairs, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
	return pairs
}

// zeroThreshold is the width of the zero bucket that client_golang declares, 2^-128: nothing but 0 is in it.
const zeroThreshold = 0x1p-128

// histogram has classic and native buckets; the text format leaves the native ones out.
func histogram(bounds []float64, s metrics.Snapshot) *dto.Histogram {
	h := &dto.Histogram{SampleCount: &s.Count, SampleSum: &s.Sum, Schema: ptr(int32(s.Schema)),
		ZeroThreshold: ptr(float64(zeroThreshold)), ZeroCount: &s.Zero}
	for i, n := range s.Classic {
		h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: &bounds[i], CumulativeCount: ptr(n)})
	}
	h.PositiveSpan, h.PositiveDelta = spans(s.Native)
	if len(h.PositiveSpan) == 0 { // tells an empty native histogram from none
		h.PositiveSpan = []*dto.BucketSpan{{Offset: ptr(int32(0)), Length: ptr(uint32(0))}}
	}
	return h
}

// gap is how many empty buckets are written out rather than begin another span.
const gap = 2

// spans writes buckets as the format has them: runs of neighbours, each count as the difference from the one before.
func spans(buckets map[int]uint64) (spans []*dto.BucketSpan, deltas []int64) {
	indices := make([]int, 0, len(buckets))
	for i := range buckets {
		indices = append(indices, i)
	}
	slices.Sort(indices)
	next, last := 0, int64(0)
	for _, i := range indices {
		if len(spans) == 0 || i-next > gap {
			spans = append(spans, &dto.BucketSpan{Offset: ptr(int32(i - next)), Length: ptr(uint32(0))})
			next = i
		}
		span := spans[len(spans)-1]
		for ; next < i; next++ {
			deltas, last = append(deltas, -last), 0
			*span.Length++
		}
		n := int64(buckets[i])
		deltas, last = append(deltas, n-last), n
		*span.Length++
		next++
	}
	return spans, deltas
}

// Handler serves all metrics of the process but those of a configuration. Version is the two lines that the program prints
// at start.
func Handler(registry *metrics.Registry, version string) http.Handler {
	own := &Gatherer{Registry: registry, Fixed: []*dto.MetricFamily{BuildInfo(version)}}
	return promhttp.HandlerFor(client.Gatherers{own, Process(false)}, promhttp.HandlerOpts{})
}

// Process gathers what client_golang knows of the Go runtime and of the process; allRuntime adds every metric that the
// runtime has.
func Process(allRuntime bool) client.Gatherer {
	r := client.NewRegistry()
	r.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if allRuntime {
		r.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsAll)))
	} else {
		r.MustRegister(collectors.NewGoCollector())
	}
	return r
}

// BuildInfo reads what the program is from the two lines it prints at start, "Godwit-1.2.3" being the first.
func BuildInfo(version string) *dto.MetricFamily {
	first, _, _ := strings.Cut(version, "\n")
	_, number, _ := strings.Cut(first, "-")
	revision := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value[:min(len(s.Value), 12)]
			}
		}
	}
	return &dto.MetricFamily{Name: ptr("coredns_build_info"), Type: dto.MetricType_GAUGE.Enum(),
		Help:   ptr("Always 1; the labels say what was built from what."),
		Metric: []*dto.Metric{Gauge(1, metrics.L("version", number, "revision", revision, "goversion", runtime.Version()))}}
}
