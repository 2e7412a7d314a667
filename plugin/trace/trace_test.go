package trace

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector keeps what is sent to it.
type collector struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	heads  []http.Header
	paths  []string
	bodies []string
}

func newCollector(t *testing.T) *collector {
	c := &collector{status: http.StatusAccepted}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.heads, c.paths, c.bodies = append(c.heads, r.Header), append(c.paths, r.Method+" "+r.URL.Path), append(c.bodies, string(body))
		w.WriteHeader(c.status)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) host() string { return strings.TrimPrefix(c.URL, "http://") }

func (c *collector) requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.bodies)
}

// spans gives all spans that Zipkin was sent.
func (c *collector) spans(t *testing.T) (all []zipkinSpan) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, body := range c.bodies {
		var batch []zipkinSpan
		if err := json.Unmarshal([]byte(body), &batch); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		all = append(all, batch...)
	}
	return all
}

// step is a handler that answers as the first label says: in some way each.
type step struct{ name string }

func stepSpec(name string) chain.Spec {
	return chain.Spec{Name: name, New: func(s *chain.Setup) error {
		if name == "forward" {
			s.Provide("forward/upstream", func(*chain.Query) string { return "192.0.2.53:53" })
		}
		s.Handler(step{name})
		return nil
	}}
}

func (s step) Serve(q *chain.Query) chain.Outcome {
	switch label := string(q.Name().Label()); {
	case s.name == "above" && label == "child" && !q.Own():
		return q.Ask(wire.MustName("other.example.org."), wire.TypeAAAA)
	case s.name == "above":
		return chain.Next
	case label == "fails":
		return q.Fail(wire.Refused, errors.New("not today"))
	case label == "end":
		return chain.Next
	}
	q.Reply.Begin(&q.Request, wire.NXDomain, 0)
	return chain.Answered
}

func (s step) Resume(q *chain.Query, _ chain.Event) chain.Outcome {
	q.Reply.Begin(&q.Request, wire.NoError, 0)
	return chain.Answered
}

func specs() []chain.Spec {
	return []chain.Spec{Spec, stepSpec("above"), stepSpec("forward")}
}

func start(t *testing.T, line string) *chaintest.Bench {
	t.Helper()
	b := chaintest.New(t, "example.org {\n"+line+"\nabove\nforward\n}", chaintest.Options{Specs: specs()})
	b.Start()
	return b
}

// batch lets time pass until a batch is sent.
func batch(b *chaintest.Bench, c *collector) {
	b.Until("a batch", func() bool {
		b.Advance(100 * time.Millisecond)
		return c.requests() > 0
	})
}

// tree writes spans as an outline: names, tags and annotations, those of a parent above those of its children.
func tree(spans []zipkinSpan, parent string, depth int, b *strings.Builder) {
	for _, s := range spans {
		if s.ParentID != parent {
			continue
		}
		fmt.Fprintf(b, "%s%s%s", strings.Repeat("  ", depth), s.Name, s.Kind)
		for _, k := range slices.Sorted(maps.Keys(s.Tags)) {
			fmt.Fprintf(b, " %s=%s", strings.TrimPrefix(k, "coredns.io/"), s.Tags[k])
		}
		for _, a := range s.Annotations {
			b.WriteString(" " + a.Value)
		}
		b.WriteString("\n")
		tree(spans, s.ID, depth+1, b)
	}
}

func TestSpansOfQueries(t *testing.T) {
	for name, want := range map[string]string{
		"A.Example.org.": `servednsSERVER name=a.example.org. proto=udp rcode=NXDOMAIN remote=10.240.0.1 type=A
  above
    forward peer.address=192.0.2.53:53
`,
		"fails.example.org.": `servednsSERVER name=fails.example.org. proto=udp rcode=REFUSED remote=10.240.0.1 type=A error=true event:error error.object:not today
  above
    forward peer.address=192.0.2.53:53
`,
		"end.example.org.": `servednsSERVER name=end.example.org. proto=udp rcode=SERVFAIL remote=10.240.0.1 type=A error=true event:error error.object:plugin/forward: no next plugin found
  above
    forward peer.address=192.0.2.53:53
`,
		"child.example.org.": `servednsSERVER name=child.example.org. proto=udp rcode=NOERROR remote=10.240.0.1 type=A
  above
    trace
      above
        forward peer.address=192.0.2.53:53
`,
	} {
		c := newCollector(t)
		b := start(t, "trace "+c.host())
		b.Ask(name, dns.TypeA)
		batch(b, c)
		spans := c.spans(t)
		var got strings.Builder
		tree(spans, "", 0, &got)
		if got.String() != want {
			t.Errorf("%s:\n%swant\n%s", name, got.String(), want)
		}
		for _, s := range spans {
			if s.TraceID != spans[0].ID || len(s.ID) != 16 || s.Duration <= 0 || s.Timestamp <= 0 || s.Local.Service != "coredns" || s.Local.Port != 0 {
				t.Errorf("%+v", s)
			}
		}
		if c.paths[0] != "POST /api/v2/spans" || c.heads[0].Get("Content-Type") != "application/json" || c.heads[0].Get("B3") != "0" {
			t.Errorf("%s %v", c.paths[0], c.heads[0])
		}
	}
}

