package template_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/plugin/template"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var specs = []chain.Spec{template.Spec}

// TestLookups holds every reply against what CoreDNS 1.14.7 gave for the same Corefile and questions.
func TestLookups(t *testing.T) {
	text, err := os.ReadFile("testdata/Corefile")
	if err != nil {
		t.Fatal(err)
	}
	b := chaintest.New(t, string(text), chaintest.Options{Specs: specs})
	b.Client = netip.MustParseAddrPort("127.0.0.1:5000")
	b.Golden(t, "testdata/lookups.golden")
}

// TestAliasLoop: a template that leads to itself ends, with the aliases that were followed.
func TestAliasLoop(t *testing.T) {
	b := chaintest.New(t, ". {\ntemplate IN A {\nanswer \"{{ .Name }} 60 IN CNAME {{ .Name }}\"\n}\n}\n", chaintest.Options{Specs: specs})
	if m := b.Ask("loop.test.", dns.TypeA); m.Rcode != dns.RcodeSuccess || len(m.Answer) != chain.MaxDepth+1 {
		t.Errorf("got\n%s", m)
	}
}

func TestMetadata(t *testing.T) {
	provider := chain.Spec{Name: "provider", New: func(s *chain.Setup) error {
		s.Block.HasMetadata = true
		s.Provide("some/thing", func(q *chain.Query) string { return "of " + q.Name().String() })
		return nil
	}}
	b := chaintest.New(t, ". {\nprovider\ntemplate IN TXT {\nanswer \"{{ .Name }} 5 IN TXT \\\"{{ .Meta \\\"some/thing\\\" }}\\\"\"\n}\n}\n",
		chaintest.Options{Specs: append(specs, provider)})
	m := b.Ask("a.test.", dns.TypeTXT)
	if len(m.Answer) != 1 || m.Answer[0].(*dns.TXT).Txt[0] != "of a.test." {
		t.Errorf("got\n%s", m)
	}
}

func TestExtendedError(t *testing.T) {
	b := chaintest.New(t, ". {\ntemplate IN A {\nrcode NXDOMAIN\nederror 21 gone\n}\n}\n", chaintest.Options{Specs: specs})
	m := b.Do(chaintest.Query{Msg: new(dns.Msg).SetQuestion("a.test.", dns.TypeA).SetEdns0(1232, false)})
	o := m.IsEdns0()
	if o == nil || len(o.Option) != 1 || o.Option[0].(*dns.EDNS0_EDE).InfoCode != 21 || o.Option[0].(*dns.EDNS0_EDE).ExtraText != "gone" {
		t.Errorf("with EDNS:\n%s", m)
	}
	if m := b.Ask("a.test.", dns.TypeA); m.IsEdns0() != nil || m.Rcode != dns.RcodeNameError {
		t.Errorf("without EDNS:\n%s", m)
	}
}

func TestMetrics(t *testing.T) {
	text := ". {\ntemplate IN A good.test {\nanswer \"{{ .Name }} 1 IN A 192.0.2.1\"\n}\ntemplate IN A wrong.test {\nanswer \"nonsense\"\n}\n" +
		"template IN A failing.test {\nanswer \"{{ index .Match 9 }}\"\n}\n}\n"
	b := chaintest.New(t, text, chaintest.Options{Specs: specs})
	for _, name := range []string{"a.good.test.", "b.good.test.", "wrong.test.", "failing.test."} {
		b.Ask(name, dns.TypeA)
	}
	value := func(name, zone string, more ...string) uint64 {
		pairs := append([]string{"server", "dns://:53", "zone", zone, "view", "", "class", "IN", "type", "A"}, more...)
		return b.Env.Metrics.Counter(name, "", metrics.L(pairs...)...).Value()
	}
	if n := value("coredns_template_matches_total", "good.test."); n != 2 {
		t.Errorf("%d matches", n)
	}
	if n := value("coredns_template_rr_failures_total", "wrong.test.", "section", "answer", "template", "nonsense"); n != 1 {
		t.Errorf("%d records that are none", n)
	}
	if n := value("coredns_template_template_failures_total", "failing.test.", "section", "answer", "template", "{{index .Match 9}}"); n != 1 {
		t.Errorf("%d templates that fail", n)
	}
}

func TestSetup(t *testing.T) {
	for text, want := range map[string]string{
		"template IN A":                            "",
		"template ANY ANY a.test b.test":           "",
		"template CH TXT {\nupstream 192.0.2.1\n}": "",
		"template":                    "takes at least 2",
		"template IN":                 "takes at least 2",
		"template XX A":               "invalid query class XX",
		"template in A":               "invalid query class in",
		"template IN B":               "invalid RR type B",
		"template IN A {\nmatch\n}":   "takes at least 1",
		"template IN A {\nmatch (\n}": "could not parse regex",
		"template IN A {\nmatch " + strings.Repeat("a", 10001) + "\n}": "too long",
		"template IN A {\nanswer\n}":                                   "takes at least 1",
		"template IN A {\nanswer \"{{ .Name\"\n}":                      "could not compile template",
		"template IN A {\nauthority \"{{ no }}\"\n}":                   "could not compile template",
		"template IN A {\nadditional\n}":                               "takes at least 1",
		"template IN A {\nrcode\n}":                                    "takes 1",
		"template IN A {\nrcode nxdomain\n}":                           "unknown rcode",
		"template IN A {\nrcode NXDOMAIN\n}":                           "",
		"template IN A {\nederror\n}":                                  "takes 1 to 2",
		"template IN A {\nederror 65536\n}":                            "no extended error code",
		"template IN A {\nederror 1 a b\n}":                            "takes 1 to 2",
		"template IN A {\nfallthrough a b\n}":                          "",
		"template IN A {\nvar a 1\nvar b a + 1\nexpr b > a\n}":         "",
		"template IN A {\nvar a\n}":                                    "takes at least 2",
		"template IN A {\nvar 1a 1\n}":                                 "invalid variable name",
		"template IN A {\nvar a-b 1\n}":                                "invalid variable name",
		"template IN A {\nvar name 1\n}":                               "is taken",
		"template IN A {\nvar len 1\n}":                                "is taken",
		"template IN A {\nvar let 1\n}":                                "is taken",
		"template IN A {\nvar a 1\nvar a 2\n}":                         "is taken",
		"template IN A {\nvar a b + 1\nvar b 1\n}":                     "unknown name b",
		"template IN A {\nexpr\n}":                                     "takes at least 1",
		"template IN A {\nexpr 1\n}":                                   "",
		"template IN A {\nvar a 1\nexpr a + 'x'\n}":                    "Corefile:4:6: could not compile expression: invalid operation",
		"template IN A {\nansver x\n}":                                 "did you mean \"answer\"?",
	} {
		_, err := chaintest.Build(t, ". {\n"+text+"\n}\n", chaintest.Options{Specs: specs})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.60q: error is %v, want %q", text, err, want)
		}
	}
}

// TestExpressions holds replies made with var and expr against those of CoreDNS 1.14.7.
func TestExpressions(t *testing.T) {
	text, err := os.ReadFile("testdata/Corefile.expr")
	if err != nil {
		t.Fatal(err)
	}
	b := chaintest.New(t, string(text), chaintest.Options{Specs: specs})
	b.Client = netip.MustParseAddrPort("127.0.0.1:5000")
	b.Golden(t, "testdata/expr.golden")
}
