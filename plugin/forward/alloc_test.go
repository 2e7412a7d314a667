//go:build !race

package forward

import (
	"testing"

	"github.com/godwit-dns/godwit/chain"
)

// A miss of the cache must cost the collector nothing, from the query's arrival to its reply.
func TestForwardingAllocatesNothing(t *testing.T) {
	h := newHarness(t, "forward . "+mirror(t)+" {\nmax_concurrent 10\n}")
	for range 500 {
		h.ask(t, chain.UDP)
	}
	if n := testing.AllocsPerRun(300, func() { h.ask(t, chain.UDP) }); n != 0 {
		t.Errorf("%v allocations a query", n)
	}
}
