package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/cluster"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/wire"
)

const usage = `kubernetes [ZONES...] {
    kubeconfig KUBECONFIG [CONTEXT]
    endpoint URL
    tls CERT KEY CACERT
    manifests PATH
    snapshot DIR
    apiserver_qps FLOAT
    apiserver_burst COUNT
    apiserver_max_inflight COUNT
    namespaces NAMESPACE...
    namespace_labels EXPRESSION
    labels EXPRESSION
    pods POD-MODE
    endpoint_pod_names
    ttl TTL
    noendpoints
    fallthrough [ZONES...]
    ignore empty_service
    multicluster [ZONES...]
    zonal
    startup_timeout DURATION
}`

// Spec is the directive.
var Spec = chain.Spec{
	Name:    "kubernetes",
	Usage:   usage,
	Options: func() corefile.Options { return new(settings).rows() },
	New:     setup,
}

// settings are the options while they are read.
type settings struct {
	Config

	warnings []corefile.Warning
}

func defaults() settings {
	return settings{Config: Config{Pods: podsDisabled, TTL: 5, StartTimeout: 5 * time.Second}}
}

func setup(s *chain.Setup) error {
	if len(s.Lines) > 1 {
		e := corefile.Errorf(s.Lines[1].Name.Pos, "kubernetes can stand only once in a server block")
		e.Hint = "name all zones on one line"
		return e
	}
	o := defaults()
	line := &s.Lines[0]
	zones, warnings := corefile.Zones(line.Args, s.Block.Zones)
	o.Zones = zones
	s.Warn(warnings...)
	warnings, err := o.rows().Read(line)
	s.Warn(warnings...)
	s.Warn(o.warnings...)
	if err != nil {
		return err
	}
	if o.Cluster.Manifests != "" && o.Cluster.Snapshot != "" {
		s.Warn(corefile.Warning{Pos: line.Name.Pos, Text: "snapshot has no use beside manifests"})
	}
	k, err := newHandler(o.Config, line.Name.Pos)
	if err != nil {
		return err
	}
	return k.attach(s)
}

// newHandler checks what only all options together can say, and makes the handler without its cluster.
func newHandler(cfg Config, pos corefile.Pos) (*Kubernetes, error) {
	k := &Kubernetes{cfg: cfg}
	if len(cfg.Namespaces) > 0 && cfg.Cluster.NamespaceSelector != "" {
		return nil, corefile.Errorf(pos, "namespaces and namespace_labels cannot both be set")
	}
	if cfg.Zonal && cfg.Cluster.NoEndpoints {
		return nil, corefile.Errorf(pos, "zonal answers from endpoints; remove noendpoints")
	}
	if err := oneSource(cfg.Cluster); err != nil {
		return nil, corefile.Errorf(pos, "%v", err)
	}
	for _, z := range cfg.Multicluster {
		if !slices.Contains(cfg.Zones, z) {
			return nil, corefile.Errorf(pos, "multicluster zone %s is none of the directive's zones: %s", z, strings.Join(cfg.Zones, " "))
		}
	}
	for _, text := range cfg.Zones {
		name, err := wire.ParseName(text)
		if err != nil {
			return nil, corefile.Errorf(pos, "zone %q: %v", text, err)
		}
		wire.ToLower(name)
		z := zone{name: name, reverse: arpa4.Under(name) || arpa6.Under(name) || name.Under(arpa4) || name.Under(arpa6)}
		if len(name) > 1 && len(name)+len(labelsNS) <= wire.MaxName {
			z.ns = append(append(wire.Name(nil), labelsNS...), name...)
		}
		for _, m := range cfg.Multicluster {
			if above, err := wire.ParseName(m); err == nil && name.Under(above) {
				z.imported = true
			}
		}
		if k.primary == nil && !reverse(name) {
			k.primary = name
		}
		k.prepareSOA(&z)
		k.zones = append(k.zones, z)
	}
	if k.primary == nil {
		return nil, corefile.Errorf(pos, "non-reverse zone name must be used: PTR records need a zone to point into")
	}
	for _, text := range cfg.Fallthrough {
		name, err := wire.ParseName(text)
		if err != nil {
			return nil, corefile.Errorf(pos, "fallthrough zone %q: %v", text, err)
		}
		wire.ToLower(name)
		k.fall = append(k.fall, name)
	}
	return k, nil
}

