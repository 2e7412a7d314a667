// Package metrics counts. Handles are resolved when a configuration is built, every loop has a shard of its own, and
// everything is added up at scrape: counting costs a query no lock, no lookup of labels and no allocation.
package metrics

import (
	"math"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
)

// Label is one label of a metric.
type Label struct{ Name, Value string }

// L makes labels from pairs: L("server", s, "zone", z). An odd number of words is a mistake in the program.
func L(pairs ...string) []Label {
	if len(pairs)%2 != 0 {
		panic("metrics: labels come in pairs")
	}
	labels := make([]Label, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		labels = append(labels, Label{pairs[i], pairs[i+1]})
	}
	return labels
}

// Kind is a metric family's type.
type Kind uint8

// Kinds.
const (
	KindCounter Kind = iota + 1
	KindGauge
	KindHistogram
)

// Registry holds every metric of the process. It outlives reloads: asking for a metric that exists gives the same one.
type Registry struct {
	shards   int
	mu       *sync.Mutex // of families; shared with trials
	families map[string]*Family
	tallies  *tallies
	trial    *Trial // nil in the registry itself
}

// Family is all metrics of one name.
type Family struct {
	Name, Help string
	Kind       Kind
	mu         sync.Mutex
	series     map[string]any // *Counter, *Gauge, *GaugeFunc or *Histogram, by labels
}

// New makes a registry for that many loops. One shard more serves all other goroutines (Shared).
func New(loops int) *Registry {
	return &Registry{shards: loops + 1, mu: new(sync.Mutex), families: map[string]*Family{}, tallies: new(tallies)}
}

// Shared is the shard for goroutines that are no loop: the only one that several may write.
func (r *Registry) Shared() int { return r.shards - 1 }

func (r *Registry) family(name, help string, kind Kind) *Family {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.families[name]
	if f == nil {
		f = &Family{Name: name, Help: help, Kind: kind, series: map[string]any{}}
		r.families[name] = f
	}
	if f.Kind != kind {
		panic("metrics: " + name + " is used as two kinds")
	}
	return f
}

func key(labels []Label) string {
	var b strings.Builder
	for _, l := range labels {
		b.WriteString(l.Name)
		b.WriteByte(0)
		b.WriteString(l.Value)
		b.WriteByte(0)
	}
	return b.String()
}

func series[T any](r *Registry, f *Family, labels []Label, make func() T) T {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := key(labels)
	if s, ok := f.series[k].(T); ok {
		return s
	}
	s := make()
	f.series[k] = s
	r.trial.note(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.series[k] == any(s) {
			delete(f.series, k)
		}
	})
	return s
}

// cell is a counter's value in one shard, alone on its cache line.
type cell struct {
	n atomic.Uint64
	_ [56]byte
}

// Counter only grows.
type Counter struct {
	Labels  []Label
	cells   []cell
	tallies *tallies
}

// Counter gives the counter with these labels. Labels are in the order given; keep it the same for one name.
func (r *Registry) Counter(name, help string, labels ...Label) *Counter {
	return series(r, r.family(name, help, KindCounter), labels, func() *Counter {
		return &Counter{Labels: slices.Clone(labels), cells: make([]cell, r.shards), tallies: r.tallies}
	})
}

// Inc adds one. Shards other than Shared are written by their loops alone.
func (c *Counter) Inc(shard int) { c.Add(shard, 1) }

// Add adds n.
func (c *Counter) Add(shard int, n uint64) { add(&c.cells[shard].n, n, shard != len(c.cells)-1) }

// Cell is where a Tally counts.
func (c *Counter) Cell() *atomic.Uint64 { return &c.cells[len(c.cells)-1].n }

// Value is the sum over all shards.
func (c *Counter) Value() uint64 {
	c.tallies.settle()
	var sum uint64
	for i := range c.cells {
		sum += c.cells[i].n.Load()
	}
	return sum
}

// Gauge goes up and down.
type Gauge struct {
	Labels []Label
	bits   atomic.Uint64
}

// Gauge gives the gauge with these labels.
func (r *Registry) Gauge(name, help string, labels ...Label) *Gauge {
	return series(r, r.family(name, help, KindGauge), labels, func() *Gauge { return &Gauge{Labels: slices.Clone(labels)} })
}

// Set stores v.
func (g *Gauge) Set(v float64) { g.bits.Store(math.Float64bits(v)) }

// Add adds d.
func (g *Gauge) Add(d float64) {
	for {
		old := g.bits.Load()
		if g.bits.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+d)) {
			return
		}
	}
}

// Value is the value.
func (g *Gauge) Value() float64 { return math.Float64frombits(g.bits.Load()) }

// GaugeFunc is a gauge that is asked at scrape.
type GaugeFunc struct {
	Labels []Label
	f      atomic.Pointer[func() float64]
}

// GaugeFunc sets the function behind the gauge with these labels; a later one takes the place of an earlier one.
func (r *Registry) GaugeFunc(name, help string, f func() float64, labels ...Label) *GaugeFunc {
	g := series(r, r.family(name, help, KindGauge), labels, func() *GaugeFunc { return &GaugeFunc{Labels: slices.Clone(labels)} })
	if old := g.f.Swap(&f); old != nil {
		r.trial.note(func() { g.f.CompareAndSwap(&f, old) })
	}
	return g
}

// Value asks the function.
func (g *GaugeFunc) Value() float64 { return (*g.f.Load())() }

// Remove takes the series with these labels out of exposition.
func (r *Registry) Remove(name string, labels ...Label) {
	r.mu.Lock()
	f := r.families[name]
	r.mu.Unlock()
	if f != nil {
		f.mu.Lock()
		delete(f.series, key(labels))
		f.mu.Unlock()
	}
}

// Families gives all families that have a series, by name.
func (r *Registry) Families() []*Family {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*Family
	for _, f := range r.families {
		f.mu.Lock()
		n := len(f.series)
		f.mu.Unlock()
		if n > 0 {
			all = append(all, f)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all
}

// Series gives the family's series in a stable order: *Counter, *Gauge, *GaugeFunc or *Histogram.
func (f *Family) Series() []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	keys := make([]string, 0, len(f.series))
	for k := range f.series {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	all := make([]any, len(keys))
	for i, k := range keys {
		all[i] = f.series[k]
	}
	return all
}
