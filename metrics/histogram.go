package metrics

import (
	"math"
	"slices"
	"sync/atomic"
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
	Labels []Label
	Bounds []float64 // upper bounds of the classic buckets, without +Inf
	shards []histogramShard
}

type histogramShard struct {
	classic []atomic.Uint64 // one for each bound, and +Inf
	native  []atomic.Uint64
	zero    atomic.Uint64 // observations that are 0: no native bucket holds them
	sum     atomic.Uint64 // bits of a float64, written by one goroutine, or by all others under CompareAndSwap
	_       [40]byte
}

// Histogram gives the histogram with these labels; bounds ascend.
func (r *Registry) Histogram(name, help string, bounds []float64, labels ...Label) *Histogram {
	return series(r.family(name, help, KindHistogram), labels, func() *Histogram {
		h := &Histogram{Labels: slices.Clone(labels), Bounds: bounds, shards: make([]histogramShard, r.shards)}
		for i := range h.shards {
			h.shards[i].classic = make([]atomic.Uint64, len(bounds)+1)
			h.shards[i].native = make([]atomic.Uint64, nativeHigh-nativeLow+1)
		}
		return h
	})
}

// Observe counts v.
func (h *Histogram) Observe(shard int, v float64) {
	s := &h.shards[shard]
	i := 0
	for i < len(h.Bounds) && v > h.Bounds[i] {
		i++
	}
	s.classic[i].Add(1)
	if v > 0 {
		s.native[nativeIndex(v)-nativeLow].Add(1)
	} else {
		s.zero.Add(1)
	}
	for {
		old := s.sum.Load()
		if s.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

// nativeIndex is the native bucket of v > 0: the smallest i with v <= 2^(i/16).
func nativeIndex(v float64) int {
	i := int(math.Ceil(math.Log2(v) * (1 << nativeSchema)))
	return min(max(i, nativeLow), nativeHigh)
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
	out := Snapshot{Classic: make([]uint64, len(h.Bounds)), Native: map[int]uint64{}, Schema: nativeSchema}
	for i := range h.shards {
		s := &h.shards[i]
		out.Sum += math.Float64frombits(s.sum.Load())
		out.Zero += s.zero.Load()
		for b := range s.classic {
			n := s.classic[b].Load()
			out.Count += n
			if b < len(out.Classic) {
				out.Classic[b] += n
			}
		}
		for b := range s.native {
			if n := s.native[b].Load(); n > 0 {
				out.Native[b+nativeLow] += n
			}
		}
	}
	for b := 1; b < len(out.Classic); b++ {
		out.Classic[b] += out.Classic[b-1]
	}
	return out
}