func oneSource(c cluster.Config) error {
	if c.Manifests == "" {
		return nil
	}
	if c.Kubeconfig != "" || c.Endpoint != "" {
		return errors.New("manifests take the place of an API server; remove kubeconfig and endpoint")
	}
	return nil
}

// shared is a Cluster that directives with the same needs have in common.
type shared struct {
	cluster *cluster.Cluster
	err     error
}

// attach opens the cluster and hooks the handler into the configuration.
func (k *Kubernetes) attach(s *chain.Setup) error {
	c := k.cfg.Cluster
	c.Pods = k.cfg.Pods == podsVerified
	c.PodLabels = c.Pods && s.Block.HasMetadata // nobody else can read them
	c.Multicluster = len(k.cfg.Multicluster) > 0
	c.Zones = k.cfg.Zonal
	key := fmt.Sprintf("kubernetes %+v", c)
	c.UserAgent = userAgent(s.Env.Version)
	c.Log, c.Wall = s.Env.Log, s.Env.Wall
	sh := s.Shared(key, func() any {
		c.Observe = observer(s.Env)
		opened, err := cluster.Open(c)
		if err == nil {
			s.Go(opened.Run)
			s.OnStart(func(context.Context) error {
				gauges(s.Env, opened)
				return nil
			})
		}
		return &shared{opened, err}
	}).(*shared)
	if sh.err != nil {
		return corefile.Errorf(s.Pos(), "%v", sh.err)
	}
	k.cluster = sh.cluster
	k.scratch = make([]scratch, s.Env.Loops)
	k.local = func() []netip.Addr { return nil }
	k.outside = chain.NewSlot[outside](s)
	k.provide(s)
	s.Ready(k.cluster.Synced)
	s.OnStart(func(ctx context.Context) error {
		local := localAddrs(s.Block.Bind)
		k.local = func() []netip.Addr { return local }
		return k.wait(ctx, s)
	})
	s.Handler(k)
	return nil
}

// userAgent is how the API server's audit log knows this program. Of the version's text only the number in its first line
// can stand in a header.
func userAgent(version string) string {
	first, _, _ := strings.Cut(version, "\n")
	return fmt.Sprintf("godwit/%s (%s/%s)", strings.TrimPrefix(first, "Godwit-"), runtime.GOOS, runtime.GOARCH)
}

// wait holds the start back until the cluster has been read, or for the start timeout.
func (k *Kubernetes) wait(ctx context.Context, s *chain.Setup) error {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.StartTimeout)
	defer cancel()
	for {
		short, stop := context.WithTimeout(ctx, 500*time.Millisecond)
		err := k.cluster.WaitSynced(short)
		stop()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			s.Env.Log.Warn("starting server with unsynced Kubernetes API")
			return nil
		}
		s.Env.Log.Info("waiting for Kubernetes API before starting server")
	}
}

