package rewrite_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/plugin/rewrite"
	"github.com/godwit-dns/godwit/wire"
	"github.com/godwit-dns/godwit/zone"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// zoneHandler stands for the file directive: it answers from a zone, and asks for targets outside of it.
type zoneHandler struct{ zone *zone.Zone }

func (h zoneHandler) Serve(q *chain.Query) chain.Outcome {
	if h.zone == nil {
		return q.Fail(wire.ServFail, nil)
	}
	if !q.Name().Under(h.zone.Origin()) {
		return q.Fail(wire.Refused, nil)
	}
	q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA)
	a := h.zone.Lookup(zone.Question{Name: q.Name(), Type: q.Type, DO: q.DO()}, &q.Reply)
	switch a.Result {
	case zone.External:
		return q.Ask(a.Target, q.Type)
	case zone.NameError:
		q.Reply.SetRcode(wire.NXDomain)
	case zone.Delegation:
		if q.Reply.Count(wire.Answer) == 0 {
			q.Reply.SetFlags(0, wire.FlagAA)
		}
	}
	return chain.Answered
}

// Resume takes a target's answer as the file directive does.
func (h zoneHandler) Resume(q *chain.Query, ev chain.Event) chain.Outcome {
	result := zone.Success
	switch ev.Child.ResponseCode(ev.Outcome) {
	case wire.NXDomain:
		result = zone.NameError
		q.Reply.SetRcode(wire.NXDomain)
	case wire.ServFail:
		q.Reply.SetRcode(wire.ServFail)
	}
	if ev.Outcome == chain.Answered {
		if ev.Child.Reply.Rcode == wire.NoError && ev.Child.Reply.Count(wire.Answer) == 0 {
			result = zone.NoData
		}
		if err := wire.Transcribe(&q.Reply, ev.Child.Reply.Bytes(), func(s wire.Section, _ *wire.Record) wire.Action {
			if s == wire.Answer {
				return wire.Keep
			}
			return wire.Drop
		}); err != nil {
			return q.Fail(wire.ServFail, err)
		}
	}
	h.zone.Finish(zone.Question{Name: q.Name(), Type: q.Type, DO: q.DO()}, &q.Reply, result)
	return chain.Answered
}

var fileSpec = chain.Spec{Name: "file", New: func(s *chain.Setup) error {
	args := s.Lines[0].Args
	origin := s.Block.Zones[0]
	if len(args) > 1 {
		origin = args[1].Text + "."
	}
	text, err := s.Env.Files.Open(args[0].Text)
	if err != nil {
		s.Handler(zoneHandler{})
		return nil
	}
	defer text.Close()
	z, err := zone.Parse(zone.Source{Text: text, Origin: wire.MustName(origin), File: args[0].Text})
	if err != nil {
		return err
	}
	s.Handler(zoneHandler{z})
	return nil
}}

// optionHandler stands for an upstream server: it answers with the EDNS options that it got as text, and gives them back.
type optionHandler struct{}

func (optionHandler) Serve(q *chain.Query) chain.Outcome {
	q.Reply.Begin(&q.Request, wire.NoError, 0)
	var texts []string
	for list := q.EDNS.Options; len(list) > 0; {
		code, data, rest := wire.NextOption(list)
		texts = append(texts, fmt.Sprintf("%d:%s", code, hex.EncodeToString(data)))
		list = rest
	}
	slices.Sort(texts)
	switch {
	case !q.EDNS.Present:
		texts = []string{"no opt"}
	case len(texts) == 0:
		texts = []string{"empty"}
	}
	var data []byte
	for _, t := range texts {
		data = append(append(data, byte(len(t))), t...)
	}
	q.Reply.Append(wire.Answer, q.Name(), wire.TypeTXT, wire.ClassIN, 5, data)
	if q.EDNS.Present {
		q.Reply.OwnOPT = true
		q.Reply.Options = append(q.Reply.Options[:0], q.EDNS.Options...)
	}
	return chain.Answered
}

var forwardSpec = chain.Spec{Name: "forward", New: func(s *chain.Setup) error {
	s.Handler(optionHandler{})
	return nil
}}

