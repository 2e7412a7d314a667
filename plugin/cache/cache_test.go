package cache

import (
	"fmt"
	"hash/maphash"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is a directive that answers from records, to stand below the cache.
type source struct {
	asked   int
	current bool
	ad      bool // the AD bit it saw
}

func (s *source) Serve(q *chain.Query) chain.Outcome {
	s.asked++
	s.ad = q.AD()
	q.Current = s.current
	if q.Type != wire.TypeA {
		q.Reply.Begin(&q.Request, wire.NXDomain, 0)
		soa := wire.SOA{MName: wire.MustName("ns.example.org."), RName: wire.MustName("h.example.org."), Minimum: 30}
		q.Reply.AppendSOA(wire.Authority, wire.MustName("example.org."), 30, &soa)
		return chain.Answered
	}
	q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAD)
	q.Reply.AppendOwnData(wire.Answer, wire.TypeA, 60, []byte{192, 0, 2, 1, 192, 0, 2, 2}, 4)
	return chain.Answered
}

func bench(t testing.TB, options string, s *source) *chaintest.Bench {
	spec := chain.Spec{Name: "source", New: func(setup *chain.Setup) error {
		setup.Handler(s)
		return nil
	}}
	return chaintest.New(t, ".:53 {\ncache 100 "+options+"\nsource\n}", chaintest.Options{Specs: []chain.Spec{Spec, spec}})
}

func ask(t dns.Type, do bool) *dns.Msg {
	m := new(dns.Msg).SetQuestion("www.example.org.", uint16(t))
	if do {
		m.SetEdns0(1232, true)
	}
	return m
}

func TestHitsAllocateNothing(t *testing.T) {
	b := bench(t, "", &source{})
	for _, m := range []*dns.Msg{ask(1, false), ask(1, true), ask(28, false), ask(28, true)} {
		b.Do(chaintest.Query{Msg: m})
		b.ExpectNoAllocation(m)
	}
}

func TestCurrentRepliesPassWithoutAllocation(t *testing.T) {
	s := &source{current: true}
	b := bench(t, "", s)
	m := ask(1, false)
	for range 3 {
		if r := b.Do(chaintest.Query{Msg: m}); r.Answer[0].Header().Ttl != 60 {
			t.Fatalf("TTL %d", r.Answer[0].Header().Ttl)
		}
	}
	if s.asked != 3 {
		t.Errorf("a reply of always current data was stored: asked %d times of 3", s.asked)
	}
}

func TestADBit(t *testing.T) {
	s := &source{}
	b := bench(t, "", s)
	for _, c := range []struct{ ad, do, want bool }{{false, false, false}, {true, false, true}, {false, true, true}} {
		for _, hit := range []bool{false, true} {
			m := ask(1, c.do)
			m.AuthenticatedData = c.ad
			r := b.Do(chaintest.Query{Msg: m})
			if r.AuthenticatedData != c.want {
				t.Errorf("ad=%t do=%t hit=%t: AD %t", c.ad, c.do, hit, r.AuthenticatedData)
			}
		}
	}
	if !s.ad {
		t.Error("a query that passes does not ask for AD")
	}
}

