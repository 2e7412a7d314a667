package trace

import (
	"fmt"
	"strings"
	"testing"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/metrics"
)

func metricLabel(reason string) []metrics.Label { return metrics.L("reason", reason) }

func TestLines(t *testing.T) {
	const zipkin = "http://localhost:9411/api/v2/spans"
	for text, want := range map[string]string{
		"trace":                          zipkin + " every 1",
		"trace {\n}":                     zipkin + " every 1",
		"trace a:1":                      "http://a:1/api/v2/spans every 1",
		"trace ZipKin a:1":               "http://a:1/api/v2/spans every 1",
		"trace zipkin http://a:1/x":      "http://a:1/x every 1",
		"trace https://a/x":              "https://a/x every 1",
		"trace httpd:1":                  "http://httpd:1/api/v2/spans every 1",
		"trace datadog a:1":              "http://a:1/v0.3/traces every 1",
		"trace a\ntrace b {\nevery 5\n}": "http://b/api/v2/spans every 5",
		"trace a {\nevery 5\n}\ntrace":   zipkin + " every 5",
		"trace {\nevery 18446744073709551615\nservice x\nclient_server\nclient_server false\n}":                                                            zipkin + " every 18446744073709551615",
		"trace {\ndatadog_analytics_rate\ndatadog_analytics_rate 0.1\nzipkin_max_backlog_size 0\nzipkin_max_batch_size 0\nzipkin_max_batch_interval 0s\n}": zipkin + " every 1",
		"trace a b c":                               "!",
		"trace nosuch a":                            "!",
		"trace {\nevery\n}":                         "!",
		"trace {\nevery -1\n}":                      "!",
		"trace {\nevery 1 2\n}":                     "!",
		"trace {\nservice\n}":                       "!",
		"trace {\nservice a b\n}":                   "!",
		"trace {\nclient_server a\n}":               "!",
		"trace {\nclient_server true true\n}":       "!",
		"trace {\ndatadog_analytics_rate 1.1\n}":    "!",
		"trace {\ndatadog_analytics_rate -0.1\n}":   "!",
		"trace {\ndatadog_analytics_rate x\n}":      "!",
		"trace {\nzipkin_max_backlog_size\n}":       "!",
		"trace {\nzipkin_max_backlog_size -1\n}":    "!",
		"trace {\nzipkin_max_batch_size x\n}":       "!",
		"trace {\nzipkin_max_batch_interval 5\n}":   "!",
		"trace {\nzipkin_max_batch_interval -1s\n}": "!",
		"trace {\nzipkin_max_batch_interval 5ns\n}": "!",
		"trace {\nnosuch\n}":                        "!",
	} {
		b, err := chaintest.Build(t, ". {\n"+text+"\n}", chaintest.Options{Specs: []chain.Spec{Spec}})
		if want == "!" || err != nil {
			if (want == "!") != (err != nil) {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		for _, h := range b.Config.Blocks[0].Chain().Handlers {
			tr := h.(*Trace)
			if got := fmt.Sprintf("%s every %d", tr.reporter.url, tr.every); got != want {
				t.Errorf("%q: %s, want %s", text, got, want)
			}
		}
	}
}

func TestDefaults(t *testing.T) {
	for text, want := range map[string]string{
		"trace":                        "1s 100 1000",
		"trace datadog localhost:8126": "2s 1000 10000",
		"trace {\nzipkin_max_backlog_size 7\nzipkin_max_batch_size 5\nzipkin_max_batch_interval 3s\n}": "3s 5 7",
	} {
		b := chaintest.New(t, ". {\n"+text+"\n}", chaintest.Options{Specs: []chain.Spec{Spec}})
		for _, h := range b.Config.Blocks[0].Chain().Handlers {
			r := h.(*Trace).reporter
			if got := fmt.Sprint(r.interval, r.batch, r.backlog); got != want {
				t.Errorf("%q: %s, want %s", text, got, want)
			}
		}
	}
}

func TestWrongAddressIsWarnedAbout(t *testing.T) {
	b := chaintest.New(t, ". {\ntrace http://[x\n}", chaintest.Options{Specs: []chain.Spec{Spec}})
	if len(b.Config.Warnings) != 1 || !strings.Contains(b.Config.Warnings[0].Text, "no span can be sent") {
		t.Error(b.Config.Warnings)
	}
}

func TestLocalEndpoint(t *testing.T) {
	for addr, want := range map[string]endpoint{
		"":               {Service: "s"},
		"192.0.2.1":      {Service: "s", IPv4: "192.0.2.1", Port: 5353},
		"2001:db8::1":    {Service: "s", IPv6: "2001:db8::1", Port: 5353},
		"fe80::1%eth0":   {Service: "s", IPv6: "fe80::1", Port: 5353},
		"not-an-address": {Service: "s"},
	} {
		b := &chain.Block{Keys: []corefile.Key{{Port: "5353"}}}
		if addr != "" {
			b.Bind = []chain.Bound{{Addr: addr}, {Addr: "198.51.100.1"}}
		}
		c := config{service: "s"}
		if got := c.local(b); *got != want {
			t.Errorf("%q: %+v", addr, got)
		}
	}
	if got := new(config).local(&chain.Block{}); got != nil {
		t.Errorf("%+v", got)
	}
}

// TestUntracedQueriesAllocateNothing holds queries whose turn has not come to a count.
func TestUntracedQueriesAllocateNothing(t *testing.T) {
	b := chaintest.New(t, ". {\ntrace {\nevery 1000000\n}\n}", chaintest.Options{Specs: []chain.Spec{Spec}})
	q := b.Worker.Get()
	defer b.Worker.Put(q)
	for _, h := range b.Config.Blocks[0].Chain().Handlers {
		if n := testing.AllocsPerRun(1000, func() {
			if h.Serve(q) != chain.Next {
				t.Fatal("traced")
			}
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
		if h.(*Trace).count.Load() == 0 {
			t.Error("not counted")
		}
	}
}