var specs = []chain.Spec{rewrite.Spec, fileSpec, forwardSpec}

// TestLookups holds every reply against what CoreDNS 1.14.7 gave for the same Corefile, zone and questions.
func TestLookups(t *testing.T) {
	text, err := os.ReadFile("testdata/Corefile")
	if err != nil {
		t.Fatal(err)
	}
	b := chaintest.New(t, string(text), chaintest.Options{Specs: specs, Files: os.DirFS("testdata")})
	b.Client = netip.MustParseAddrPort("127.0.0.1:5000")
	b.Golden(t, "testdata/lookups.golden")
}

// TestRevert: the client gets back what it sent, whatever was asked of the next server. CoreDNS does not find nsid and
// subnet options again, and takes away the client's own option beside one that a rule appended.
func TestRevert(t *testing.T) {
	text, err := os.ReadFile("testdata/Corefile")
	if err != nil {
		t.Fatal(err)
	}
	b := chaintest.New(t, string(text), chaintest.Options{Specs: specs, Files: os.DirFS("testdata")})
	b.Client = netip.MustParseAddrPort("127.0.0.1:5000")
	for _, list := range []string{"3:616263 8:00011800c00002", "65501:01 65502:02 65503:03 65520:04"} {
		m := new(dns.Msg).SetQuestion("x.revert.test.", dns.TypeTXT).SetEdns0(1232, false)
		want := ""
		for _, o := range strings.Fields(list) {
			var code uint16
			var data []byte
			if _, err := fmt.Sscanf(o, "%d:%x", &code, &data); err != nil {
				t.Fatal(err)
			}
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: code, Data: data})
			want += "opt " + o + "\n"
		}
		if got := chaintest.Text(b.Do(chaintest.Query{Msg: m})); !strings.HasSuffix(got, "\n"+want) || strings.Count(got, "opt ") != len(strings.Fields(list)) {
			t.Errorf("%s: got\n%s", list, got)
		}
	}
}

var errBelow = errors.New("broken below")

// below fails every query with the code that its name begins with.
type below struct{}

func (below) Serve(q *chain.Query) chain.Outcome {
	if q.Type == wire.TypeNULL {
		return chain.Dropped
	}
	return q.Fail(wire.Refused, errBelow)
}

// TestFailuresBelow: what fails below is written here when the reply is to be changed, and its error is not lost.
func TestFailuresBelow(t *testing.T) {
	belowSpec := chain.Spec{Name: "below", New: func(s *chain.Setup) error {
		s.Handler(below{})
		return nil
	}}
	b := chaintest.New(t, ". {\nrewrite name a.test b.test\nrewrite continue type MX TXT\nrewrite rcode c.test REFUSED NXDOMAIN\nbelow\n}\n",
		chaintest.Options{Specs: []chain.Spec{rewrite.Spec, belowSpec}})
	for _, c := range []struct {
		name  string
		qtype uint16
		out   chain.Outcome
		rcode int
	}{
		{"A.test.", dns.TypeA, chain.Answered, dns.RcodeRefused},
		{"c.test.", dns.TypeA, chain.Answered, dns.RcodeNameError},
		{"d.test.", dns.TypeA, chain.Failed, dns.RcodeRefused},
		{"a.test.", dns.TypeNULL, chain.Dropped, -1},
	} {
		var out chain.Outcome
		var failure error
		m := b.Do(chaintest.Query{Msg: new(dns.Msg).SetQuestion(c.name, c.qtype), OnEnd: func(q *chain.Query, o chain.Outcome) { out, failure = o, q.Err }})
		if out != c.out || (m == nil) != (c.rcode < 0) || m != nil && (m.Rcode != c.rcode || m.Question[0].Name != c.name) {
			t.Errorf("%s: %s with\n%s", c.name, out, m)
		}
		if out != chain.Dropped && !errors.Is(failure, errBelow) {
			t.Errorf("%s: the error is %v", c.name, failure)
		}
	}
}