func TestSpecIsRefused(t *testing.T) {
	spec := []chain.Spec{Spec}
	for _, text := range []string{"cache 0", "cache -1", "cache {\nsuccess\n}", "cache {\nsuccess x\n}", "cache {\nsuccess 1 0\n}",
		"cache {\ndenial 1 1 -1\n}", "cache {\nprefetch -1\n}", "cache {\nprefetch 1 1m 9%\n}", "cache {\nprefetch 1 1m 50\n}",
		"cache {\nserve_stale -1s\n}", "cache {\nserve_stale 1h sometimes\n}", "cache {\nserve_stale 1h immediate 1500ms\n}",
		"cache {\nserve_stale 1h immediate 1s 6m\n}", "cache {\nserve_stale_policy prefer_positive\n}",
		"cache {\nserve_stale\nserve_stale_policy none\n}", "cache {\nservfail 6m\n}", "cache {\ndisable all\n}",
		"cache {\nkeepttl 1\n}", "cache {\nnone\n}", "cache\ncache"} {
		if _, err := chaintest.Build(t, ".:53 {\n"+text+"\n}", chaintest.Options{Specs: spec}); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

// query makes a query object for a name, outside of any walk.
func query(w *chain.Worker, name string) *chain.Query {
	q := w.Get()
	q.SetQuestion(wire.MustName(name), wire.TypeA)
	return q
}

func TestTableKeepsItsCapacity(t *testing.T) {
	l, err := loop.New(0, loop.System())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := chain.NewWorker(l, 1)
	table := newTable(2000, maphash.MakeSeed()) // rounds down to 7 * 256
	kept := 0
	for i := range 5000 {
		q := query(w, fmt.Sprintf("n%d.example.org.", i))
		e := &entry{typ: q.Type, class: q.Class, name: append(wire.Name(nil), q.Name()...), ttl: 60}
		table.add(table.hash(q), e, q)
		w.Put(q)
	}
	for i := range 5000 {
		q := query(w, fmt.Sprintf("n%d.example.org.", i))
		if table.get(table.hash(q), q) != nil {
			kept++
		}
		w.Put(q)
	}
	if n := int(table.count.Load()); kept != n || n > 7*256 || n < 7*256*9/10 {
		t.Errorf("%d entries found, %d counted, capacity %d", kept, n, 7*256)
	}
}

// A table that has room for all its entries loses none by doubling.
func TestTableGrows(t *testing.T) {
	l, err := loop.New(0, loop.System())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w, table := chain.NewWorker(l, 1), newTable(10000, maphash.MakeSeed())
	var names []string
	var sets [1024]int // of a smaller table: no name that would not fit there, so that there is room whatever the seed
	for i := 0; len(names) < 2000; i++ {
		name := fmt.Sprintf("n%d.example.org.", i)
		q := query(w, name)
		if at := table.hash(q) % uint64(len(sets)); sets[at] < ways {
			sets[at]++
			names = append(names, name)
		}
		w.Put(q)
	}
	for pass := range 2 {
		for _, name := range names {
			q := query(w, name)
			h := table.hash(q)
			if pass == 0 && table.add(h, &entry{typ: q.Type, class: q.Class, name: append(wire.Name(nil), q.Name()...), ttl: 60}, q) {
				t.Errorf("%s took another's place", name)
			} else if pass == 1 && table.get(h, q) == nil {
				t.Errorf("%s is gone", name)
			}
			w.Put(q)
		}
	}
	if n := len(table.live.Load().at); n <= firstSets || n >= table.most {
		t.Errorf("%d sets for %d entries", n, len(names))
	}
}

// Readers and writers of the same sets at once: what a reader gets is always an entry of its own key.
func TestTableUnderFire(t *testing.T) {
	table := newTable(0, maphash.MakeSeed())
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			l, err := loop.New(g, loop.System())
			if err != nil {
				t.Error(err)
				return
			}
			defer l.Close()
			w := chain.NewWorker(l, uint64(g))
			for i := range 20000 {
				q := query(w, fmt.Sprintf("n%d.example.org.", w.Rand.IntN(3000)))
				h := table.hash(q)
				switch i % 4 {
				case 0:
					table.add(h, &entry{typ: q.Type, class: q.Class, name: append(wire.Name(nil), q.Name()...), ttl: 60, stored: time.Duration(i)}, q)
				case 1:
					table.remove(h, q)
				default:
					if e := table.get(h, q); e != nil && !wire.Equal(e.name, q.Name()) {
						t.Errorf("asked for %s, got %s", q.Name(), e.name)
					}
				}
				w.Put(q)
			}
		})
	}
	wg.Wait()
}

// A query's hash is made once, by the success table, and serves for both: the denials have to be found by it again after
// their table has grown.
func TestDenialsSurviveGrowth(t *testing.T) {
	l, err := loop.New(0, loop.System())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := chain.NewWorker(l, 1)
	success, denial := newTables(10000, 10000)
	const names = 2000
	for pass := range 2 {
		for i := range names {
			q := query(w, fmt.Sprintf("n%d.example.org.", i))
			h := success.hash(q)
			if pass == 0 {
				denial.add(h, &entry{typ: q.Type, class: q.Class, name: append(wire.Name(nil), q.Name()...), ttl: 60}, q)
			} else if denial.get(h, q) == nil {
				t.Fatalf("entry %d of %d is gone", i, names)
			}
			w.Put(q)
		}
	}
}
