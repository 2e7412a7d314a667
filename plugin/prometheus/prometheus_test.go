package prometheus

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answers fails what begins with "fail" and drops what begins with "drop".
var answers = chain.Spec{Name: "answers", New: func(s *chain.Setup) error {
	s.Handler(answer{})
	return nil
}}

type answer struct{}

func (answer) Serve(q *chain.Query) chain.Outcome {
	switch string(q.Name().Label()) {
	case "fail":
		return q.Fail(wire.ServFail, nil)
	case "drop":
		return chain.Dropped
	}
	q.Reply.Begin(&q.Request, wire.NoError, 0)
	q.Reply.AppendOwnData(wire.Answer, wire.TypeA, 5, []byte{1, 2, 3, 4}, 4)
	return chain.Answered
}

func bench(t testing.TB, text string) *chaintest.Bench {
	return chaintest.New(t, text, chaintest.Options{Specs: []chain.Spec{Spec, answers}})
}

func scrape(t *testing.T, b *chaintest.Bench) string {
	t.Helper()
	w := httptest.NewRecorder()
	b.Config.Endpoints[0].Handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestCounts(t *testing.T) {
	b := bench(t, "example.org a.example.org example.net:54 {\nprometheus :9153\nanswers\n}")
	b.Ask("www.example.org.", dns.TypeA)
	b.Ask("www.a.example.org.", dns.TypeTXT)
	b.Ask("fail.example.net.", dns.TypeHTTPS)
	m := new(dns.Msg).SetQuestion("drop.example.org.", dns.TypeLOC)
	m.SetEdns0(1232, true)
	b.Do(chaintest.Query{Msg: m, Proto: chain.TCP})
	got := scrape(t, b)
	for _, want := range []string{
		`coredns_dns_requests_total{family="1",proto="udp",server="dns://:53",type="A",view="",zone="example.org."} 1`,
		`coredns_dns_requests_total{family="1",proto="udp",server="dns://:53",type="TXT",view="",zone="a.example.org."} 1`,
		`coredns_dns_requests_total{family="1",proto="udp",server="dns://:53",type="HTTPS",view="",zone="example.net."} 1`,
		`coredns_dns_requests_total{family="1",proto="tcp",server="dns://:53",type="other",view="",zone="example.org."} 1`,
		`coredns_dns_responses_total{plugin="answers",rcode="NOERROR",server="dns://:53",view="",zone="example.org."} 1`,
		`coredns_dns_responses_total{plugin="",rcode="NOERROR",server="dns://:53",view="",zone="example.org."} 1`,
		`coredns_dns_responses_total{plugin="",rcode="SERVFAIL",server="dns://:53",view="",zone="example.net."} 1`,
		`coredns_dns_do_requests_total{server="dns://:53",view="",zone="example.org."} 1`,
		`coredns_dns_request_size_bytes_sum{proto="udp",server="dns://:53",view="",zone="example.org."} 33`,
		`coredns_dns_response_size_bytes_sum{proto="udp",server="dns://:53",view="",zone="example.org."} 64`,
		`coredns_dns_response_size_bytes_sum{proto="udp",server="dns://:53",view="",zone="example.net."} 0`,
		`coredns_dns_request_duration_seconds_bucket{server="dns://:53",view="",zone="example.org.",le="0.00025"} 2`,
		`coredns_dns_request_duration_seconds_bucket{server="dns://:53",view="",zone="example.org.",le="+Inf"} 2`,
		`coredns_plugin_enabled{name="prometheus",server="dns://:53",view="",zone="example.org."} 1`,
		`coredns_plugin_enabled{name="answers",server="dns://:53",view="",zone="example.org."} 1`,
		`coredns_health_request_failures_total 0`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("missing: %s", want)
		}
	}
	for _, wrong := range []string{`plugin_enabled{name="answers",server="dns://:53",view="",zone="a.example.org."}`} {
		if strings.Contains(got, wrong) {
			t.Errorf("there: %s", wrong)
		}
	}
}