// TestNamesThatBreak: a name that can't be asked for fails the query, and the client sees its own question.
func TestNamesThatBreak(t *testing.T) {
	long := strings.Repeat("x", 64)
	b := chaintest.New(t, ". {\nrewrite continue name c.test d.test\nrewrite name exact a.test "+long+".test\nrewrite name prefix b "+long+"\n"+
		"rewrite name regex ^e(.*)$ "+long+"{1}\nforward\n}\n", chaintest.Options{Specs: specs})
	for _, name := range []string{"a.test.", "E.test."} {
		m := b.Ask(name, dns.TypeA)
		if m.Rcode != dns.RcodeServerFailure || m.Question[0].Name != name {
			t.Errorf("%s gets\n%s", name, m)
		}
	}
	_, err := chaintest.Build(t, ". {\nrewrite name regex a( b\n}\n", chaintest.Options{Specs: specs})
	if err == nil {
		t.Error("a broken pattern is accepted")
	}
}

// TestReplyNamesThatBreak: a name in the reply that becomes too long fails the query too.
func TestReplyNamesThatBreak(t *testing.T) {
	b := chaintest.New(t, "example.org {\nrewrite name suffix .s.example.org .example.org answer value (.*) "+strings.Repeat("y", 64)+".{0}\nfile db\n}\n",
		chaintest.Options{Specs: specs, Files: os.DirFS("testdata")})
	if m := b.Ask("mail.s.example.org.", dns.TypeMX); m.Rcode != dns.RcodeServerFailure || len(m.Answer) != 0 {
		t.Errorf("got\n%s", m)
	}
}

func TestMetadata(t *testing.T) {
	provider := chain.Spec{Name: "provider", New: func(s *chain.Setup) error {
		s.Block.HasMetadata = true
		s.Provide("some/thing", func(q *chain.Query) string { return strings.TrimPrefix(q.Name().String(), "empty.test.") })
		return nil
	}}
	b := chaintest.New(t, ". {\nprovider\nrewrite edns0 local set 65001 {some/thing}\nforward\n}\n", chaintest.Options{Specs: append(specs, provider)})
	for name, want := range map[string]string{"a.test.": "65001:" + hex.EncodeToString([]byte("a.test.")), "empty.test.": "no opt"} {
		if got := b.Ask(name, dns.TypeTXT).Answer[0].(*dns.TXT).Txt[0]; got != want {
			t.Errorf("%s: options are %s, want %s", name, got, want)
		}
	}
}

