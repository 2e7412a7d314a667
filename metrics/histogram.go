package metrics

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// nativeSchema is the resolution of native histograms: 2^(1/16) between buckets, which is what client_golang chooses for
// a bucket factor of 1.05.
const nativeSchema = 4

// nativeLow and nativeHigh bound the exponents kept: values from 2^-24 (60 ns) to 2^24; beyond it the end buckets count.
const (
	nativeLow  = -24 << nativeSchema
	nativeHigh = 24 << nativeSchema
)

// Histogram counts observations in classic buckets and in the buckets of a native histogram.
type Histogram struct {
	Labels  []Label
	Bounds  []float64 // upper bounds of the classic buckets, without +Inf
	unit    float64   // what the whole number 1 stands for
	shards  []HistogramShard
	tallies *tallies
}

// Tick is the unit in which short durations are counted, each by itself: a 30th of a microsecond, about what it takes to read a
// clock.
const Tick = 32 * time.Nanosecond

// smallInts is how many whole numbers are counted each by itself, and sorted into buckets when somebody reads.
const smallInts = 1024

// small is the counts of the numbers below smallInts.
type small [smallInts]atomic.Uint64

// large is the counts of greater numbers that are each counted by itself, since they are expected to come again (cellOf).
type large struct {
	mu     sync.Mutex
	counts map[int]*lone
}

// lone is a counter on a cache line of its own.
type lone struct {
	n atomic.Uint64
	_ [56]byte
}

// maxLarge is how many greater numbers a shard counts so.
const maxLarge = 512

// cell is where v is counted; nil when there is no room for another number.
func (l *large) cell(v int) *atomic.Uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts[v]
	if c == nil && len(l.counts) < maxLarge {
		if l.counts == nil {
			l.counts = map[int]*lone{}
		}
		c = new(lone)
		l.counts[v] = c
	}
	if c == nil {
		return nil
	}
	return &c.n
}

// place is the buckets of one value.
type place struct {
	classic uint16
	native  uint16 // index into the shard's, or noNative
}

// noNative is the place of 0, which no native bucket holds.
const noNative = ^uint16(0)

// HistogramShard is what one loop counts of a histogram; the last is for all other goroutines.
type HistogramShard struct {
	ints    atomic.Pointer[small]
	of      *Histogram
	single  bool            // one goroutine writes it
	classic []atomic.Uint64 // one for each bound, and +Inf
	native  []atomic.Uint64
	zero    atomic.Uint64 // observations that are 0
	sum     atomic.Uint64 // bits of a float64
	whole   atomic.Uint64 // sum of ObserveInt, without those in ints
	large   large
	_       [24]byte
}

// Histogram gives the histogram with these labels; bounds ascend.
func (r *Registry) Histogram(name, help string, bounds []float64, labels ...Label) *Histogram {
	return r.histogram(name, help, bounds, 1, labels)
}

// Durations gives the histogram of times in seconds with these labels (HistogramShard.ObserveTime).
func (r *Registry) Durations(name, help string, bounds []float64, labels ...Label) *Histogram {
	return r.histogram(name, help, bounds, Tick.Seconds(), labels)
}

func (r *Registry) histogram(name, help string, bounds []float64, unit float64, labels []Label) *Histogram {
	return series(r, r.family(name, help, KindHistogram), labels, func() *Histogram {
		h := &Histogram{Labels: slices.Clone(labels), Bounds: bounds, unit: unit, shards: make([]HistogramShard, r.shards), tallies: r.tallies}
		for i := range h.shards {
			h.shards[i].of = h
			h.shards[i].classic = make([]atomic.Uint64, len(bounds)+1)
			h.shards[i].native = make([]atomic.Uint64, nativeHigh-nativeLow+1)
			h.shards[i].single = i != r.Shared()
		}
		return h
	})
}

func (h *Histogram) place(v float64) place {
	p := place{native: noNative}
	for int(p.classic) < len(h.Bounds) && v > h.Bounds[p.classic] {
		p.classic++
	}
	if v > 0 {
		p.native = uint16(nativeIndex(v) - nativeLow)
	}
	return p
}

// Observe counts v.
func (h *Histogram) Observe(shard int, v float64) { h.ObserveN(shard, v, 1) }

// ObserveN counts v n times.
func (h *Histogram) ObserveN(shard int, v float64, n uint64) { h.shards[shard].observe(v, n) }

func (s *HistogramShard) observe(v float64, n uint64) {
	s.count(s.of.place(v), n)
	for {
		old := s.sum.Load()
		if s.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v*float64(n))) {
			return
		}
	}
}

// ObserveInt counts a whole number that is not negative.
func (h *Histogram) ObserveInt(shard int, v int) {
	s := &h.shards[shard]
	if v < smallInts {
		add(&s.small()[v], 1, s.single)
		return
	}
	s.count(h.place(float64(v)), 1)
	add(&s.whole, uint64(v), s.single)
}