// TestGolden holds names, types and label sets against what CoreDNS exports.
func TestGolden(t *testing.T) {
	text, err := os.ReadFile("testdata/metrics.golden")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			want[strings.TrimSpace(line)] = true
		}
	}
	b := bench(t, ". {\nprometheus\nanswers\n}")
	m := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)
	m.SetEdns0(1232, true)
	b.Do(chaintest.Query{Msg: m})
	got := rows(t, b)
	for row := range want {
		name := strings.Fields(row)[0]
		ours := strings.HasPrefix(name, "coredns_dns_") || slices.Contains([]string{"coredns_build_info", "coredns_plugin_enabled",
			"coredns_panics_total", "coredns_reload_failed_total", "coredns_health_request_duration_seconds"}, name)
		if ours && !got[row] {
			t.Errorf("missing: %s", row)
		}
	}
	for row := range got {
		if strings.HasPrefix(row, "coredns_") && !want[row] {
			t.Errorf("CoreDNS has no %s", row)
		}
	}
}

// rows gives name, type and labels of all series.
func rows(t *testing.T, b *chaintest.Bench) map[string]bool {
	types, out := map[string]string{}, map[string]bool{}
	label := regexp.MustCompile(`(\w+)="`)
	for line := range strings.Lines(scrape(t, b)) {
		f := strings.Fields(line)
		if f[0] == "#" {
			if f[1] == "TYPE" {
				types[f[2]] = f[3]
			}
			continue
		}
		name, rest, _ := strings.Cut(line[:strings.LastIndexByte(strings.TrimSpace(line), ' ')], "{")
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(name, suffix); base != name && types[base] == "histogram" {
				name = base
			}
		}
		row := name + " " + types[name]
		for _, m := range label.FindAllStringSubmatch(rest, -1) {
			if m[1] != "le" {
				row += " " + m[1]
			}
		}
		out[row] = true
	}
	return out
}

func TestBlocksShareAnAddress(t *testing.T) {
	b := bench(t, "a {\nprometheus :9153\nanswers\n}\nb {\nprometheus :9153 {\nruntime_metrics\n}\nanswers\n}\nc {\nprometheus :9154\n}")
	if n := len(b.Config.Endpoints); n != 2 {
		t.Errorf("%d endpoints, want 2", n)
	}
	if got := scrape(t, b); !strings.Contains(got, "go_sched_latencies_seconds_count") || !strings.Contains(got, `zone="b."`) {
		t.Error("runtime_metrics of the second block is not heeded, or its handlers are not listed")
	}
}

func TestProtobufIsServed(t *testing.T) {
	b := bench(t, ". {\nprometheus\nanswers\n}")
	req := httptest.NewRequest("GET", "/metrics", nil)
	req.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	w := httptest.NewRecorder()
	b.Config.Endpoints[0].Handler.ServeHTTP(w, req)
	body, _ := io.ReadAll(w.Body)
	if !strings.HasPrefix(w.Header().Get("Content-Type"), "application/vnd.google.protobuf") || len(body) == 0 {
		t.Errorf("content type %q, %d octets", w.Header().Get("Content-Type"), len(body))
	}
}

func TestRefused(t *testing.T) {
	opt := chaintest.Options{Specs: []chain.Spec{Spec}}
	for _, text := range []string{"prometheus\nprometheus", "prometheus 9153", "prometheus :9153 b", "prometheus {\ncolour\n}",
		"prometheus {\nruntime_metrics on\n}", "prometheus {\ntls\n}", "prometheus {\ntls testdata\n}"} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", opt); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
	b := chaintest.New(t, ". {\nprometheus {\ntls /does/not/exist\n}\n}", opt)
	if len(b.Config.Warnings) != 1 || len(b.Config.Endpoints) != 0 {
		t.Errorf("a missing file: warnings %v, %d endpoints", b.Config.Warnings, len(b.Config.Endpoints))
	}
}

func TestNoAllocation(t *testing.T) {
	b := bench(t, ". {\nprometheus\nanswers\n}")
	packet, _ := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA).Pack()
	ask := func() {
		q := b.Worker.Get()
		q.Parse(packet)
		b.Worker.Start(q, fixed{b.Config.Blocks[0].Chain()}, nothing{})
	}
	ask()
	if n := testing.AllocsPerRun(100, ask); n > 0 {
		t.Errorf("%v allocations for a query", n)
	}
}

type fixed struct{ c *chain.Chain }

func (f fixed) Route(*chain.Query) *chain.Chain { return f.c }
func (fixed) Server() string                    { return "dns://:53" }

type nothing struct{}

func (nothing) Finish(*chain.Query, chain.Outcome) {}
