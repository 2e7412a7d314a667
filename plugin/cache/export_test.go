package cache

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/wire"
)

// cacheOf gives the cache of a bench.
func cacheOf(t testing.TB, b *chaintest.Bench) *Cache {
	t.Helper()
	for _, h := range b.Config.Blocks[0].Chain().Handlers {
		if c, ok := h.(*Cache); ok {
			return c
		}
	}
	t.Fatal("no cache")
	return nil
}

// kept gives the one thing that a bench's configuration lets a successor have.
func kept(t testing.TB, b *chaintest.Bench) chain.Kept {
	t.Helper()
	if len(b.Config.Kept) != 1 {
		t.Fatalf("%d are kept", len(b.Config.Kept))
	}
	return b.Config.Kept[0]
}

// exportAll gives copies of all entries.
func exportAll(t testing.TB, b *chaintest.Bench) (all [][]byte) {
	t.Helper()
	kept(t, b).Export(func(e []byte) bool {
		all = append(all, bytes.Clone(e))
		return true
	})
	return all
}

// filled is a bench whose cache has an answer and a denial, with and without DO, each of its own age.
func filled(t testing.TB, options string) (*chaintest.Bench, *source) {
	s := &source{}
	b := bench(t, options, s)
	b.Advance(time.Hour)
	for _, m := range []*dns.Msg{ask(1, false), ask(1, true), ask(28, false), ask(28, true)} {
		b.Do(chaintest.Query{Msg: m})
		b.Advance(5500 * time.Millisecond)
	}
	return b, s
}

// What a successor answers is what the predecessor would have answered at that moment.
func TestExportRoundTrip(t *testing.T) {
	old, _ := filled(t, "")
	entries := exportAll(t, old)
	if len(entries) != 4 {
		t.Fatalf("%d entries", len(entries))
	}
	var ages []time.Duration
	for _, e := range entries {
		x, rest, ok := parseExported(e)
		if !ok || len(rest) != 0 {
			t.Fatalf("%x", e)
		}
		ages = append(ages, x.age)
	}
	if want := []time.Duration{5500e6, 11000e6, 16500e6, 22000e6}; !slices.Equal(ages, want) {
		t.Errorf("ages %v, newest first is %v", ages, want)
	}
	s := &source{}
	successor := bench(t, "", s)
	for _, e := range entries {
		kept(t, successor).Import(e)
	}
	for i, m := range []*dns.Msg{ask(1, false), ask(1, true), ask(28, false), ask(28, true)} {
		want, got := old.Do(chaintest.Query{Msg: m}), successor.Do(chaintest.Query{Msg: m})
		got.Id = want.Id
		if got.String() != want.String() {
			t.Errorf("the successor answers\n%v\nthe predecessor\n%v", got, want)
		}
		rr := append(slices.Clone(got.Answer), got.Ns...)[0]
		life := 60
		if m.Question[0].Qtype != dns.TypeA {
			life = 30
		}
		if left := life - (22000-5500*i)/1000; rr.Header().Ttl != uint32(left) {
			t.Errorf("%v: not the %d seconds that are left", rr, left)
		}
	}
	if s.asked != 0 {
		t.Errorf("the successor asked %d times", s.asked)
	}
	successor.Advance(9 * time.Second) // each ages on from where it was
	successor.Do(chaintest.Query{Msg: ask(1, false)})
	if s.asked != 0 {
		t.Error("an answer with 29 seconds left has ended")
	}
	successor.Advance(30 * time.Second)
	successor.Do(chaintest.Query{Msg: ask(1, false)})
	if s.asked != 1 {
		t.Error("an imported answer does not end")
	}
}

func TestExportStops(t *testing.T) {
	b, _ := filled(t, "")
	n := 0
	kept(t, b).Export(func([]byte) bool { n++; return n < 2 })
	if n != 2 {
		t.Errorf("%d entries after it was told to stop at 2", n)
	}
}

func TestExportLeavesWhatIsOver(t *testing.T) {
	b, _ := filled(t, "")
	b.Advance(25 * time.Second) // the denials have ended
	if n := len(exportAll(t, b)); n != 2 {
		t.Errorf("%d entries", n)
	}
	stale, _ := filled(t, "{\nserve_stale 1h\n}")
	stale.Advance(5 * time.Minute)
	entries := exportAll(t, stale)
	if len(entries) != 4 {
		t.Errorf("%d entries, with those that may be served stale", len(entries))
	}
	with, without := bench(t, "{\nserve_stale 1h\n}", &source{}), bench(t, "", &source{})
	for _, e := range entries {
		kept(t, with).Import(e)
		kept(t, without).Import(e)
	}
	if n := len(exportAll(t, with)); n != 4 {
		t.Errorf("%d entries arrived", n)
	}
	if n := cacheOf(t, without).success.count.Load() + cacheOf(t, without).denial.count.Load(); n != 0 {
		t.Errorf("%d entries that are over arrived", n)
	}
}

