package prometheus

import (
	"errors"
	"io/fs"
	"net"
	"net/http"
	"slices"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/metrics"
	expose "github.com/godwit-dns/godwit/metrics/exposition"
)

// Spec is the prometheus directive.
var Spec = chain.Spec{
	Name: "prometheus",
	Usage: `prometheus [ADDRESS] {
    tls WEBCONFIG
    runtime_metrics
}`,
	Options: func() corefile.Options { return options(&settings{}) },
	New:     setup,
}

// settings are what one line says.
type settings struct {
	tls     corefile.Word
	runtime bool
}

// defaultAddress is where metrics are served when the line names none.
const defaultAddress = "localhost:9153"

// exposition is what all blocks of a configuration share: the gauges of the configuration itself, and its endpoints.
type exposition struct {
	gatherer  expose.Gatherer
	enabled   [][]metrics.Label // of coredns_plugin_enabled
	runtime   bool
	endpoints map[string]*chain.Endpoint
}

func setup(s *chain.Setup) error {
	if len(s.Lines) > 1 {
		return corefile.Errorf(s.Lines[1].Name.Pos, "prometheus can be used only once in a server block")
	}
	l := &s.Lines[0]
	if err := corefile.ArgCount(l, 0, 1, "[ADDRESS]"); err != nil {
		return err
	}
	address := defaultAddress
	if len(l.Args) == 1 {
		address = l.Args[0].Text
		if _, _, err := net.SplitHostPort(address); err != nil {
			return corefile.Errorf(l.Args[0].Pos, "%v", err)
		}
	}
	var set settings
	warnings, err := options(&set).Read(l)
	s.Warn(warnings...)
	if err != nil {
		return err
	}
	p := &Prometheus{env: s.Env}
	p.traffic.Store(&[]*counts{})
	for i, n := range s.Block.Names {
		p.zones = append(p.zones, zone{n, s.Block.Zones[i]})
	}
	e := share(s)
	e.runtime = e.runtime || set.runtime
	s.OnBuilt(func() error {
		e.enable(s.Block)
		return nil
	})
	if err := e.endpoint(s, address, set.tls); err != nil {
		return err
	}
	s.Handler(p)
	return nil
}

func options(set *settings) corefile.Options {
	return corefile.Options{
		{Name: "tls", Usage: "WEBCONFIG", Min: 1, Max: 1, Read: func(l *corefile.Line) error {
			if set.tls.Text != "" {
				return corefile.Errorf(l.Name.Pos, "tls can stand only once")
			}
			set.tls = l.Args[0]
			return nil
		}},
		corefile.Flag("runtime_metrics", &set.runtime),
	}
}

// share gives the exposition of the configuration.
func share(s *chain.Setup) *exposition {
	return s.Shared("prometheus", func() any {
		e := &exposition{gatherer: expose.Gatherer{Registry: s.Env.Metrics}, endpoints: map[string]*chain.Endpoint{}}
		preset(s.Env.Metrics)
		s.OnBuilt(func() error {
			e.gatherer.Fixed = append(e.gatherer.Fixed, expose.BuildInfo(s.Env.Version))
			return nil
		})
		return e
	}).(*exposition)
}

// endpoint adds /metrics at an address, once for all blocks that name it.
func (e *exposition) endpoint(s *chain.Setup, address string, config corefile.Word) error {
	if e.endpoints[address] != nil {
		return nil
	}
	end := chain.Endpoint{Addr: address, Path: "/metrics", Pos: s.Pos(), Name: "prometheus"}
	web := &webConfig{}
	if config.Text != "" {
		var err error
		web, err = readWebConfig(s.Env.Files, config.Text)
		if errors.Is(err, fs.ErrNotExist) { // CoreDNS serves queries without metrics then, and so do we
			s.Warn(corefile.Warning{Pos: config.Pos, Text: err.Error() + "; no metrics are served until it is there and the Corefile is loaded again"})
			return nil
		}
		if err != nil {
			return corefile.Errorf(config.Pos, "%v", err)
		}
		if end.TLS, err = web.tlsConfig(s.Env.Files, config.Text); err != nil {
			return corefile.Errorf(config.Pos, "%s: %v", config.Text, err)
		}
	}
	lazy := &lazyHandler{}
	s.OnBuilt(func() error { // the last block to ask for runtime_metrics has been read by then
		lazy.h = promhttp.HandlerFor(client.Gatherers{&e.gatherer, expose.Process(e.runtime)}, promhttp.HandlerOpts{})
		return nil
	})
	end.Handler = web.protect(lazy)
	e.endpoints[address] = &end
	s.HTTP(end)
	return nil
}

// lazyHandler is a handler that is known when the configuration has been built.
type lazyHandler struct{ h http.Handler }

// ServeHTTP passes the request on.
func (l *lazyHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) { l.h.ServeHTTP(w, r) }

// enable notes which handlers a block has. As in CoreDNS only the block's first key stands for it.
func (e *exposition) enable(b *chain.Block) {
	hosts := []string{""}
	if len(b.Bind) > 0 {
		hosts = hosts[:0]
		for _, h := range b.Bind {
			hosts = append(hosts, h.Addr)
		}
	}
	if len(e.enabled) == 0 {
		e.gatherer.Fixed = append(e.gatherer.Fixed, &dto.MetricFamily{Name: new("coredns_plugin_enabled"),
			Help: new("Always 1: this directive has a handler in this server's zone."), Type: dto.MetricType_GAUGE.Enum()})
	}
	family := e.gatherer.Fixed[slices.IndexFunc(e.gatherer.Fixed, func(f *dto.MetricFamily) bool { return f.GetName() == "coredns_plugin_enabled" })]
	for _, h := range hosts {
		for name := range b.Chain().Handlers {
			l := metrics.L("server", b.Keys[0].Transport+"://"+net.JoinHostPort(h, b.Keys[0].Port), "zone", b.Keys[0].Zone, "view", b.View, "name", name)
			if slices.ContainsFunc(e.enabled, func(have []metrics.Label) bool { return slices.Equal(have, l) }) {
				continue // forward may stand several times
			}
			e.enabled = append(e.enabled, l)
			family.Metric = append(family.Metric, expose.Gauge(1, l))
		}
	}
}

// preset makes the metrics that CoreDNS exports whether their directives are used or not, so that an alert on one of them
// finds a series. Those that exist are left alone.
func preset(r *metrics.Registry) {
	known := map[string]bool{}
	for _, f := range r.Families() {
		known[f.Name] = true
	}
	for name, help := range map[string]string{
		"coredns_panics_total":                         "Handlers that panicked; their queries were answered SERVFAIL.",
		"coredns_reload_failed_total":                  "Reloads of the Corefile that failed.",
		"coredns_health_request_failures_total":        "Requests to the process's own /health that failed.",
		"coredns_local_localhost_requests_total":       "Queries for names below localhost.",
		"coredns_forward_healthcheck_broken_total":     "Queries that found every upstream unhealthy.",
		"coredns_forward_max_concurrent_rejects_total": "Queries that were refused because max_concurrent were in flight.",
	} {
		if !known[name] {
			r.Counter(name, help)
		}
	}
	if !known["coredns_hosts_reload_timestamp_seconds"] {
		r.Gauge("coredns_hosts_reload_timestamp_seconds", "When the hosts file was last read, in seconds of Unix time.")
	}
	if !known["coredns_health_request_duration_seconds"] {
		r.Histogram("coredns_health_request_duration_seconds", "Time that a request to the process's own /health takes.", metrics.SlimTimeBounds())
	}
}
