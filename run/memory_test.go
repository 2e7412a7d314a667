package run

import (
	"runtime"
	"testing"
)

func TestTrimmer(t *testing.T) {
	const mega = 1 << 20
	var tr trimmer
	for i, step := range []struct {
		what string
		use  heapUse
		kept uint64
		want bool
	}{
		{"busy since the start", heapUse{allocated: 100 * mega, held: 80 * mega, live: 30 * mega}, 0, false},
		{"at rest on too much", heapUse{allocated: 101 * mega, held: 80 * mega, live: 30 * mega}, 0, true},
		{"what is left can't be given back", heapUse{allocated: 101 * mega, held: 50 * mega, live: 30 * mega}, 50 * mega, false},
		{"a little more", heapUse{allocated: 102 * mega, held: 59 * mega, live: 30 * mega}, 50 * mega, false},
		{"much more", heapUse{allocated: 103 * mega, held: 61 * mega, live: 30 * mega}, 50 * mega, true},
		{"much more, but busy", heapUse{allocated: 150 * mega, held: 90 * mega, live: 30 * mega}, 50 * mega, false},
		{"more is in use", heapUse{allocated: 151 * mega, held: 90 * mega, live: 80 * mega}, 50 * mega, false},
	} {
		tr.kept = step.kept
		if got := tr.due(step.use); got != step.want {
			t.Errorf("%d: %s: %v", i, step.what, got)
		}
	}
	runtime.GC()
	if u := readHeap(); u.live == 0 || u.held < u.live/2 || u.allocated < u.live {
		t.Errorf("the runtime says %+v", u)
	}
}