// The bounds of the configuration that imports count.
func TestImportKeepsToItsConfiguration(t *testing.T) {
	old, _ := filled(t, "")
	entries := exportAll(t, old)
	for _, c := range []struct {
		options       string
		answers, deny int64
	}{
		{"", 2, 2},
		{"{\ndisable denial\n}", 2, 0},
		{"{\ndisable success example.org\n}", 0, 2},
		{"example.net", 0, 0},
		{"{\nsuccess 5000 20\n}", 1, 2}, // one of the answers is 22 seconds old
		{"{\ndenial 5000 10\n}", 2, 1},
		{"{\nsuccess 5000 100 90\n}", 2, 2},
	} {
		b := bench(t, c.options, &source{})
		for _, e := range entries {
			kept(t, b).Import(e)
		}
		cache := cacheOf(t, b)
		if a, d := cache.success.count.Load(), cache.denial.count.Load(); a != c.answers || d != c.deny {
			t.Errorf("%q: %d answers and %d denials, not %d and %d", c.options, a, d, c.answers, c.deny)
		}
		cache.success.each(func(e *entry) {
			if e.ttl > 60 {
				t.Errorf("%q: a TTL grew to %d", c.options, e.ttl)
			}
		})
	}
}

// What the process has learned by itself since is newer.
func TestImportTakesNothingNewersPlace(t *testing.T) {
	old, _ := filled(t, "")
	entries := exportAll(t, old)
	b := bench(t, "", &source{})
	b.Do(chaintest.Query{Msg: ask(1, false)})
	b.Advance(time.Second)
	before := exportAll(t, b)
	for _, e := range entries {
		kept(t, b).Import(e)
		kept(t, b).Import(e) // nor does the same entry twice change anything
	}
	after := exportAll(t, b)
	if len(after) != 4 || !bytes.Equal(after[0], before[0]) {
		t.Errorf("%d entries, the newest %x, was %x", len(after), after[0], before[0])
	}
	if r := b.Do(chaintest.Query{Msg: ask(1, false)}); r.Answer[0].Header().Ttl != 59 {
		t.Errorf("%v", r)
	}
}

// A denial that is older than an answer of the same name does not hide it.
func TestImportHidesNoLaterAnswer(t *testing.T) {
	denied := &source{}
	old := bench(t, "", denied)
	old.Do(chaintest.Query{Msg: ask(28, false)})
	old.Advance(2 * time.Second)
	b := bench(t, "", &source{})
	c := cacheOf(t, b)
	q := query(b.Worker, "www.example.org.")
	q.Type = wire.TypeAAAA
	c.success.add(c.success.hash(q), &entry{typ: q.Type, class: q.Class, name: append(wire.Name(nil), q.Name()...), ttl: 60}, q)
	b.Worker.Put(q)
	for _, e := range exportAll(t, old) {
		kept(t, b).Import(e)
	}
	if n := c.denial.count.Load(); n != 0 {
		t.Errorf("%d denials", n)
	}
}

func TestImportEvictsNothing(t *testing.T) {
	old, _ := filled(t, "")
	b := bench(t, "{\nsuccess 1024\ndenial 1024\n}", &source{})
	c := cacheOf(t, b)
	for i := 0; c.success.count.Load() < 1024; i++ { // some go to sets that are full
		q := query(b.Worker, fmt.Sprintf("n%d.example.org.", i))
		c.success.add(c.success.hash(q), &entry{typ: q.Type, class: q.Class, name: append(wire.Name(nil), q.Name()...), ttl: 60}, q)
		b.Worker.Put(q)
	}
	full := c.success.count.Load()
	for _, e := range exportAll(t, old) {
		kept(t, b).Import(e)
	}
	q := query(b.Worker, "www.example.org.")
	defer b.Worker.Put(q)
	if a, d := c.success.count.Load(), c.denial.count.Load(); a != full || d != 2 || c.success.get(c.success.hash(q), q) != nil {
		t.Errorf("%d answers, %d denials", a, d)
	}
}

// The entry behind one that does not answer goes along, where prefer_positive kept it.
func TestExportKeepsTheLastGoodAnswer(t *testing.T) {
	const options = "{\nserve_stale 1h\nserve_stale_policy prefer_positive\n}"
	old, _ := filled(t, options)
	c := cacheOf(t, old)
	q := query(old.Worker, "www.example.org.")
	h := c.success.hash(q)
	good := c.success.get(h, q)
	empty := &entry{typ: q.Type, class: q.Class, name: good.name, ttl: 60, stored: old.Env.Clock(), good: good}
	empty.msg = slices.Clone(good.msg[:wire.HeaderSize+len(good.name)+4])
	copy(empty.msg[6:], make([]byte, 6))
	empty.plain = int32(len(empty.msg))
	c.success.add(h, empty, q)
	old.Worker.Put(q)

	for _, x := range []struct {
		options string
		good    bool
	}{{options, true}, {"", false}} {
		b := bench(t, x.options, &source{})
		for _, e := range exportAll(t, old) {
			kept(t, b).Import(e)
		}
		q := query(b.Worker, "www.example.org.")
		got := cacheOf(t, b).success
		e := got.get(got.hash(q), q)
		b.Worker.Put(q)
		if e == nil || e.answers || (e.good != nil) != x.good || x.good && !bytes.Equal(e.good.msg[2:], good.msg[2:]) {
			t.Errorf("%q: %+v", x.options, e)
		}
	}
}

