package cache

import (
	"fmt"
	"hash/maphash"
	"testing"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
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

// kept10000 is a cache of 10,000 answers.
func kept10000(b *testing.B) *Cache {
	bench := bench(b, "", &source{})
	c := cacheOf(b, bench)
	r := bench.Do(chaintest.Query{Msg: ask(1, false)})
	r.Compress = true // owners point to the question, so that another name can be put there
	msg, err := r.Pack()
	if err != nil {
		b.Fatal(err)
	}
	for i := range 10000 {
		q := query(bench.Worker, fmt.Sprintf("n%d.example.org.", i))
		name := append(wire.Name(nil), q.Name()...)
		own := append(append(append([]byte(nil), msg[:wire.HeaderSize]...), name...), msg[wire.HeaderSize+len("_www_example_org_"):]...)
		c.success.add(c.success.hash(q), &entry{typ: q.Type, class: q.Class, name: name, msg: own, ttl: 60, answers: true}, q)
		bench.Worker.Put(q)
	}
	return c
}

// BenchmarkExport writes all entries of a full cache: it has 200 ms for them in a handover.
func BenchmarkExport(b *testing.B) {
	c := kept10000(b)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n = 0
		c.export(func([]byte) bool { n++; return true })
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/entry")
}

// BenchmarkImport takes all entries of a full cache in.
func BenchmarkImport(b *testing.B) {
	c := kept10000(b)
	var all [][]byte
	c.export(func(e []byte) bool {
		all = append(all, append([]byte(nil), e...))
		return true
	})
	b.ReportAllocs()
	for b.Loop() {
		in := &importer{c: cacheOf(b, bench(b, "", &source{}))}
		for _, e := range all {
			in.take(e)
		}
		if in.c.success.count.Load() < 9000 {
			b.Fatalf("%d entries", in.c.success.count.Load())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(all)), "ns/entry")
}
