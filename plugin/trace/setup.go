package trace

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
)

// Spec is the trace directive.
var Spec = chain.Spec{
	Name:    "trace",
	Usage:   "trace [ENDPOINT-TYPE] [ENDPOINT]",
	Options: func() corefile.Options { return new(config).rows() },
	New:     setup,
}

// config is what a Corefile says.
type config struct {
	kind     string // "zipkin" or "datadog"
	endpoint string // as written; empty for the kind's own
	every    uint64
	service  string
	rate     float64 // of analytics, 0 to 1
	// Of Zipkin's reporter; 0 is its default.
	backlog, batch int // spans
	interval       time.Duration
}

// The kinds of endpoint and where they are when nothing is said.
const (
	zipkinKind     = "zipkin"
	datadogKind    = "datadog"
	zipkinAddress  = "localhost:9411"
	datadogAddress = "localhost:8126"
)

// shortest is the shortest interval between batches: CoreDNS takes a tenth of it, which must be a time.
const shortest = 10 * time.Nanosecond

func setup(s *chain.Setup) error {
	c := config{every: 1, service: "coredns"}
	for i := range s.Lines { // what later lines say counts, as in CoreDNS
		l := &s.Lines[i]
		if err := c.target(l); err != nil {
			return err
		}
		warnings, err := c.rows().Read(l)
		s.Warn(warnings...)
		if err != nil {
			return err
		}
	}
	address := c.url()
	if _, err := url.Parse(address); err != nil {
		s.Warn(corefile.Warning{Pos: s.Pos(), Text: "trace: no span can be sent: " + err.Error()})
	}
	t := &Trace{every: c.every, steps: c.kind == zipkinKind, env: s.Env, reporter: newReporter(s.Env, address)}
	if c.kind == zipkinKind {
		c.zipkin(t.reporter, s.Block)
	} else {
		c.datadog(t.reporter)
	}
	s.Provide("trace/traceid", traceID)
	s.OnBuilt(func() error {
		t.upstream = s.Block.Provided("forward/upstream")
		for name := range s.Block.Chain().Handlers {
			t.last = name
		}
		return nil
	})
	s.Go(t.reporter.run)
	s.Handler(t)
	return nil
}

// target reads what follows the directive.
func (c *config) target(l *corefile.Line) error {
	if err := corefile.ArgCount(l, 0, 2, "[ENDPOINT-TYPE] [ENDPOINT]"); err != nil {
		return err
	}
	c.kind, c.endpoint = zipkinKind, ""
	if n := len(l.Args); n > 0 {
		c.endpoint = l.Args[n-1].Text
	}
	if len(l.Args) < 2 {
		return nil
	}
	switch c.kind = strings.ToLower(l.Args[0].Text); c.kind {
	case zipkinKind, datadogKind:
		return nil
	}
	return corefile.Errorf(l.Args[0].Pos, "%q is no type of endpoint: write %s or %s", l.Args[0].Text, zipkinKind, datadogKind)
}

// url is where spans go.
func (c *config) url() string {
	whole := strings.HasPrefix(c.endpoint, "http://") || strings.HasPrefix(c.endpoint, "https://")
	switch {
	case c.kind == zipkinKind && whole:
		return c.endpoint
	case c.kind == zipkinKind:
		return "http://" + or(c.endpoint, zipkinAddress) + "/api/v2/spans"
	case whole:
		return c.endpoint + "/v0.3/traces"
	}
	return "http://" + or(c.endpoint, datadogAddress) + "/v0.3/traces"
}

func or(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func (c *config) rows() corefile.Options {
	return corefile.Options{
		{Name: "every", Usage: "AMOUNT", Min: 1, Max: 1, Read: func(l *corefile.Line) (err error) {
			c.every, err = strconv.ParseUint(l.Args[0].Text, 10, 64)
			return err
		}},
		corefile.Text("service", "NAME", &c.service),
		{Name: "client_server", Usage: "[BOOL]", Max: 1, Read: func(l *corefile.Line) (err error) {
			if len(l.Args) == 1 {
				_, err = strconv.ParseBool(l.Args[0].Text)
			}
			return err
		}},
		{Name: "datadog_analytics_rate", Usage: "[RATE]", Max: 1, Read: func(l *corefile.Line) (err error) {
			c.rate = 0
			if len(l.Args) == 1 {
				c.rate, err = corefile.ParseFloat(l.Args[0], 0, 1)
			}
			return err
		}},
		corefile.Int("zipkin_max_backlog_size", "SIZE", &c.backlog, 0, most),
		corefile.Int("zipkin_max_batch_size", "SIZE", &c.batch, -most, most),
		{Name: "zipkin_max_batch_interval", Usage: "DURATION", Min: 1, Max: 1, Read: func(l *corefile.Line) (err error) {
			c.interval, err = time.ParseDuration(l.Args[0].Text)
			if err == nil && c.interval != 0 && c.interval < shortest {
				err = corefile.Errorf(l.Args[0].Pos, "spans can't be sent every %s; write 1s, for instance", l.Args[0].Text)
			}
			return err
		}},
	}
}

// most is the largest number of spans that can be written.
const most = 1<<31 - 1

// local is where the block serves, as Zipkin has it: its first address where it is bound to one.
func (c *config) local(b *chain.Block) *endpoint {
	e := &endpoint{Service: c.service}
	if len(b.Bind) > 0 {
		if addr, err := netip.ParseAddr(b.Bind[0].Addr); err == nil {
			port, _ := strconv.ParseUint(b.Keys[0].Port, 10, 16) // checked when the keys were read
			e.Port = uint16(port)
			if addr.Unmap().Is4() {
				e.IPv4 = addr.Unmap().String()
			} else {
				e.IPv6 = addr.WithZone("").String()
			}
		}
	}
	if *e == (endpoint{}) {
		return nil
	}
	return e
}
