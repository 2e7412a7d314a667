package hosts_test

import (
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/plugin/hosts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// other stands for the directive that comes after.
type other struct{}

func (other) Serve(q *chain.Query) chain.Outcome { return q.Fail(dns.RcodeNotImplemented, nil) }

func after(name string) chain.Spec {
	return chain.Spec{Name: name, New: func(s *chain.Setup) error {
		s.Handler(other{})
		return nil
	}}
}

var specs = []chain.Spec{hosts.Spec, after("kubernetes"), after("next")}

// lockedFS is a file system that a test changes while the directive reads it.
type lockedFS struct {
	mu sync.Mutex
	fs fstest.MapFS
}

func (l *lockedFS) put(name, text string, mtime int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fs[name] = &fstest.MapFile{Data: []byte(text), ModTime: time.Unix(mtime, 0)}
}

// Open opens a file as it is now.
func (l *lockedFS) Open(name string) (fs.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fs.Open(name)
}

// TestLookups holds every answer against what CoreDNS 1.14.7 gave for the same Corefile, file and questions.
func TestLookups(t *testing.T) {
	text, err := os.ReadFile("testdata/Corefile")
	if err != nil {
		t.Fatal(err)
	}
	b := chaintest.New(t, string(text), chaintest.Options{Specs: specs, Files: os.DirFS("testdata")})
	b.Golden(t, "testdata/lookups.golden")
}

func TestFallthrough(t *testing.T) {
	const names = "192.0.2.1 four.example.org\n2001:db8::1 six.example.org\n"
	for _, c := range []struct {
		options, name string
		qtype         uint16
		want          int
	}{
		{"", "nope.example.org.", dns.TypeA, dns.RcodeServerFailure},
		{"fallthrough", "nope.example.org.", dns.TypeA, dns.RcodeNotImplemented},
		{"fallthrough", "four.example.org.", dns.TypeAAAA, dns.RcodeSuccess},
		{"fallthrough", "four.example.org.", dns.TypeMX, dns.RcodeSuccess},
		{"fallthrough\nfallthrough_unsupported", "four.example.org.", dns.TypeMX, dns.RcodeNotImplemented},
		{"fallthrough\nfallthrough_unsupported", "four.example.org.", dns.TypeAAAA, dns.RcodeSuccess},
		{"fallthrough other.org\nfallthrough_unsupported", "four.example.org.", dns.TypeMX, dns.RcodeSuccess},
		{"", "elsewhere.test.", dns.TypeA, dns.RcodeNotImplemented},
		{"", "2.2.0.192.in-addr.arpa.", dns.TypePTR, dns.RcodeNotImplemented},
		{"", "1.2.0.192.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess},
		{"no_reverse", "1.2.0.192.in-addr.arpa.", dns.TypePTR, dns.RcodeNotImplemented},
	} {
		b := chaintest.New(t, ". {\nhosts h example.org {\n"+c.options+"\n}\nnext\n}\n", chaintest.Options{
			Specs: specs, Files: fstest.MapFS{"h": {Data: []byte(names)}}})
		if got := b.Ask(c.name, c.qtype).Rcode; got != c.want {
			t.Errorf("%q: %s %s is %s, want %s", c.options, c.name, dns.TypeToString[c.qtype], dns.RcodeToString[got], dns.RcodeToString[c.want])
		}
	}
}

func TestSetup(t *testing.T) {
	files := fstest.MapFS{"h": {Data: []byte("192.0.2.1 x\n")}, "d/f": {}}
	for _, c := range []struct{ text, want, warning string }{
		{"hosts h", "", ""},
		{"hosts", "", ""},
		{"hosts none", "", "does not exist"},
		{"hosts d", "", "is a folder"},
		{"hosts h example.org 10.0.0.0/8", "", ""},
		{"hosts h {\n192.0.2.1 a b\nttl 60 ignored\nno_reverse\nreload 0\nfallthrough\n}", "", ""},
		{"hosts h {\nfalltrough\n}", "", "neither an option"},
		{"hosts h {\nttl 0\n}", "out of range", ""},
		{"hosts h {\nttl 65536\n}", "out of range", ""},
		{"hosts h {\nttl x\n}", "is not a number", ""},
		{"hosts h {\nttl\n}", "takes at least 1", ""},
		{"hosts h {\nreload\n}", "takes 1", ""},
		{"hosts h {\nreload -1s\n}", "out of range", ""},
		{"hosts h {\nreload 1s 2s\n}", "takes 1", ""},
		{"hosts h {\nfallthrough\n192.0.2.1 late\n}", "behind fallthrough", ""},
		{"hosts h {\nfallthrough\nbogus\n}", "no option \"bogus\"", ""},
		{"hosts h {\nfallthrough_unsupported\n}", "needs fallthrough", ""},
		{"hosts h {\nfallthrough_unsupported x\nfallthrough\n}", "takes none", ""},
		{"hosts h\nhosts h", "stands twice", ""},
	} {
		b, err := chaintest.Build(t, ". {\n"+c.text+"\n}\n", chaintest.Options{Specs: specs, Files: files})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.text, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error is %v, want %q", c.text, err, c.want)
		case c.want == "":
			if got := fmt.Sprint(b.Config.Warnings); len(b.Config.Warnings) > 1 || !strings.Contains(got, c.warning) || c.warning == "" && got != "[]" {
				t.Errorf("%s: warnings are %s, want %q", c.text, got, c.warning)
			}
		}
	}
}

func TestTrapIsWarnedOf(t *testing.T) {
	for _, c := range []struct{ zone, args, options, directives, want string }{
		{".", "", "192.0.2.1 a\nfallthrough in-addr.arpa ip6.arpa", "kubernetes", "Corefile:4:1"},
		{".", "", "192.0.2.1 a", "kubernetes", "Corefile:2:1"},
		{".", "h .", "fallthrough cluster.local", "kubernetes", "falls through for cluster.local. only"},
		{"cluster.local", "", "192.0.2.1 a", "kubernetes", "every other name"},
		{".", "", "192.0.2.1 a\nfallthrough", "kubernetes", ""},
		{".", "h example.org", "192.0.2.1 a", "kubernetes", ""},
		{".", "", "192.0.2.1 a\nfallthrough in-addr.arpa ip6.arpa", "next", ""},
	} {
		b := chaintest.New(t, c.zone+" {\nhosts "+c.args+" {\n"+c.options+"\n}\n"+c.directives+"\n}\n", chaintest.Options{
			Specs: specs, Files: fstest.MapFS{"h": {Data: []byte("192.0.2.1 x\n")}}})
		got := ""
		for _, w := range b.Config.Warnings {
			got += w.Pos.String() + ": " + w.Text
		}
		if !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%+v: warning is %q", c, got)
		}
	}
}

