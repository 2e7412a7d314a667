package upstream

import (
	"fmt"
	"testing"

	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
)

// BenchmarkFlight enters a question among 64 in flight, and leaves.
func BenchmarkFlight(b *testing.B) {
	l, err := loop.New(0, loop.System())
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	g, err := New(Config{Name: "test", Loops: 1, Metrics: metrics.New(1)}, []Target{{Text: "x"}})
	if err != nil {
		b.Fatal(err)
	}
	m := newMember(g, l)
	var all [64]*exchange
	var names [4096][]byte
	for i := range names {
		names[i] = fmt.Appendf(nil, "host-%d.miss.example.org.and.type", i)
	}
	for i := range all {
		all[i] = &exchange{m: m, key: names[i]}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e := all[i%len(all)]
		g.flights.leave(e)
		e.waiters, e.key = e.waiters[:0], names[i%len(names)]
		g.flights.enter(e, deaf{})
	}
}

// deaf waits for nothing.
type deaf struct{}

func (deaf) Done(*Answer) {}
