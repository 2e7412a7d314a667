package forward

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/upstream"
	"github.com/godwit-dns/godwit/wire"
)

// Spec is the forward directive.
var Spec = chain.Spec{
	Name:    "forward",
	Usage:   "forward FROM TO...",
	Options: func() corefile.Options { return newConfig(nil).options() },
	New:     setup,
}

// maxTo is how many TO words a line may have.
const maxTo = 15

// What a node's agent does otherwise: its upstreams are Services, and its clients give up after five seconds.
const (
	nodeTotal = 4 * time.Second
	// nodeMaxAge is short so that a new server gets its share soon: a connection each few seconds costs nothing.
	nodeMaxAge = 30 * time.Second
)

// closeWait is how long the end of a configuration waits for questions in flight; those who drain it waited before.
const closeWait = time.Second

// config is a line while it is read. The zero values of what is not set here are the defaults.
type config struct {
	setup     *chain.Setup
	ask       upstream.Config
	attempts  int
	except    []wire.Name
	limit     int
	next      []wire.Rcode
	noData    bool
	tls       *tls.Config
	tlsName   string
	resolvers []string
	source    netip.Addr
	expire    time.Duration
	maxAge    time.Duration
}

func newConfig(s *chain.Setup) *config {
	c := &config{setup: s, attempts: -1, tls: new(tls.Config), expire: 10 * time.Second, ask: upstream.Config{
		Name: "forward", Policy: upstream.Random, MaxFails: 2, ReadTimeout: 2 * time.Second,
		Health: upstream.Health{Interval: 500 * time.Millisecond, Domain: wire.Root},
	}}
	if s != nil && s.Env.Node {
		c.ask.Service, c.ask.Total = true, nodeTotal
	}
	return c
}

// setup makes a handler of each line, in the order of the file.
func setup(s *chain.Setup) error {
	slot := chain.NewSlot[state](s)
	for i := range s.Lines {
		f, err := newForward(s, &s.Lines[i])
		if err != nil {
			return err
		}
		f.slot = slot
		s.Handler(f)
	}
	s.Provide("forward/upstream", func(q *chain.Query) string {
		if server := slot.Of(q).server; server != nil {
			return server.Text
		}
		return ""
	})
	s.AnyClass()
	return nil
}

// newForward reads one line and makes its group of upstreams, which opens nothing before it is asked.
func newForward(s *chain.Setup, l *corefile.Line) (*Forward, error) {
	if err := corefile.ArgCount(l, 2, -1, "FROM TO..."); err != nil {
		return nil, err
	}
	c := newConfig(s)
	warnings, err := c.options().Read(l)
	s.Warn(warnings...)
	if err != nil {
		return nil, err
	}
	if c.maxAge > 0 && c.maxAge < c.expire {
		return nil, corefile.Errorf(l.Name.Pos, "max_age (%s) must not be less than expire (%s)", c.maxAge, c.expire)
	}
	from, err := c.from(l.Args[0])
	if err != nil {
		return nil, err
	}
	if n := len(l.Args) - 1; n > maxTo {
		return nil, corefile.Errorf(l.Args[maxTo+1].Pos, "forward has %d TOs, but takes at most %d", n, maxTo)
	}
	to, err := c.upstreams(l.Args[1:])
	if err != nil {
		return nil, err
	}
	targets := to.targets()
	if len(targets) == 0 {
		return nil, &corefile.Error{Pos: l.Args[1].Pos, Text: "none of the files names a server",
			Hint: "write a line \"nameserver ADDRESS\" in one, or an address in their place"}
	}
	group, err := upstream.New(c.group(), targets)
	if err != nil {
		return nil, err
	}
	s.OnStop(func(bool) {
		ctx, cancel := context.WithTimeout(context.Background(), closeWait)
		defer cancel()
		group.Close(ctx)
	})
	if to.watched() {
		s.Go(func(ctx context.Context) error { return to.watch(ctx, s.Env, group) })
	}
	return &Forward{
		group: group, from: from, except: c.except, next: c.next, nextNoData: c.noData,
		limit: int64(c.limit), errLimit: fmt.Errorf("concurrent queries exceeded maximum %d", c.limit),
		rejects: counter(s, "coredns_forward_max_concurrent_rejects_total", "Queries refused because max_concurrent were in flight."),
		free:    make([]*waiter, s.Env.Loops),
	}, nil
}

func counter(s *chain.Setup, name, help string) *metrics.Counter {
	return s.Env.Metrics.Counter(name, help)
}

// group completes the configuration of the upstreams.
func (c *config) group() upstream.Config {
	g := c.ask
	g.MaxAttempts, g.Source, g.Expire, g.MaxAge = c.attempts, c.source, c.expire, c.maxAge
	if g.Service && g.MaxAge == 0 {
		g.MaxAge = max(nodeMaxAge, g.Expire)
	}
	g.Loops, g.Metrics = c.setup.Env.Loops, c.setup.Env.Metrics
	g.Broken = counter(c.setup, "coredns_forward_healthcheck_broken_total", "Queries that found every upstream down.")
	return g
}

// from reads FROM. A network off the octet boundary would be several zones: only the first is forwarded.
func (c *config) from(w corefile.Word) (wire.Name, error) {
	zones := corefile.Host(w.Text)
	if len(zones) == 0 {
		return nil, corefile.Errorf(w.Pos, "%q is no zone", w.Text)
	}
	if len(zones) > 1 {
		c.setup.Warn(corefile.Warning{Pos: w.Pos, Text: fmt.Sprintf(
			"%q is %d zones, but only %s is forwarded; write a forward line for each", w.Text, len(zones), zones[0])})
	}
	name, err := parseName(zones[0])
	if err != nil {
		return nil, corefile.Errorf(w.Pos, "%q: %v", w.Text, err)
	}
	return name, nil
}

func parseName(s string) (wire.Name, error) {
	n, err := wire.ParseName(s)
	if err != nil {
		return nil, err
	}
	wire.ToLower(n)
	return n, nil
}

// absolute gives a file's name relative to the block's root folder.
func (c *config) absolute(name string) string {
	if filepath.IsAbs(name) || c.setup.Block.Root == "" {
		return name
	}
	return filepath.Join(c.setup.Block.Root, name)
}

// serverTLS gives the configuration for a tls:// upstream with its own server name, or for all that have none.
func (c *config) serverTLS(shared map[string]*tls.Config, name string) *tls.Config {
	if name == "" {
		name = c.tlsName
	}
	if shared[name] == nil {
		cfg := c.tls.Clone()
		cfg.ServerName = name
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(maxTo * 4) // resumption saves a round trip
		shared[name] = cfg
	}
	return shared[name]
}

// names reads zones to except; those that are none are left out with a warning, as CoreDNS leaves them out.
func (c *config) names(l *corefile.Line) error {
	zones, warnings := corefile.Zones(l.Args, nil)
	c.setup.Warn(warnings...)
	for _, z := range zones {
		n, err := parseName(z)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(c.except, func(o wire.Name) bool { return wire.Equal(o, n) }) {
			c.except = append(c.except, n)
		}
	}
	return nil
}