func TestReload(t *testing.T) {
	shared := &lockedFS{fs: fstest.MapFS{}}
	b := chaintest.New(t, ". {\nhosts h {\n192.0.2.9 inline\n}\n}\n", chaintest.Options{Specs: specs, Files: shared})
	b.Start()
	entries := func() float64 {
		return b.Env.Metrics.Gauge("coredns_hosts_entries", "The combined number of entries in hosts and Corefile.", metrics.L("hostsfile", "h")...).Value()
	}
	count := func(name string) int { return len(b.Ask(name, dns.TypeA).Answer) }
	shared.put("h", "192.0.2.1 a\n192.0.2.2 a\n", 1)
	b.Until("the first reading", func() bool { b.Advance(5 * time.Second); return count("a.") == 2 })
	b.Until("the metric", func() bool { return entries() == 6 }) // three addresses, three names of addresses
	shared.put("h", "192.0.2.1 a\n192.0.2.3 b\n", 1)
	b.Advance(20 * time.Second)
	if count("b.") != 0 {
		t.Error("a file of the same size and time was read again")
	}
	shared.put("h", "192.0.2.3 b\n", 2)
	b.Until("the second reading", func() bool { b.Advance(5 * time.Second); return count("b.") == 1 && count("a.") == 0 })
	b.Until("the metric", func() bool { return entries() == 4 })
	if got := b.Env.Metrics.Gauge("coredns_hosts_reload_timestamp_seconds", "The timestamp of the last reload of hosts file.").Value(); got != 2 {
		t.Errorf("time of the last reload is %v", got)
	}
	if count("inline.") != 1 {
		t.Error("the Corefile's lines are gone")
	}
}

func TestNoAllocation(t *testing.T) {
	b := chaintest.New(t, ". {\nhosts h\n}\n", chaintest.Options{Specs: specs, Files: fstest.MapFS{
		"h": {Data: []byte("192.0.2.1 a.example.org b.example.org\n2001:db8::1 a.example.org\n192.0.2.2 *.wild.example.org\n")}}})
	for name, qtype := range map[string]uint16{"a.example.org.": dns.TypeA, "x.wild.example.org.": dns.TypeA, "b.example.org.": dns.TypeAAAA,
		"1.2.0.192.in-addr.arpa.": dns.TypePTR, "nope.": dns.TypeA,
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.": dns.TypePTR} {
		b.ExpectNoAllocation(new(dns.Msg).SetQuestion(name, qtype))
	}
}

// TestLargeFile is a list of blocked names: one address with more names than a message holds, in little memory.
func TestLargeFile(t *testing.T) {
	var text strings.Builder
	const names = 100_000
	for i := range names {
		fmt.Fprintf(&text, "0.0.0.0 tracker-%06d.example.org\n", i)
	}
	files := fstest.MapFS{"h": {Data: []byte(text.String())}}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b := chaintest.New(t, ". {\nhosts h\n}\n", chaintest.Options{Specs: specs, Files: files})
	runtime.GC()
	runtime.ReadMemStats(&after)
	if size := int(after.HeapAlloc-before.HeapAlloc) / names; size > 90 {
		t.Errorf("%d octets a name", size)
	}
	m := b.Do(chaintest.Query{Msg: new(dns.Msg).SetQuestion("0.0.0.0.in-addr.arpa.", dns.TypePTR), Proto: chain.TCP})
	if !m.Truncated || len(m.Answer) < 1000 {
		t.Errorf("%d names of one address, truncated %v", len(m.Answer), m.Truncated)
	}
	runtime.KeepAlive(files)
}
