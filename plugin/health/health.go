// Package health serves /health over HTTP, for as long as the process lives.
//
//	health [ADDRESS] {
//	    lameduck DURATION
//	}
package health

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/metrics"
)

// Spec is the health directive.
var Spec = chain.Spec{
	Name: "health",
	Usage: `health [ADDRESS] {
    lameduck DURATION
}`,
	Options: func() corefile.Options { return options(new(time.Duration)) },
	New:     setup,
}

// defaultAddress is where /health is served when the line names no address.
const defaultAddress = ":8080"

func setup(s *chain.Setup) error {
	address, pos, lameduck := defaultAddress, s.Pos(), time.Duration(0)
	for i := range s.Lines {
		l := &s.Lines[i]
		if err := corefile.ArgCount(l, 0, 1, "[ADDRESS]"); err != nil {
			return err
		}
		if len(l.Args) == 1 {
			address, pos = l.Args[0].Text, l.Args[0].Pos
			if _, _, err := net.SplitHostPort(address); err != nil {
				return corefile.Errorf(pos, "%v", err)
			}
		}
		warnings, err := options(&lameduck).Read(l)
		s.Warn(warnings...)
		if err != nil {
			return err
		}
	}
	if lameduck > 0 {
		s.OnShutdown(func(ctx context.Context) { wait(ctx, s.Env.Log, lameduck) })
	}
	s.Shared("health "+address, func() any { // several blocks may name the same address
		s.HTTP(chain.Endpoint{Addr: address, Path: "/health", Handler: http.HandlerFunc(healthy), Pos: pos, Name: "health"})
		p := newProbe(s.Env, address)
		s.Go(p.run)
		return p
	})
	return nil
}

func options(lameduck *time.Duration) corefile.Options {
	return corefile.Options{{Name: "lameduck", Usage: "DURATION", Min: 1, Max: 1, Read: func(l *corefile.Line) (err error) {
		*lameduck, err = corefile.ParseDuration(l.Args[0])
		return err
	}}}
}

// healthy answers as long as there is anybody to answer, also during the lameduck: a liveness probe that failed then would
// kill a process that others still send queries to.
func healthy(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, http.StatusText(http.StatusOK))
}

// wait lets the lameduck pass.
func wait(ctx context.Context, log *slog.Logger, d time.Duration) {
	log.Info("plugin/health: Going into lameduck mode for " + d.String())
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// probe asks the process's own endpoint each second, to see how long it takes: a process that is short of time shows here.
type probe struct {
	env      *chain.Env
	url      string
	client   *http.Client
	duration *metrics.Histogram
	failures *metrics.Counter
}

// slow is how long a request may take before the log says so; limit is when it is given up.
const (
	slow  = time.Second
	limit = 3 * time.Second
)

func newProbe(env *chain.Env, address string) *probe {
	host, port, _ := net.SplitHostPort(address) // checked
	if host == "" {
		host = "localhost"
	}
	return &probe{
		env: env, url: "http://" + net.JoinHostPort(host, port) + "/health",
		client:   &http.Client{Timeout: limit, Transport: &http.Transport{Proxy: nil}},
		duration: env.Metrics.Histogram("coredns_health_request_duration_seconds", "Time that a request to the process's own /health takes.", metrics.SlimTimeBounds()),
		failures: env.Metrics.Counter("coredns_health_request_failures_total", "Requests to the process's own /health that failed."),
	}
}

func (p *probe) run(ctx context.Context) error {
	defer p.client.CloseIdleConnections()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			p.once(ctx)
		}
	}
}

func (p *probe) once(ctx context.Context) {
	start := p.env.Clock()
	err := p.get(ctx)
	took := p.env.Clock() - start
	if errors.Is(err, context.Canceled) {
		return
	}
	p.duration.Observe(p.env.Metrics.Shared(), took.Seconds())
	switch {
	case err != nil:
		p.failures.Inc(p.env.Metrics.Shared())
		p.env.Log.Warn("plugin/health: Local health request to \"" + p.url + "\" failed: " + err.Error())
	case took > slow:
		p.env.Log.Warn("plugin/health: Local health request to \"" + p.url + "\" took more than 1s: " + took.String())
	}
}

func (p *probe) get(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body) // two octets, so that the connection can be used again
	return resp.Body.Close()
}
