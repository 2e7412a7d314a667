package zone

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/wire"
)

const head = "@ 60 IN SOA ns host 7 2 3 4 5\n@ 60 IN NS ns\n"

func parse(t testing.TB, text string) *Zone {
	t.Helper()
	z, err := Parse(Source{Text: strings.NewReader(text), Origin: wire.MustName("example.org."), File: "db"})
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// TestCanonicalOrder has the example of RFC 4034, 6.1.
func TestCanonicalOrder(t *testing.T) {
	want := []string{"example.", "a.example.", "yljkjljk.a.example.", "z.a.example.", "zabc.a.example.", "z.example.",
		`\001.z.example.`, "*.z.example.", `\200.z.example.`}
	got := slices.Clone(want)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
	slices.SortFunc(got, func(a, b string) int { return compare(wire.MustName(a), wire.MustName(b)) })
	if !slices.Equal(got, want) {
		t.Errorf("order is %q", got)
	}
	if compare(wire.MustName("a-b.example."), wire.MustName("a.example.")) <= 0 {
		t.Error("a-b sorts before a")
	}
}

func TestNamesAreSorted(t *testing.T) {
	z := parse(t, head+"z.deep.below 60 IN A 192.0.2.1\na 60 IN A 192.0.2.1\n_x._y.a 60 IN A 192.0.2.1\na-b 60 IN A 192.0.2.1\nother.test. 60 IN A 192.0.2.1\n")
	var names []string
	for i, at := range z.names.at {
		n := z.names.name(int(at))
		names = append(names, n.String())
		if i > 0 && compare(z.names.name(int(z.names.at[i-1])), n) >= 0 {
			t.Errorf("%s does not come after %s", n, z.names.name(int(z.names.at[i-1])))
		}
		if z.names.look(n) != int(at) {
			t.Errorf("%s is not found at its place", n)
		}
	}
	if want := "example.org. a.example.org. _y.a.example.org. _x._y.a.example.org. a-b.example.org. below.example.org. deep.below.example.org. z.deep.below.example.org. other.test."; strings.Join(names, " ") != want {
		t.Errorf("names are %s", names)
	}
	for name, want := range map[string]bool{"_y.a.example.org.": true, "deep.below.example.org.": true, "a.example.org.": false, "x.example.org.": false} {
		if got := z.isEmptyNonTerminal(wire.MustName(name)); got != want {
			t.Errorf("%s is an empty non-terminal: %v", name, got)
		}
	}
	if i := z.floor(wire.MustName("c.below.example.org.")); z.names.name(i).String() != "a-b.example.org." {
		t.Errorf("before c.below comes %s, but empty non-terminals have no NSEC", z.names.name(i))
	}
	if i := z.floor(wire.MustName("aaa.")); i != -1 {
		t.Errorf("something comes before the first name: %d", i)
	}
}

func TestRecordsAreATransfer(t *testing.T) {
	z := parse(t, "@ 60 IN NS ns2\n"+head+"b 60 IN TXT \"1\"\na 60 IN A 192.0.2.1\nb 60 IN A 192.0.2.2\nb 30 IN TXT \"2\"\n")
	var got []string
	for r := range z.Records() {
		got = append(got, fmt.Sprintf("%s %s %d", r.Owner, r.Type, r.TTL))
	}
	want := []string{"example.org. SOA 60", "example.org. NS 60", "example.org. NS 60", "a.example.org. A 60", "b.example.org. A 60",
		"b.example.org. TXT 60", "b.example.org. TXT 30", "example.org. SOA 60"}
	if !slices.Equal(got, want) {
		t.Errorf("records are %q", got)
	}
	if z.Serial() != 7 || z.Len() != 7 || z.Origin().String() != "example.org." {
		t.Errorf("serial %d, %d records, origin %s", z.Serial(), z.Len(), z.Origin())
	}
	n := 0
	for range z.Records() {
		if n++; n == 2 {
			break // a transfer whose client has gone
		}
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"@ IN SOA ns host 1 2 3 4 5\nx IN A 1.2.3\n": `db:2:12: bad A A: "1.2.3"`,
		"x 60 IN A 192.0.2.1\n":                      "no SOA record",
		head + "$INCLUDE other\n":                    "not allowed",
		head + "x 60 IN NSEC3 1 1 12 AB 2vptu5timamqttgl4luu9kg21e0aor3s A RRSIG\n":                    "NSEC3",
		head + strings.Repeat("a", 64) + " 60 IN A 192.0.2.1\n":                                        "db:3:",
		head + "x 60 IN TXT \"unclosed\n":                                                              "db:",
		head + "x 60 IN A\n":                                                                           "the A record of x.example.org. has no data",
		head + strings.Repeat(strings.Repeat("a", 60)+".", 4) + "aaaaaaaaaaaaaaaa 60 IN A 192.0.2.1\n": "db",
	} {
		_, err := Parse(Source{Text: strings.NewReader(text), Origin: wire.MustName("example.org."), File: "db"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want %q", text, err, want)
		}
	}
	seven := uint32(7)
	_, err := Parse(Source{Text: strings.NewReader(head + "not a record"), Origin: wire.MustName("example.org."), Known: &seven})
	if !errors.Is(err, ErrUnchanged) {
		t.Errorf("a known serial: %v", err)
	}
}

func TestInclude(t *testing.T) {
	files := fstest.MapFS{"sub/more": {Data: []byte("$INCLUDE deeper\n")}, "sub/deeper": {Data: []byte("inc 60 IN A 192.0.2.1\n")}}
	z, err := Parse(Source{Text: strings.NewReader(head + "$INCLUDE more in\n"), Origin: wire.MustName("example.org."), File: "sub/db", Files: files})
	if err != nil {
		t.Fatal(err)
	}
	if z.find(wire.MustName("inc.in.example.org.")) < 0 {
		t.Error("the included record is missing")
	}
	_, err = Parse(Source{Text: strings.NewReader(head + "$INCLUDE none\n"), Origin: wire.MustName("example.org."), File: "sub/db", Files: files})
	if err == nil || !strings.Contains(err.Error(), "sub/db:3:") {
		t.Errorf("a missing include: %v", err)
	}
}

func TestIndexTakesTheLongest(t *testing.T) {
	var x Index[int]
	x.Set(wire.MustName("org."), 1)
	x.Set(wire.MustName("example.org."), 2)
	for name, want := range map[string]int{"a.example.org.": 2, "example.org.": 2, "xexample.org.": 1, "org.": 1, "com.": 0, ".": 0} {
		if _, got, ok := x.Find(wire.MustName(name)); got != want || ok != (want != 0) {
			t.Errorf("%s: %d", name, got)
		}
	}
}

// TestCompact holds a hundred thousand names with an address each to 90 octets a name.
func TestCompact(t *testing.T) {
	var b strings.Builder
	b.WriteString(head)
	const names = 100_000
	for i := range names {
		fmt.Fprintf(&b, "host-%06d 60 IN A 10.%d.%d.%d\n", i, i>>16, i>>8&255, i&255)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	z := parse(t, b.String())
	runtime.GC()
	runtime.ReadMemStats(&after)
	if size := int(after.HeapAlloc-before.HeapAlloc) / names; size > 90 {
		t.Errorf("%d octets a name", size)
	}
	runtime.KeepAlive(z)
	runtime.KeepAlive(&b)
}

// FuzzParse wants that no text breaks the tables: every name is found, records read back as miekg/dns reads them.
func FuzzParse(f *testing.F) {
	f.Add(head + "*.a 60 IN CNAME b\na.b.c 60 IN SRV 1 2 3 x\n")
	f.Add(head + "d 60 IN DNAME d\ns 60 IN NS ns.s\n")
	f.Fuzz(func(t *testing.T, text string) {
		z, err := Parse(Source{Text: strings.NewReader(text), Origin: wire.MustName("example.org."), File: "db"})
		if err != nil {
			return
		}
		var reply wire.Reply
		reply.Attach(nil)
		for r := range z.Records() {
			if i := z.names.look(r.Owner); r.Owner.Under(z.origin) && i < 0 && r.Type != wire.TypeSOA && r.Type != wire.TypeNS && r.Type != wire.TypeRRSIG {
				t.Fatalf("%s is not in the table", r.Owner)
			}
			if !r.Owner.Under(z.origin) {
				continue
			}
			var q wire.Request
			q.SetQuestion(r.Owner, r.Type)
			reply.Begin(&q, wire.NoError, 0)
			z.Lookup(Question{Name: q.Name(), Type: r.Type, DO: true}, &reply)
			if len(reply.Bytes()) <= wire.MaxMessage {
				if err := new(dns.Msg).Unpack(reply.Bytes()); err != nil && reply.Count(wire.Answer) > 0 {
					t.Fatalf("%s %s: %v", r.Owner, r.Type, err)
				}
			}
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	var text strings.Builder
	text.WriteString(head)
	for i := range 100_000 {
		fmt.Fprintf(&text, "host-%06d 60 IN A 10.%d.%d.%d\n", i, i>>16, i>>8&255, i&255)
	}
	z := parse(b, text.String())
	for name, n := range map[string]string{"hit": "host-012345.example.org.", "miss": "a.b.nothing.example.org."} {
		b.Run(name, func(b *testing.B) {
			var q wire.Request
			q.SetQuestion(wire.MustName(n), wire.TypeA)
			var reply wire.Reply
			reply.Attach(make([]byte, 0, 4096))
			b.ReportAllocs()
			for b.Loop() {
				reply.Begin(&q, wire.NoError, wire.FlagAA)
				z.Lookup(Question{Name: q.Name(), Type: wire.TypeA}, &reply)
			}
		})
	}
}

// TestOneLookupIsEnough compares the short way of Lookup with the walk from the apex, over random zones that have neither
// cuts nor DNAMEs, with wildcards and without.
func TestOneLookupIsEnough(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	words := []string{"a", "b", "c", "*", "d"}
	name := func(words []string) string {
		labels := make([]string, 1+rnd.IntN(3))
		for i := range labels {
			labels[i] = words[rnd.IntN(len(words))]
		}
		return strings.Join(labels, ".")
	}
	short := 0
	for round := range 200 {
		used := words
		if round%2 == 0 {
			used = []string{"a", "b", "c", "d"}
		}
		text := head
		for range rnd.IntN(12) {
			text += name(used) + [...]string{" 60 IN A 192.0.2.1\n", " 60 IN TXT x\n", " 60 IN MX 5 a\n"}[rnd.IntN(3)]
		}
		text += "alias." + name(used) + " 60 IN CNAME " + name([]string{"a", "b", "d"}) + "\n"
		z := parse(t, text)
		if z.cuts || z.wild != strings.Contains(text, "*") {
			t.Fatalf("cuts %v, wildcards %v in\n%s", z.cuts, z.wild, text)
		}
		walked := *z
		walked.cuts = true
		for range 100 {
			n := wire.MustName(name(words) + ".example.org.")
			typ := [...]wire.Type{wire.TypeA, wire.TypeTXT, wire.TypeMX, wire.TypeCNAME, wire.TypeNS, wire.TypeSOA}[rnd.IntN(6)]
			var r wire.Request
			r.SetQuestion(n, typ)
			got, want := lookup(z, &r), lookup(&walked, &r)
			if got != want {
				t.Fatalf("%s %s: %s, want %s in\n%s", n, typ, got, want, text)
			}
			if z.find(n) >= 0 || !z.wild {
				short++
			}
		}
	}
	if short < 1000 {
		t.Errorf("only %d questions went the short way", short)
	}
}

func lookup(z *Zone, r *wire.Request) string {
	var m wire.Reply
	m.Begin(r, wire.NoError, 0)
	a := z.Lookup(Question{Name: r.Name(), Type: r.Type}, &m)
	return fmt.Sprintf("%d %s %s %x", a.Result, a.Target, a.Wildcard, m.Bytes())
}

// TestTablesFindWhatTheyHave fills tables of every size around those at which groups are added, where names that share a
// group overflow into others.
func TestTablesFindWhatTheyHave(t *testing.T) {
	for _, size := range []int{0, 1, 7, 8, 13, 14, 15, 28, 29, 56, 57, 1792, 1793, 5000} {
		var names table
		for i := range size {
			if err := names.enter(wire.MustName(fmt.Sprintf("name-%d.example.org.", i))); err != nil {
				t.Fatal(err)
			}
			names.close()
		}
		names.index()
		for i := range 2*size + 10 {
			want := -1
			if i < size {
				want = int(names.at[i])
			}
			if got := names.look(wire.MustName(fmt.Sprintf("name-%d.example.org.", i))); got != want {
				t.Errorf("of %d names, number %d is at %d, want %d", size, i, got, want)
			}
		}
	}
}
