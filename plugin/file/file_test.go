package file_test

import (
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/plugin/file"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var specs = []chain.Spec{file.Spec}

func read(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestLookups holds every answer against what CoreDNS 1.14.7 gave for the same Corefile, zones and questions, record for
// record and in the same order.
func TestLookups(t *testing.T) {
	b := chaintest.New(t, read(t, "Corefile"), chaintest.Options{Specs: specs, Files: os.DirFS("testdata")})
	b.Golden(t, "testdata/lookups.golden")
}

// TestRootAndShared: the root zone, where CoreDNS has no wildcards for single labels; one file for several zones, networks
// off the octet boundary among them; and records outside of their zone.
func TestRootAndShared(t *testing.T) {
	b := chaintest.New(t, read(t, "Corefile.root"), chaintest.Options{Specs: specs, Files: os.DirFS("testdata")})
	b.Golden(t, "testdata/root.golden")
}

const small = `@ 60 IN SOA ns host 1 2 3 4 5
@ 60 IN NS ns
www 60 IN A 192.0.2.1
`

func files(zones map[string]string) fs.FS {
	m := fstest.MapFS{}
	for name, text := range zones {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

// next answers what falls through with a code of its own.
type next struct{}

func (next) Serve(q *chain.Query) chain.Outcome { return q.Fail(dns.RcodeNotImplemented, nil) }

var nextSpec = chain.Spec{Name: "next", New: func(s *chain.Setup) error {
	s.Handler(next{})
	return nil
}}

func TestFallthrough(t *testing.T) {
	for _, c := range []struct {
		option, name string
		qtype        uint16
		want         int
	}{
		{"", "nope.example.org.", dns.TypeA, dns.RcodeNameError},
		{"fallthrough", "nope.example.org.", dns.TypeA, dns.RcodeNotImplemented},
		{"fallthrough", "b.example.org.", dns.TypeA, dns.RcodeNotImplemented}, // an empty non-terminal
		{"fallthrough", "www.example.org.", dns.TypeAAAA, dns.RcodeSuccess},   // NODATA does not fall through
		{"fallthrough x.example.org", "nope.example.org.", dns.TypeA, dns.RcodeNameError},
		{"fallthrough x.example.org", "a.x.example.org.", dns.TypeA, dns.RcodeNotImplemented},
		{"", "elsewhere.test.", dns.TypeA, dns.RcodeNotImplemented},
	} {
		b := chaintest.New(t, ". {\nfile db example.org {\n"+c.option+"\n}\nnext\n}\n", chaintest.Options{
			Specs: []chain.Spec{file.Spec, nextSpec}, Files: files(map[string]string{"db": small + "a.b 60 IN A 192.0.2.2\n"})})
		if got := b.Ask(c.name, c.qtype).Rcode; got != c.want {
			t.Errorf("%q: %s is %s, want %s", c.option, c.name, dns.RcodeToString[got], dns.RcodeToString[c.want])
		}
	}
}

func TestNotItsZone(t *testing.T) {
	b := chaintest.New(t, ". {\nfile db example.org\n}\n", chaintest.Options{Specs: specs, Files: files(map[string]string{"db": small})})
	if m := b.Ask("elsewhere.test.", dns.TypeA); m.Rcode != dns.RcodeRefused {
		t.Errorf("a foreign name at the end of the chain is %s, want REFUSED", dns.RcodeToString[m.Rcode])
	}
	for _, qtype := range []uint16{dns.TypeAXFR, dns.TypeIXFR} {
		if m := b.Ask("example.org.", qtype); m.Rcode != dns.RcodeRefused {
			t.Errorf("%s without transfer is %s, want REFUSED", dns.TypeToString[qtype], dns.RcodeToString[m.Rcode])
		}
	}
	notify := new(dns.Msg).SetNotify("example.org.")
	if m := b.Do(chaintest.Query{Msg: notify}); m != nil {
		t.Errorf("NOTIFY got an answer:\n%s", m)
	}
}

// reader reads metadata when the reply comes by, as log does.
type reader struct {
	block *chain.Block
	seen  *string
}

func (reader) Serve(*chain.Query) chain.Outcome { return chain.Next }

func (r reader) Reply(q *chain.Query, below chain.Outcome) chain.Outcome {
	*r.seen = ""
	if f := r.block.Metadata("zone/wildcard"); f != nil {
		*r.seen = f(q)
	}
	return below
}

func TestWildcardMetadata(t *testing.T) {
	var seen string
	readerSpec := chain.Spec{Name: "reader", New: func(s *chain.Setup) error {
		s.Block.HasMetadata = true
		s.Handler(reader{s.Block, &seen})
		return nil
	}}
	b := chaintest.New(t, "example.org {\nreader\nfile db {\nfallthrough\n}\nnext\n}\n", chaintest.Options{
		Specs: []chain.Spec{readerSpec, file.Spec, nextSpec}, Files: files(map[string]string{"db": small + "*.w 60 IN A 192.0.2.2\n"})})
	for _, c := range []struct {
		name, want string
		qtype      uint16
	}{{"x.w.example.org.", "*.w.example.org.", dns.TypeA}, {"www.example.org.", "", dns.TypeA}, {"x.w.example.org.", "*.w.example.org.", dns.TypeTXT},
		{"nope.example.org.", "", dns.TypeA}} {
		b.Ask(c.name, c.qtype)
		if seen != c.want {
			t.Errorf("%s: the wildcard is %q, want %q", c.name, seen, c.want)
		}
	}
}

func TestSetup(t *testing.T) {
	zones := map[string]string{"db": small, "bad": small + "x 60 IN A not-an-address\n", "nosoa": "www 60 IN A 192.0.2.1\n",
		"nsec3": small + "x 60 IN NSEC3PARAM 1 0 5 AB\n", "inc": small + "$INCLUDE more\n", "more": "inc 60 IN A 192.0.2.9\n"}
	for _, c := range []struct{ text, want string }{
		{"file", "file has no arguments|takes at least 1"},
		{"file db", ""},
		{"file inc", ""},
		{"file db example.org example.net", ""},
		{"file db {\nreload 0\n}", ""},
		{"file db {\nreload 10s extra\nupstream 8.8.8.8\nfallthrough a b\nreload_by_mtime\n}", ""},
		{"file db {\nreload\n}", "reload has no arguments|takes at least 1"},
		{"file db {\nreload soon\n}", "Corefile:3:8: \"soon\" is not a duration"},
		{"file db {\nreload -5s\n}", "out of range"},
		{"file db {\nfalltrough\n}", "did you mean \"fallthrough\"?"},
		{"file missing", ""},
		{"file missing {\nreload 0\n}", "failed to open"},
		{"file bad", "bad:4:24: bad A A: \"not-an-address\""},
		{"file nosoa", "nosoa: the zone example.org. has no SOA record"},
		{"file nsec3", "NSEC3"},
	} {
		_, err := chaintest.Build(t, "example.org {\n"+c.text+"\n}\n", chaintest.Options{Specs: specs, Files: files(zones)})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.text, err)
		case c.want != "" && err == nil:
			t.Errorf("%s: accepted", c.text)
		case c.want != "":
			matched := false
			for _, w := range strings.Split(c.want, "|") {
				matched = matched || strings.Contains(err.Error(), w)
			}
			if !matched {
				t.Errorf("%s: error %q does not say %q", c.text, err, c.want)
			}
		}
	}
}

func TestMissingFileAppears(t *testing.T) {
	zones := fstest.MapFS{}
	shared := &lockedFS{fs: zones}
	b := chaintest.New(t, "example.org {\nfile db {\nreload 10s\n}\n}\n", chaintest.Options{Specs: specs, Files: shared})
	if len(b.Config.Warnings) != 1 || !strings.Contains(b.Config.Warnings[0].Text, "trying again in 10s") {
		t.Errorf("warnings are %v", b.Config.Warnings)
	}
	if m := b.Ask("www.example.org.", dns.TypeA); m.Rcode != dns.RcodeServerFailure || m.Authoritative {
		t.Errorf("before the file is there:\n%s", m)
	}
	b.Start()
	shared.put("db", small, 1)
	answers := func() bool { return len(b.Ask("www.example.org.", dns.TypeA).Answer) == 1 }
	b.Until("loading the file", func() bool { b.Advance(10 * time.Second); return answers() })
	shared.put("db", strings.Replace(small, "host 1 ", "host 1 ", 1)+"new 60 IN A 192.0.2.2\n", 2)
	b.Advance(30 * time.Second)
	if m := b.Ask("new.example.org.", dns.TypeA); m.Rcode != dns.RcodeNameError {
		t.Errorf("a file with the same serial was loaded:\n%s", m)
	}
	shared.put("db", "garbage", 3)
	b.Until("the error", func() bool {
		b.Advance(10 * time.Second)
		return strings.Contains(b.Log.String(), "cannot load the zone example.org.")
	})
	if !answers() {
		t.Error("the old zone does not go on when its file is broken")
	}
	shared.put("db", strings.Replace(small, "host 1 ", "host 2 ", 1)+"new 60 IN A 192.0.2.2\n", 4)
	b.Until("the reload", func() bool {
		b.Advance(10 * time.Second)
		return len(b.Ask("new.example.org.", dns.TypeA).Answer) == 1
	})
}

func TestReloadByMtime(t *testing.T) {
	shared := &lockedFS{fs: fstest.MapFS{}}
	shared.put("db", small, 1)
	b := chaintest.New(t, "example.org {\nfile db {\nreload 10s\nreload_by_mtime\n}\n}\n", chaintest.Options{Specs: specs, Files: shared})
	b.Start()
	shared.put("db", small+"new 60 IN A 192.0.2.2\n", 2)
	b.Until("the reload", func() bool {
		b.Advance(10 * time.Second)
		return len(b.Ask("new.example.org.", dns.TypeA).Answer) == 1
	})
}

// TestNoAllocation is for answers that need no other question.
func TestNoAllocation(t *testing.T) {
	b := chaintest.New(t, read(t, "Corefile"), chaintest.Options{Specs: specs, Files: os.DirFS("testdata")})
	for _, name := range []string{"mail.example.org.", "x.wild.example.org.", "alias2.example.org.", "x.sub.example.org.", "missing.ent.wild.example.org."} {
		b.ExpectNoAllocation(new(dns.Msg).SetQuestion(name, dns.TypeA))
	}
	b.ExpectNoAllocation(new(dns.Msg).SetQuestion("_sip._tcp.example.org.", dns.TypeSRV))
	b.ExpectNoAllocation(new(dns.Msg).SetQuestion("a.missing.signed.example.", dns.TypeA).SetEdns0(1232, true))
}