func TestSetup(t *testing.T) {
	long := strings.Repeat("a", 10001)
	for text, want := range map[string]string{
		"rewrite name a b":       "",
		"rewrite NAME Exact a b": "",
		"rewrite stop name a b":  "",
		"rewrite continue {\nname regex (.*) {1}\nanswer name (.*) {1}\n}": "",
		"rewrite {\ntype A AAAA\n}":                                        "",
		"rewrite":                                                          "no rule type",
		"rewrite continue":                                                 "must begin with a rule type",
		"rewrite nmae a b":                                                 "did you mean name?",
		"rewrite answer name a b":                                          "must begin with a name rule",
		"rewrite name a":                                                   "too few arguments",
		"rewrite name fuzzy a b":                                           "received: fuzzy",
		"rewrite name exact *.a b":                                         "",
		"rewrite name exact a *.b":                                         "invalid regex matching pattern",
		"rewrite name regex a( b":                                          "invalid regex matching pattern",
		"rewrite name regex (a) {1}{2}":                                    "uses more groups",
		"rewrite name regex " + long + " b":                                "too long",
		"rewrite name regex a b c d":                                       "exceeded the number of arguments",
		"rewrite name regex a b answer":                                    "invalid arguments",
		"rewrite name regex a b answer name c":                             "2 arguments required",
		"rewrite name regex a b answer owner c d":                          `invalid type "owner"`,
		"rewrite name regex a b answer auto answer name c d":               "cannot be combined",
		"rewrite name regex a b answer auto answer value c d":              "",
		"rewrite name regex a b answer name c d value e f":                 "",
		"rewrite name regex a b answer name c d answer":                    "type missing",
		"rewrite name regex a b answer value c( d":                         "value answer rule for regex rule",
		"rewrite type A":                                                   "exactly two",
		"rewrite type A B":                                                 `invalid type "B"`,
		"rewrite type A TYPE65":                                            "invalid type",
		"rewrite type any hinfo":                                           "",
		"rewrite class IN":                                                 "exactly two",
		"rewrite class in XX":                                              `invalid class "XX"`,
		"rewrite class ANY in":                                             "",
		"rewrite ttl a":                                                    "two or three",
		"rewrite ttl a x":                                                  "invalid TTL",
		"rewrite ttl a -":                                                  "invalid TTL",
		"rewrite ttl a 5-1":                                                "invalid TTL",
		"rewrite ttl a 1-2-3":                                              "invalid TTL",
		"rewrite ttl a 4294967296":                                         "invalid TTL",
		"rewrite ttl a -30":                                                "",
		"rewrite ttl fuzzy a 30":                                           "none of exact",
		"rewrite ttl regex a( 30":                                          "invalid regex",
		"rewrite rcode a 0":                                                "three or four",
		"rewrite rcode a 24 0":                                             "invalid matching RCODE",
		"rewrite rcode a 0 SOMETHING":                                      "invalid replacement RCODE",
		"rewrite rcode substring a notimpl BADSIG":                         "",
		"rewrite cname a":                                                  "two or three",
		"rewrite cname fuzzy a b":                                          "unknown cname rewrite type",
		"rewrite cname regex a( b":                                         "invalid regex",
		"rewrite cname a b":                                                "",
		"rewrite edns0 local":                                              "too few",
		"rewrite edns0 local put 1 2":                                      "invalid action",
		"rewrite edns0 remote set 1 2":                                     "invalid rule type",
		"rewrite edns0 local set 1":                                        "2 arguments",
		"rewrite edns0 local set 65536 a":                                  "no option code",
		"rewrite edns0 local set 1 0xzz":                                   "not hexadecimal",
		"rewrite edns0 local set 1 {nothing}":                              "unsupported variable",
		"rewrite edns0 local set 1 {a/b} revert":                           "",
		"rewrite edns0 local unset 0xfde9":                                 "",
		"rewrite edns0 local unset 1 2":                                    "1 arguments",
		"rewrite edns0 nsid set x":                                         "take no value",
		"rewrite edns0 nsid append revert":                                 "",
		"rewrite edns0 subnet set 24":                                      "two prefix lengths",
		"rewrite edns0 subnet set 33 56":                                   "IPv4 bit mask",
		"rewrite edns0 subnet set 24 129":                                  "IPv6 bit mask",
		"rewrite edns0 subnet unset 24":                                    "take no value",
		"rewrite edns0 subnet unset":                                       "",
		"rewrite name a b {\ntype A AAAA\n}":                               "not both",
	} {
		_, err := chaintest.Build(t, ". {\n"+text+"\n}\n", chaintest.Options{Specs: specs})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Corefile:2:")) {
			t.Errorf("%.80s: error is %v, want %q", text, err, want)
		}
	}
}

// TestNoAllocation: rules that are not for a query cost it no memory, and neither do the two kinds that clusters have.
func TestNoAllocation(t *testing.T) {
	text := "example.org {\nrewrite name exact old.example.org www.example.org\nrewrite name suffix .pub.example.org .example.org answer auto\n" +
		"rewrite name regex ^never-(.*)$ {1}\nrewrite name substring never x\nrewrite ttl prefix never 5\nrewrite rcode regex ^never 0 1\nfile db\n}\n"
	b := chaintest.New(t, text, chaintest.Options{Specs: specs, Files: os.DirFS("testdata")})
	b.ExpectNoAllocation(new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA))
	b.ExpectNoAllocation(new(dns.Msg).SetQuestion("old.example.org.", dns.TypeA))
	b.ExpectNoAllocation(new(dns.Msg).SetQuestion("mail.pub.example.org.", dns.TypeMX))
}

func BenchmarkExact(b *testing.B) {
	bench := chaintest.New(b, "example.org {\nrewrite name exact old.example.org www.example.org\nfile db\n}\n", chaintest.Options{Specs: specs, Files: os.DirFS("testdata")})
	bench.Measure(b, new(dns.Msg).SetQuestion("old.example.org.", dns.TypeA))
}
