package upstream

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

// groupMetrics are the counters of a group that have no server.
type groupMetrics struct {
	registry *metrics.Registry
	name     string
	hedges   *metrics.Counter
	wrong    *metrics.Counter
	shared   *metrics.Counter
}

func (g *groupMetrics) init(cfg *Config) {
	g.registry, g.name = cfg.Metrics, cfg.Name
	labels := metrics.L("proxy_name", cfg.Name)
	g.hedges = g.registry.Counter("godwit_upstream_hedges_total",
		"Questions sent a second time because the server was silent for longer than usual.", labels...)
	g.wrong = g.registry.Counter("godwit_upstream_wrong_replies_total",
		"Messages from servers that belong to no question in flight.", labels...)
	g.shared = g.registry.Counter("godwit_upstream_shared_total",
		"Questions that shared the exchange of an identical one in flight.", labels...)
}

// knownRcodes bounds the response codes with a series resolved once; others are looked up.
const knownRcodes = 24

// protocols are the label proto of the connection metrics.
var protocols = [...]string{"udp", "tcp", "tcp-tls"}

// serverMetrics are a server's series, each made when there is something to count, as CoreDNS exports them.
type serverMetrics struct {
	duration     [knownRcodes]atomic.Pointer[metrics.Histogram]
	hits, misses [len(protocols)]atomic.Pointer[metrics.Counter]
	failures     atomic.Pointer[metrics.Counter]
}

// timeBuckets are seconds: 0.25 ms doubled fifteen times.
func timeBuckets() []float64 {
	b := make([]float64, 16)
	for i, v := 0, 0.00025; i < len(b); i, v = i+1, v*2 {
		b[i] = v
	}
	return b
}

// rcodeLabel is the response code as CoreDNS labels it: unknown ones are plain numbers, and 16 has its older name.
func rcodeLabel(code wire.Rcode) string {
	text := code.String()
	switch {
	case code == wire.BadVers:
		return "BADSIG"
	case len(text) > 5 && text[:5] == "RCODE":
		return strconv.Itoa(int(code))
	}
	return text
}

func (g *groupMetrics) observe(s *Server, shard int, code wire.Rcode, d time.Duration) {
	var h *metrics.Histogram
	if code < knownRcodes {
		h = s.metrics.duration[code].Load()
	}
	if h == nil {
		h = g.registry.Durations("coredns_proxy_request_duration_seconds", "Seconds from asking a server to its reply.",
			timeBuckets(), metrics.L("proxy_name", g.name, "to", s.Text, "rcode", rcodeLabel(code))...)
		if code < knownRcodes {
			s.metrics.duration[code].Store(h)
		}
	}
	h.Shard(shard).ObserveTime(d, 1)
}

// protocol is the index in protocols of a question to s.
func protocol(s *Server, via Via) int {
	switch {
	case s.TLS != nil:
		return 2
	case via == TCP:
		return 1
	}
	return 0
}

// reused counts whether a socket or connection was at hand.
func (g *groupMetrics) reused(s *Server, shard int, via Via, hit bool) {
	proto := protocol(s, via)
	at, name, help := &s.metrics.hits[proto], "coredns_proxy_conn_cache_hits_total",
		"Questions that found a socket or connection to the server open."
	if !hit {
		at, name, help = &s.metrics.misses[proto], "coredns_proxy_conn_cache_misses_total",
			"Questions that had to open a socket or connection to the server."
	}
	c := at.Load()
	if c == nil {
		c = g.registry.Counter(name, help, metrics.L("proxy_name", g.name, "to", s.Text, "proto", protocols[proto])...)
		at.Store(c)
	}
	c.Inc(shard)
}

func (g *groupMetrics) checkFailed(s *Server, shard int) {
	c := s.metrics.failures.Load()
	if c == nil {
		c = g.registry.Counter("coredns_proxy_healthcheck_failures_total", "Health checks of the server that failed.",
			metrics.L("proxy_name", g.name, "to", s.Text)...)
		s.metrics.failures.Store(c)
	}
	c.Inc(shard)
}