// rows are the options.
func (o *settings) rows() corefile.Options {
	c := &o.Cluster
	return corefile.Options{
		{Name: "kubeconfig", Usage: "KUBECONFIG [CONTEXT]", Min: 1, Max: 2, Read: func(l *corefile.Line) error {
			c.Kubeconfig, c.Context = l.Args[0].Text, ""
			if len(l.Args) == 2 {
				c.Context = l.Args[1].Text
			}
			return nil
		}},
		{Name: "endpoint", Usage: "URL", Min: 1, Max: -1, Read: o.endpoint},
		{Name: "tls", Usage: "CERT KEY CACERT", Min: 3, Max: 3, Read: func(l *corefile.Line) error {
			c.CertFile, c.KeyFile, c.CAFile = l.Args[0].Text, l.Args[1].Text, l.Args[2].Text
			return nil
		}},
		corefile.Text("manifests", "PATH", &c.Manifests),
		corefile.Text("snapshot", "DIR", &c.Snapshot),
		{Name: "apiserver_qps", Usage: "FLOAT", Min: 1, Max: 1, Read: func(l *corefile.Line) error {
			qps, err := corefile.ParseFloat(l.Args[0], 0, math.MaxFloat32)
			c.QPS = float32(qps)
			return err
		}},
		corefile.Int("apiserver_burst", "COUNT", &c.Burst, 0, math.MaxInt),
		corefile.Int("apiserver_max_inflight", "COUNT", &c.MaxInFlight, 0, 1<<20),
		{Name: "namespaces", Usage: "NAMESPACE...", Min: 1, Max: -1, Read: func(l *corefile.Line) error {
			seen := map[string]bool{}
			for _, w := range l.Args {
				seen[w.Text] = true
			}
			for _, n := range o.Namespaces {
				seen[n] = true
			}
			o.Namespaces = slices.Sorted(maps.Keys(seen))
			return nil
		}},
		{Name: "namespace_labels", Usage: "EXPRESSION", Min: 1, Max: -1, Read: selector(&c.NamespaceSelector)},
		{Name: "labels", Usage: "EXPRESSION", Min: 1, Max: -1, Read: selector(&c.Selector)},
		withUsage(corefile.Enum("pods", &o.Pods, podsDisabled, podsVerified, podsInsecure), "POD-MODE"),
		corefile.Flag("endpoint_pod_names", &c.PodNames),
		{Name: "ttl", Usage: "TTL", Min: 1, Max: -1, Read: func(l *corefile.Line) error {
			t, err := corefile.ParseInt(l.Args[0], 0, 3600)
			o.TTL = uint32(t)
			return err
		}},
		corefile.Flag("noendpoints", &c.NoEndpoints),
		{Name: "fallthrough", Usage: "[ZONES...]", Max: -1, Read: o.readFallthrough},
		{Name: "ignore", Usage: "empty_service", Max: -1, Read: o.ignore},
		{Name: "multicluster", Usage: "[ZONES...]", Max: -1, Read: o.readMulticluster},
		corefile.Flag("zonal", &o.Zonal),
		{Name: "startup_timeout", Usage: "DURATION", Min: 1, Max: -1, Read: func(l *corefile.Line) error {
			d, err := corefile.ParseDurationIn(l.Args[0], 0, math.MaxInt64)
			o.StartTimeout = d
			return err
		}},
		{Name: "upstream", Max: -1, Obsolete: "upstream is obsolete and ignored: names outside are resolved by the server itself"},
		{Name: "resyncperiod", Max: -1, Obsolete: "resyncperiod is obsolete and ignored: changes are watched"},
	}
}

func withUsage(r corefile.Row, usage string) corefile.Row {
	r.Usage = usage
	return r
}

// endpoint takes the API server's URL. More of them are accepted and not used, as in CoreDNS.
func (o *settings) endpoint(l *corefile.Line) error {
	o.Cluster.Endpoint = l.Args[0].Text
	if len(l.Args) > 1 {
		o.warnings = append(o.warnings, corefile.Warning{
			Pos: l.Args[1].Pos, Text: fmt.Sprintf("only the first endpoint, %s, is used", l.Args[0].Text),
		})
	}
	return nil
}

// selector takes a label selector, which may have blanks.
func selector(dst *string) func(l *corefile.Line) error {
	return func(l *corefile.Line) error {
		words := make([]string, len(l.Args))
		for i, w := range l.Args {
			words[i] = w.Text
		}
		text := strings.Join(words, " ")
		canonical, err := cluster.ParseSelector(text)
		if err != nil {
			return corefile.Errorf(l.Args[0].Pos, "label selector %q: %v", text, err)
		}
		*dst = canonical
		return nil
	}
}

func (o *settings) readFallthrough(l *corefile.Line) error {
	if len(l.Args) == 0 {
		o.Fallthrough = []string{"."}
		return nil
	}
	zones, warnings := corefile.Zones(l.Args, nil)
	o.Fallthrough = zones
	o.warnings = append(o.warnings, warnings...)
	return nil
}

func (o *settings) readMulticluster(l *corefile.Line) error {
	o.Multicluster = nil
	if len(l.Args) > 0 {
		zones, warnings := corefile.Zones(l.Args, nil)
		o.Multicluster = zones
		o.warnings = append(o.warnings, warnings...)
	}
	return nil
}

func (o *settings) ignore(l *corefile.Line) error {
	if len(l.Args) == 0 {
		return nil
	}
	if l.Args[0].Text != "empty_service" {
		e := corefile.Errorf(l.Args[0].Pos, "ignore takes empty_service, not %q", l.Args[0].Text)
		e.Hint = "write: ignore empty_service"
		return e
	}
	o.IgnoreEmpty = true
	return nil
}