func TestEveryNthQueryIsTraced(t *testing.T) {
	c := newCollector(t)
	b := start(t, "trace "+c.URL+"/spans {\nevery 3\nservice three\nzipkin_max_batch_size 3\n}")
	traced := 0
	for i := range 10 {
		b.Do(chaintest.Query{Msg: new(dns.Msg).SetQuestion("a.example.org.", dns.TypeA), Client: netip.MustParseAddrPort("[fe80::1]:53"),
			Proto: chain.TLS, OnEnd: func(q *chain.Query, _ chain.Outcome) {
				if id := traceID(q); (id != "") != (i%3 == 2) {
					t.Errorf("query %d: trace %q", i, id)
				} else if id != "" {
					traced++
				}
			}})
	}
	b.Until("all batches", func() bool { return len(c.spans(t)) == 9 }) // without waiting for the interval
	for _, s := range c.spans(t) {
		if s.Local.Service != "three" || s.Kind != "" && (s.Tags["coredns.io/remote"] != "fe80::1" || s.Tags["coredns.io/proto"] != "tcp") {
			t.Errorf("%+v", s)
		}
	}
	if traced != 3 || c.paths[0] != "POST /spans" {
		t.Errorf("%d traces, %s", traced, c.paths[0])
	}
}

func TestNoQueryIsTracedByZero(t *testing.T) {
	b := start(t, "trace {\nevery 0\n}")
	b.Do(chaintest.Query{Msg: new(dns.Msg).SetQuestion("a.example.org.", dns.TypeA), OnEnd: func(q *chain.Query, _ chain.Outcome) {
		if q.Watcher() != nil {
			t.Error("traced")
		}
	}})
}

func TestDatadog(t *testing.T) {
	c := newCollector(t)
	b := start(t, "trace DataDog "+c.host()+" {\nservice dog\ndatadog_analytics_rate 0.5\n}")
	var id string
	for _, name := range []string{"fails.example.org.", "child.example.org."} {
		b.Do(chaintest.Query{Msg: new(dns.Msg).SetQuestion(name, dns.TypeA), OnEnd: func(q *chain.Query, _ chain.Outcome) {
			id = traceID(q)
		}})
	}
	batch(b, c)
	var traces [][]datadogSpan
	if err := json.Unmarshal([]byte(c.bodies[0]), &traces); err != nil {
		t.Fatal(err)
	}
	if len(traces) != 2 || len(traces[0]) != 1 || len(traces[1]) != 2 || c.heads[0].Get("X-Datadog-Trace-Count") != "2" || c.paths[0] != "PUT /v0.3/traces" {
		t.Fatalf("%s %v %+v", c.paths[0], c.heads[0], traces)
	}
	s, p, q := traces[0][0], traces[1][0], traces[1][1]
	if s.Error != 1 || s.Meta["error.message"] != "not today" || s.Meta["error.type"] != "dns_error" || s.Meta["coredns.io@rcode"] != "REFUSED" ||
		s.Service != "dog" || s.Resource != "servedns" || s.Metrics["_dd1.sr.eausr"] != 0.5 || s.Meta["dns"] != "true" || s.Duration <= 0 {
		t.Errorf("%+v", s)
	}
	if p.ParentID != 0 || p.Error != 0 || p.Meta["_dd.p.tid"]+fmt.Sprintf("%016x", p.TraceID) != id || q.ParentID != p.ID || q.TraceID != p.TraceID ||
		q.Meta["coredns.io@name"] != "other.example.org." || q.Meta["coredns.io@type"] != "AAAA" {
		t.Errorf("%s\n%+v\n%+v", id, p, q)
	}
}

// TestCollectorAway has spans wait for a collector within bounds, and those that it does not take given up.
func TestCollectorAway(t *testing.T) {
	c := newCollector(t)
	c.status = http.StatusInternalServerError
	b := start(t, "trace http://user:secret@"+c.host()+"/ {\nzipkin_max_backlog_size 4\nzipkin_max_batch_size -1\n}")
	refused := b.Env.Metrics.Counter("godwit_trace_spans_dropped_total", "", metricLabel("refused")...)
	overrun := b.Env.Metrics.Counter("godwit_trace_spans_dropped_total", "", metricLabel("backlog")...)
	sent := b.Env.Metrics.Counter("godwit_trace_spans_sent_total", "")
	b.Ask("a.example.org.", dns.TypeA)
	b.Until("spans to be refused", func() bool { return refused.Value() == 3 })
	c.Close()
	for range 5 {
		b.Ask("a.example.org.", dns.TypeA)
	}
	b.Until("spans to be dropped", func() bool { return overrun.Value() == 11 })
	if log := b.Log.String(); strings.Contains(log, "secret") || strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "500") {
		t.Error(log)
	}
	if sent.Value() != 0 {
		t.Error("spans count as sent")
	}
}

func TestWhatWaitsIsSentAtTheEnd(t *testing.T) {
	c := newCollector(t)
	t.Run("configuration", func(t *testing.T) {
		b := start(t, "trace zipkin "+c.host()+" {\nzipkin_max_batch_interval 1h\n}")
		b.Ask("a.example.org.", dns.TypeA)
	})
	if n := len(c.spans(t)); n != 3 {
		t.Errorf("%d spans", n)
	}
}
