package cluster

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// results are lookups of all kinds, as they are now.
func results(c *Cluster) (all []any) {
	for _, name := range testNames {
		all = append(all, c.Service([]byte("ns"), []byte(name)))
	}
	for i := range 250 {
		w := c.ByClusterIP(netip.AddrFrom4([4]byte{10, 96, 0, byte(i)}))
		all = append(all, w.Next())
	}
	for _, a := range testAddrs {
		w := c.ByEndpointIP(netip.MustParseAddr(a))
		for sl, i := w.Next(); sl != nil; sl, i = w.Next() {
			all = append(all, sl, i)
		}
		all = append(all, nil)
	}
	return append(all, c.Serial(), c.Namespace([]byte("ns")))
}

func TestVersionMovesWhenResultsDo(t *testing.T) {
	seed := rand.Uint64()
	h := &history{rnd: rand.New(rand.NewPCG(seed, 3)), c: newTestCluster(packing{zones: true}),
		m: model{services: map[string]modelService{}, slices: map[string]modelSlice{}}}
	s, moved := h.c.store, 0
	for step := range 2000 {
		before, version := results(h.c), h.c.Version().Load()
		switch h.rnd.IntN(6) {
		case 0:
			s.publishAll()
		case 1:
			s.mu.Lock()
			s.live = !s.live
			s.mu.Unlock()
		case 2:
			var o object
			o.reset(kindNamespace)
			if o.name = []byte("ns"); h.rnd.IntN(2) == 0 {
				s.upsert(&o)
			} else {
				s.remove(&o)
			}
		default:
			h.step()
		}
		if differ(before, results(h.c)) {
			moved++
			if h.c.Version().Load() == version {
				t.Fatalf("seed %d, step %d: a lookup gives something else, and the version is the same", seed, step)
			}
		}
	}
	if moved < 200 {
		t.Errorf("only %d steps changed anything", moved)
	}
}

func differ(a, b []any) bool {
	if len(a) != len(b) {
		return true
	}
	for i := range a {
		if a[i] != b[i] {
			return true
		}
	}
	return false
}
