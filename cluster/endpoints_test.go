package cluster

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSplice changes a list again and again, in few places and in many: it always holds what a plain one does, and what it was
// made of is as it was.
func TestSplice(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		plain := make([]endpoint, rnd.IntN(1500))
		for i := range plain {
			plain[i] = endpoint{hash: uint32(i) * 2}
		}
		list := endpointsOf(plain)
		for round := range 40 {
			var cuts []cut
			var want []endpoint
			part := 1 + rnd.IntN(1+len(plain)/(1+rnd.IntN(50)))
			grow := rnd.IntN(3)
			for i := range plain {
				if rnd.IntN(part) == 0 && grow > 0 {
					e := endpoint{hash: plain[i].hash, addr: uint32(round)}
					cuts, want = append(cuts, cut{at: i, ep: e}), append(want, e)
				}
				if rnd.IntN(part) == 0 && grow < 2 {
					cuts = append(cuts, cut{at: i, out: true})
					continue
				}
				want = append(want, plain[i])
			}
			if rnd.IntN(2) == 0 {
				e := endpoint{hash: 1 << 30, addr: uint32(round)}
				cuts, want = append(cuts, cut{at: len(plain), ep: e}), append(want, e)
			}
			next, ok := list.splice(cuts)
			if !ok || !slices.Equal(next.flat(), want) || next.len() != len(want) || !slices.Equal(list.flat(), plain) {
				t.Fatalf("%d cuts in %d: %d, want %d", len(cuts), len(plain), next.len(), len(want))
			}
			for i := range want {
				if *next.at(i) != want[i] {
					t.Fatalf("at(%d) is another than the list has", i)
				}
			}
			if next.blocks() > 5+2*len(want)/blockSize {
				t.Fatalf("%d blocks for %d", next.blocks(), len(want))
			}
			list, plain = next, want
		}
	}
}

func TestSpliceTwice(t *testing.T) {
	for _, n := range []int{5, 1000} {
		list := endpointsOf(make([]endpoint, n))
		if _, ok := list.splice([]cut{{at: n - 1, out: true}, {at: n - 1, out: true}}); ok {
			t.Errorf("the last of %d is taken out twice", n)
		}
	}
}

// TestSpliceShares changes one endpoint of many: all but a block is shared.
func TestSpliceShares(t *testing.T) {
	list := endpointsOf(make([]endpoint, 5000))
	next, _ := list.splice([]cut{{at: 2000, out: true}, {at: 2001, ep: endpoint{addr: 7}}})
	shared := 0
	for k := range next.blocks() {
		if &next.block(k)[0] == &list.block(k)[0] {
			shared++
		}
	}
	if shared != list.blocks()-1 || next.blocks() != list.blocks() {
		t.Errorf("%d of %d blocks are shared", shared, list.blocks())
	}
}