func TestKeptNames(t *testing.T) {
	names := map[string]bool{}
	for _, text := range []string{".:53", ".:54", "tls://.:53", "example.org:53", "example.org example.net"} {
		b := chaintest.New(t, text+" {\ncache\n}", chaintest.Options{Specs: []chain.Spec{Spec}})
		names[kept(t, b).Name] = true
	}
	if len(names) != 5 || !names["cache dns://.:53"] || !names["cache dns://example.net.:53 dns://example.org.:53"] {
		t.Errorf("%v", names)
	}
	b := &chain.Block{View: "inside"}
	b.Bind = []chain.Bound{{Addr: "192.0.2.1"}}
	if name := keptName(b); name != "cache bind 192.0.2.1 view inside" {
		t.Error(name)
	}
}

// checkEntries fails when the cache holds what could not be served: every entry is found under its own key and makes a
// reply that reads to its end.
func checkEntries(t *testing.T, b *chaintest.Bench) {
	t.Helper()
	c := cacheOf(t, b)
	var f wire.Fitter
	for _, table := range []*table{c.success, c.denial} {
		table.each(func(e *entry) {
			q := query(b.Worker, ".")
			defer b.Worker.Put(q)
			q.SetQuestion(e.name, e.typ)
			q.Class, q.EDNS.DO = e.class, e.do
			if e.cd {
				q.Flags |= wire.FlagCD
			}
			if table.get(table.hash(q), q) != e {
				t.Fatalf("%v is not found by its key", e.name)
			}
			for _, one := range []*entry{e, e.good} {
				if one == nil {
					continue
				}
				q.Reply.Load(one.msg, int(one.plain), &q.Request)
				q.Reply.SetTTL(7)
				out := f.Append(nil, &q.Reply, &q.Request, wire.MaxMessage, 0)
				asked := binary.BigEndian.Uint32(out[wire.HeaderSize+len(e.name):])
				if one.msg[2]&0xFA != 0x80 || asked != uint32(e.typ)<<16|uint32(e.class) {
					t.Fatalf("%x answers another question, or is no reply to store", one.msg)
				}
				if err := readable(out); err != nil {
					t.Fatalf("%x from %x: %v", out, one.msg, err)
				}
			}
		})
	}
}

func readable(msg []byte) error {
	var c wire.Cursor
	var r wire.Record
	if err := c.Open(msg); err != nil {
		return err
	}
	for {
		_, ok, err := c.Next(&r)
		if err != nil || !ok {
			return err
		}
		if r.TTL != 7 && r.Type != wire.TypeOPT {
			return fmt.Errorf("TTL %d of type %d", r.TTL, r.Type)
		}
		if _, err = r.Data(nil); err != nil {
			return err
		}
	}
}

// Every entry cut at every octet, and with every octet changed.
func TestDamagedEntries(t *testing.T) {
	const options = "{\nserve_stale 1h\nserve_stale_policy prefer_positive\n}"
	old, _ := filled(t, options)
	for _, e := range exportAll(t, old) {
		b := bench(t, options, &source{})
		for n := range e {
			kept(t, b).Import(e[:n])
		}
		if n := len(exportAll(t, b)); n != 0 {
			t.Errorf("%d entries came of parts", n)
		}
		for at := range e {
			for _, by := range []byte{0x01, 0x02, 0x80, 0xFF, 0x20} {
				damaged := bytes.Clone(e)
				damaged[at] ^= by
				b := bench(t, options, &source{}) // an empty one, in which nothing is known better
				kept(t, b).Import(damaged)
				checkEntries(t, b)
			}
		}
	}
}

func FuzzImport(f *testing.F) {
	const options = "{\nserve_stale 1h\nserve_stale_policy prefer_positive\n}"
	old, _ := filled(f, options)
	for _, e := range exportAll(f, old) {
		f.Add(e)
		f.Add(append(bytes.Clone(e), e...))
	}
	f.Fuzz(func(t *testing.T, e []byte) {
		b := bench(t, options, &source{})
		kept(t, b).Import(e)
		checkEntries(t, b)
		first := exportAll(t, b)
		again := bench(t, options, &source{})
		for _, x := range first {
			kept(t, again).Import(x)
		}
		second := exportAll(t, again)
		if !slices.EqualFunc(first, second, bytes.Equal) {
			t.Errorf("%x arrives as %x", first, second)
		}
	})
}
