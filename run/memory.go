package run

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The Go runtime lets the heap grow to twice what is in use and keeps it so: what a burst of changes or of misses left
// behind would stay for good. A process at rest gives it back.
const (
	// trimEvery is how often it is looked at; what was allocated meanwhile says whether the process rests.
	trimEvery = 10 * time.Second
	// restingBytes is the most that a resting process allocates in that time.
	restingBytes = 2 << 20
	// trimSlack is how much more than what is in use is worth a collection, besides an eighth of it.
	trimSlack = 4 << 20
)

// trimmer decides when the heap is given back. The zero value is ready.
type trimmer struct {
	allocated uint64 // in all, when it looked last
	kept      uint64 // that the last time could not give back
}

// heapUse is what the runtime says of its heap, in octets.
type heapUse struct {
	allocated uint64 // in all, since the start
	held      uint64 // from the system and not given back
	live      uint64 // that the last collection found in use
}

// due reports whether the process rests on more than it needs.
func (t *trimmer) due(u heapUse) bool {
	resting := u.allocated-t.allocated < restingBytes
	t.allocated = u.allocated
	need := max(u.live, t.kept)
	return resting && u.held > need+need/8+trimSlack
}

// run gives memory back until ctx ends.
func (t *trimmer) run(ctx context.Context) {
	ticker := time.NewTicker(trimEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if t.due(readHeap()) {
			debug.FreeOSMemory()
			t.kept = readHeap().held
		}
	}
}

func readHeap() heapUse {
	list := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(list)
	value := func(i int) uint64 { return list[i].Value.Uint64() }
	return heapUse{allocated: value(0), live: value(1), held: value(2) + value(3) + value(4)}
}
