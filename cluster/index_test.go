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