// Shard is what the loop of that number counts.
func (h *Histogram) Shard(shard int) *HistogramShard { return &h.shards[shard] }

// ObserveTime counts a duration n times, to the next Tick. The histogram is one of Durations.
func (s *HistogramShard) ObserveTime(d time.Duration, n uint64) {
	v := uint64(d+Tick/2) / uint64(Tick)
	if v < smallInts {
		add(&s.small()[v], n, s.single)
		return
	}
	s.count(s.of.place(d.Seconds()), n)
	add(&s.whole, v*n, s.single)
}

// cell is where to count v as ObserveInt does, one by one and with Add; nil where there is no such place.
func (h *Histogram) cell(v int) *atomic.Uint64 {
	s := &h.shards[len(h.shards)-1]
	if v >= smallInts {
		return s.large.cell(v)
	}
	return &s.small()[v]
}

// small gives the shard's small numbers, made when the first is counted: most histograms have none.
func (s *HistogramShard) small() *small {
	if ints := s.ints.Load(); ints != nil {
		return ints
	}
	s.ints.CompareAndSwap(nil, new(small))
	return s.ints.Load()
}

func (s *HistogramShard) count(p place, n uint64) {
	add(&s.classic[p.classic], n, s.single)
	if p.native == noNative {
		add(&s.zero, n, s.single)
	} else {
		add(&s.native[p.native], n, s.single)
	}
}

// add adds n; where a single goroutine writes, without a locked instruction.
func add(c *atomic.Uint64, n uint64, single bool) {
	if single {
		AddAlone(c, n)
	} else {
		c.Add(n)
	}
}

// steps are the bounds of the native buckets between 1 and 2, both ends among them.
var steps = func() (s [1<<nativeSchema + 1]float64) {
	for i := range s {
		s[i] = math.Exp2(float64(i) / (1 << nativeSchema))
	}
	return s
}()

// firstStep is, by the upper bits of the fraction, the first step that is not below the least number in [1, 2) with these bits.
var firstStep = func() (at [32]uint8) {
	for i := range at {
		for steps[at[i]] < 1+float64(i)/float64(len(at)) {
			at[i]++
		}
	}
	return at
}()

// nativeIndex is the native bucket of v > 0: the smallest i with v <= 2^(i/16).
func nativeIndex(v float64) int {
	bits := math.Float64bits(v) // IEEE 754: exponent and 1023 in bits 52 to 62, the fraction below
	fraction := math.Float64frombits(bits&(1<<52-1) | 1023<<52)
	step := int(firstStep[bits>>47&31])
	for steps[step] < fraction {
		step++
	}
	return min(max((int(bits>>52)-1023)<<nativeSchema+step, nativeLow), nativeHigh)
}

// Snapshot is a histogram added up.
type Snapshot struct {
	Sum     float64
	Count   uint64
	Classic []uint64       // cumulative, one for each bound
	Native  map[int]uint64 // bucket index at Schema to count
	Zero    uint64
	Schema  int
}

// Read adds the shards up.
func (h *Histogram) Read() Snapshot {
	h.tallies.settle()
	out := Snapshot{Classic: make([]uint64, len(h.Bounds)), Native: map[int]uint64{}, Schema: nativeSchema}
	for i := range h.shards {
		s := &h.shards[i]
		out.Sum += math.Float64frombits(s.sum.Load()) + float64(s.whole.Load())*h.unit
		out.Zero += s.zero.Load()
		for b := range s.classic {
			out.classic(b, s.classic[b].Load())
		}
		for b := range s.native {
			if n := s.native[b].Load(); n > 0 {
				out.Native[b+nativeLow] += n
			}
		}
		h.readInts(s, &out)
	}
	for b := 1; b < len(out.Classic); b++ {
		out.Classic[b] += out.Classic[b-1]
	}
	return out
}

func (out *Snapshot) classic(bucket int, n uint64) {
	out.Count += n
	if bucket < len(out.Classic) {
		out.Classic[bucket] += n
	}
}

// readInts sorts the numbers of a shard that are counted by themselves into buckets.
func (h *Histogram) readInts(s *HistogramShard, out *Snapshot) {
	if ints := s.ints.Load(); ints != nil {
		for v := range ints {
			h.readInt(v, ints[v].Load(), out)
		}
	}
	s.large.mu.Lock()
	defer s.large.mu.Unlock()
	for v, c := range s.large.counts {
		h.readInt(v, c.n.Load(), out)
	}
}

// readInt adds n times v.
func (h *Histogram) readInt(v int, n uint64, out *Snapshot) {
	if n == 0 {
		return
	}
	value := float64(v) * h.unit
	p := h.place(value)
	out.Sum += value * float64(n)
	out.classic(int(p.classic), n)
	if p.native == noNative {
		out.Zero += n
	} else {
		out.Native[int(p.native)+nativeLow] += n
	}
}
