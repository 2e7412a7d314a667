package cache

import (
	"fmt"
	"hash/maphash"
	"testing"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/wire"
)

func benchTable(b *testing.B) (*table, []*chain.Query) {
	l, err := loop.New(0, loop.System())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(l.Close)
	w, t := chain.NewWorker(l, 1), newTable(10000, maphash.MakeSeed())
	var all []*chain.Query
	for i := range 1000 {
		q := query(w, fmt.Sprintf("n%d.example.org.", i))
		t.add(t.hash(q), &entry{typ: q.Type, class: q.Class, name: append(wire.Name(nil), q.Name()...), ttl: 60}, q)
		all = append(all, q)
	}
	return t, all
}

// BenchmarkGet finds entries in a table of 1,000.
func BenchmarkGet(b *testing.B) {
	t, all := benchTable(b)
	i := 0
	for b.Loop() {
		q := all[i%len(all)]
		if t.get(t.hash(q), q) == nil {
			b.Fatal("an entry is gone")
		}
		i++
	}
}

// BenchmarkPut stores entries over their older selves.
func BenchmarkPut(b *testing.B) {
	t, all := benchTable(b)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		q := all[i%len(all)]
		t.add(t.hash(q), &entry{typ: q.Type, class: q.Class, name: q.Name(), ttl: 60}, q)
		i++
	}
}
