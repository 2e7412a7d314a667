package cluster

import (
	"math/rand/v2"
	"sync"
	"testing"
)

// TestIndexHistories compares an index with a map over random histories, with few hashes so that they collide.
func TestIndexHistories(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var x index
		model := map[uint32]map[uint32]int{} // hash -> id -> how often
		for range 2000 {
			h, id := rnd.Uint32N(64)*0x9E3779B9, rnd.Uint32N(40)
			if model[h] == nil {
				model[h] = map[uint32]int{}
			}
			if rnd.IntN(2) == 0 {
				x.insert(h, id)
				model[h][id]++
			} else {
				x.remove(h, id)
				if model[h][id]--; model[h][id] <= 0 {
					delete(model[h], id)
				}
			}
			got := map[uint32]int{}
			for p := x.probe(h); ; {
				id, ok := p.next()
				if !ok {
					break
				}
				got[id]++
			}
			if len(got) != len(model[h]) {
				t.Fatalf("hash %x: got %v, want %v", h, got, model[h])
			}
			for id, n := range model[h] {
				if got[id] != n {
					t.Fatalf("hash %x: got %v, want %v", h, got, model[h])
				}
			}
		}
	}
}

// TestIndexReaders holds that an entry which stays is found at every moment, while others come and go around it.
func TestIndexReaders(t *testing.T) {
	var x index
	for id := range uint32(100) {
		x.insert(id*7, id)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := uint32(0); ; i++ {
				select {
				case <-done:
					return
				default:
				}
				want, found := i%100, false
				for p := x.probe(want * 7); ; {
					id, ok := p.next()
					if !ok {
						break
					}
					found = found || id == want
				}
				if !found {
					t.Error("an entry was missed")
					return
				}
			}
		})
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 200000 {
		id := 1000 + rnd.Uint32N(500)
		if rnd.IntN(2) == 0 {
			x.insert(id*7, id)
		} else {
			x.remove(id*7, id)
		}
	}
	close(done)
	wg.Wait()
}

// TestServicesKnowTheirNamespace: whichever comes first, and when the namespace goes and comes back.
func TestServicesKnowTheirNamespace(t *testing.T) {
	c := newTestCluster(packing{})
	s := c.store
	space := &object{kind: kindNamespace, name: []byte("shop")}
	service := func(name string) *object {
		return &object{kind: kindService, namespace: []byte("shop"), name: []byte(name), clusterIP: []byte("10.0.0.1")}
	}
	exists := func(name string, want bool) {
		t.Helper()
		s.publishAll()
		if r := c.Service([]byte("shop"), []byte(name)); r == nil || r.InNamespace() != want || c.Namespace([]byte("shop")) != want {
			t.Fatalf("%s: %+v, want one whose namespace exists: %v", name, r, want)
		}
	}
	s.upsert(service("a"))
	exists("a", false)
	s.upsert(space)
	exists("a", true)
	s.upsert(service("b"))
	exists("b", true)
	s.remove(space)
	exists("a", false)
	exists("b", false)
	s.upsert(space)
	exists("a", true)
	exists("b", true)
	s.remove(service("a"))
	s.remove(service("b"))
	s.remove(space)
	s.publishAll()
	if len(s.spaces) != 0 {
		t.Errorf("%d spaces are kept that nobody needs", len(s.spaces))
	}
	s.upsert(service("Web"))
	s.upsert(service("a.b"))
	s.publishAll()
	for _, name := range []string{"web", "Web", "a.b", "a"} {
		if r := c.Service([]byte("shop"), []byte(name)); r != nil {
			t.Errorf("%s leads to %s", name, r.Name)
		}
	}
}
