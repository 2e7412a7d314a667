package run

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/server"
	"github.com/godwit-dns/godwit/wire"
)

// Built is a configuration that has been checked and built: nothing of it is bound or started yet.
type Built struct {
	File   *corefile.File
	Config *chain.Config
	Specs  []server.ListenSpec
	Tables map[string]*server.Table // by the spec's Key

	env        *chain.Env
	directives []chain.Spec
	port       string
	dropped    func(q *chain.Query)
}

// Build checks a Corefile and makes its chains. It binds, starts and writes nothing. Port is for keys without one;
// dropped, which may be nil, is told of queries that no block takes.
func Build(env *chain.Env, directives []chain.Spec, port, name string, text []byte, dropped func(q *chain.Query)) (*Built, error) {
	file, err := corefile.Parse(env.Files, name, text, env.Env)
	if err != nil {
		return nil, err
	}
	if len(file.Blocks) == 0 { // as if there were no Corefile at all
		hash := file.Hash
		if file, err = corefile.Parse(env.Files, name, defaultCorefile(port), env.Env); err != nil {
			return nil, err
		}
		file.Hash = hash
	}
	b := &Built{File: file, Config: &chain.Config{}, Tables: map[string]*server.Table{},
		env: env, directives: directives, port: port, dropped: dropped}
	b.Config.Warnings = append(b.Config.Warnings, file.Warnings...)
	for _, block := range file.Blocks {
		if err := b.block(block); err != nil {
			return nil, err
		}
	}
	for _, f := range b.Config.Built {
		if err := f(); err != nil {
			return nil, err
		}
	}
	overlap := newOverlap()
	for _, block := range b.Config.Blocks {
		if err := b.listeners(block, overlap); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (c *Built) block(src corefile.Block) error {
	keys, err := corefile.Keys(src.Keys, c.port)
	if err != nil {
		return err
	}
	b := &chain.Block{Keys: keys, Pos: src.Keys[0].Pos, Config: c.Config}
	seen := map[string]bool{}
	for _, k := range keys {
		if err := served(k); err != nil {
			return err
		}
		if seen[k.Zone] {
			continue
		}
		seen[k.Zone] = true
		name, err := wire.ParseName(k.Zone)
		if err != nil {
			return corefile.Errorf(k.Pos, "%q: %v", k.Text, err)
		}
		wire.ToLower(name)
		b.Zones, b.Names = append(b.Zones, k.Zone), append(b.Names, name)
	}
	c.Config.Blocks = append(c.Config.Blocks, b)
	return chain.Build(c.env, c.directives, b, src.Lines)
}

// defaultCorefile is what is served without a Corefile.
func defaultCorefile(port string) []byte { return []byte(".:" + port + " {\nwhoami\nlog\n}\n") }

// served refuses the transports that parse but have no server yet.
func served(k corefile.Key) error {
	switch k.Transport {
	case corefile.TransportDNS, corefile.TransportTLS, corefile.TransportUnix:
		return nil
	}
	err := corefile.Errorf(k.Pos, "%s: Godwit does not serve %s:// yet", k.Text, k.Transport)
	err.Hint = "serve the zone over dns:// or tls://"
	return err
}

// listeners enters the block into the tables of its listeners.
func (c *Built) listeners(b *chain.Block, seen *overlap) error {
	hosts := b.Bind
	if hosts == nil { // a bind that leaves no address is something else
		hosts = []chain.Bound{{}}
	}
	for _, k := range b.Keys {
		for _, h := range hosts {
			if err := seen.check(k, h.Addr, len(b.Filters) > 0); err != nil {
				return err
			}
			if k.Transport == corefile.TransportUnix {
				c.Config.Warnings = append(c.Config.Warnings, corefile.Warning{Pos: k.Pos,
					Text: k.Text + " is listened to nowhere, as in CoreDNS"})
				continue
			}
			addr, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(h.Addr, k.Port))
			if err != nil {
				return corefile.Errorf(k.Pos, "%s: %v", k.Text, err)
			}
			c.enter(b, k, h, addr.String())
		}
	}
	return nil
}

func (c *Built) enter(b *chain.Block, k corefile.Key, h chain.Bound, addr string) {
	spec := server.ListenSpec{Transport: k.Transport, Addr: addr, Pos: k.Pos, Timeout: b.Timeout}
	if h.Pos.Source != nil {
		spec.Pos = h.Pos
	}
	if k.Transport == corefile.TransportTLS {
		spec.TLS = b.TLS
		if b.TLS == nil {
			c.Config.Warnings = append(c.Config.Warnings, corefile.Warning{Pos: k.Pos,
				Text: fmt.Sprintf("%s has no tls line, so it speaks plain DNS over TCP on port %s; add \"tls CERT KEY\"", k.Text, k.Port)})
		}
	}
	t := c.Tables[spec.Key()]
	for i := range c.Specs { // blocks of one listener: the last one that says something of timeouts counts
		if c.Specs[i].Key() == spec.Key() {
			c.Specs[i].Timeout.Override(b.Timeout)
		}
	}
	if t == nil {
		t = &server.Table{Label: k.Transport + "://" + addr, Config: c.Config, Dropped: c.dropped}
		c.Tables[spec.Key()] = t
		c.Specs = append(c.Specs, spec)
	}
	t.AnyClass = t.AnyClass || b.AnyClass()
	name, _ := wire.ParseName(k.Zone) // checked when the block was made
	wire.ToLower(name)
	t.Add(name, b.Chain().WithZone(k.Zone))
}

// overlap finds zones that two blocks want on the same address, or one on all addresses and another on one of them.
type overlap struct {
	exact   map[string]corefile.Pos // transport, zone, port, address
	anyAddr map[string]corefile.Pos // the same without address
}

func newOverlap() *overlap {
	return &overlap{map[string]corefile.Pos{}, map[string]corefile.Pos{}}
}

func (o *overlap) check(k corefile.Key, addr string, filtered bool) error {
	any := k.String()
	exact := any + " " + addr
	if at, ok := o.exact[exact]; ok {
		if filtered {
			return nil
		}
		return corefile.Errorf(k.Pos, "cannot serve %s - it is already defined (at %s)", any, at)
	}
	if at, ok := o.anyAddr[any]; ok {
		_, whole := o.exact[any+" "]
		if addr == "" || whole {
			return corefile.Errorf(k.Pos, "cannot serve %s - zone overlap listener capacity with the block at %s: one of them has bind and the other has not", any, at)
		}
	}
	if !filtered {
		o.exact[exact], o.anyAddr[any] = k.Pos, k.Pos
	}
	return nil
}

// instance is one configuration at work: bound, then serving, and at last stopped. Nothing outside of it changes before
// it is published.
type instance struct {
	*Built
	p      *process
	opened []*server.Listener
	https  *openedEndpoints
	trial  *metrics.Trial // what it added to the metrics

	tasks  sync.WaitGroup
	cancel context.CancelFunc
}

// start binds what is not bound yet, runs the starts, and then makes the configuration the one that serves. On an error
// everything is as it was before.
func (i *instance) start(ctx context.Context) error {
	var err error
	if i.opened, err = i.p.server.Bind(i.Specs); err != nil {
		i.trial.Undo()
		return err
	}
	if i.https, err = i.p.endpoints.open(i.Config.Endpoints); err != nil {
		i.p.server.Discard(i.opened)
		i.trial.Undo()
		return err
	}
	var running context.Context
	running, i.cancel = context.WithCancel(context.Background())
	for _, task := range i.Config.Tasks {
		i.tasks.Go(func() {
			if err := task(running); err != nil && running.Err() == nil {
				i.p.env.Log.Error("a task of the configuration ended", "error", err)
			}
		})
	}
	if i.p.current == nil { // a start may wait for long: whoever probes the process meanwhile gets an answer
		i.p.endpoints.publish(i.https)
		i.https = nil
	}
	for _, f := range i.Config.Starts {
		if err := f(ctx); err != nil {
			i.abandon()
			return err
		}
	}
	i.p.server.Publish(i.opened, i.Specs, i.Tables)
	if i.https != nil {
		i.p.endpoints.publish(i.https)
	}
	i.trial.Keep()
	return nil
}

// abandon undoes a start that failed.
func (i *instance) abandon() {
	i.stop(false)
	i.p.endpoints.discard(i.https)
	i.p.server.Discard(i.opened)
	i.trial.Undo()
}

// stop ends the configuration's goroutines and runs its stops.
func (i *instance) stop(final bool) {
	i.cancel()
	i.tasks.Wait()
	for _, f := range i.Config.Stops {
		f(final)
	}
}

// retireAfter is how long queries that entered with an old configuration may keep it.
const retireAfter = 5 * time.Second

// retire stops a configuration that another has followed, when its last query is done.
func (i *instance) retire(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, retireAfter)
	defer cancel()
	for i.p.server.InFlight(ctx, i.Config) > 0 && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	i.stop(false)
}

// warn logs what an operator should know of the configuration.
func (i *instance) warn() {
	for _, w := range i.Config.Warnings {
		i.p.env.Log.Warn(w.Pos.String() + ": " + w.Text)
	}
}

// banner lists what is served, as CoreDNS prints it at start.
func (i *instance) banner() string {
	var b strings.Builder
	for _, block := range i.Config.Blocks {
		for _, k := range block.Keys {
			prefix := ""
			if k.Transport == corefile.TransportUnix {
				continue
			}
			if k.Transport != corefile.TransportDNS {
				prefix = k.Transport + "://"
			}
			if block.Bind == nil {
				fmt.Fprintf(&b, "%s%s:%s\n", prefix, k.Zone, k.Port)
			}
			for _, h := range block.Bind {
				fmt.Fprintf(&b, "%s%s:%s on %s\n", prefix, k.Zone, k.Port, h.Addr)
			}
		}
	}
	return b.String()
}
