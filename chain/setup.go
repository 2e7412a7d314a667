package chain

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

// Spec is one directive. The ordered list of all of them is plugin.All.
type Spec struct {
	Name string
	// Usage is the Syntax of the README: the directive's own line and its options.
	Usage string
	// Options are the rows of its block, for the test that holds them and the README together; nil without a block.
	Options func() corefile.Options
	// New reads all lines of the directive in one block and adds handlers and hooks to s. It has no effect on anything
	// outside: nothing is bound, started or written before the whole configuration has been built.
	New func(s *Setup) error
}

// Setup is what a directive gets when a block that has it is built.
type Setup struct {
	Spec  *Spec
	Lines []corefile.Line // every line of the directive in the block, in order; at least one
	Block *Block
	Env   *Env

	slots   []slotZero
	builder *Builder
}

// Env is the process around a configuration.
type Env struct {
	Log     *slog.Logger
	Metrics *metrics.Registry
	Loops   int        // number of loops: per-loop state is indexed from 0
	Clock   loop.Clock // monotonic
	Wall    func() time.Time
	Files   fs.FS // takes absolute paths and paths relative to the working folder
	Env     func(name string) (string, bool)
	Version string
	// Reload asks for a reload of the Corefile now.
	Reload func()
	// Fatal ends the process with an error: loop exit's way out, and nothing else's.
	Fatal func(error)
	// Print writes one log line, newline included, as it is: what loops write through Log would make them wait for its
	// reader. Lines gather by shard, as metrics have them, and leave within milliseconds. The bytes are copied.
	Print func(shard int, line []byte)
	// Loop gives a loop by index, for work that must run on each of them (Post).
	Loop func(i int) *Worker
	// Node says that the process is a node's agent, some of whose defaults differ; what the Corefile says counts in any case.
	Node bool
}

// Kept is what a directive of a configuration holds that a successor of the process can use: a cache.
type Kept struct {
	Name string // tells the same directive of the successor, in the same block: "cache example.org.:53"
	// Export calls f with one entry after another, those first that are worth most, until f says no. Entries are f's to
	// read while it runs.
	Export func(f func(entry []byte) bool)
	// Import takes an entry in; one that it does not understand, or that is over, it leaves.
	Import func(entry []byte)
}

// Block is one server block while it is built, and what is known of it afterwards.
type Block struct {
	Keys  []corefile.Key
	Zones []string    // the zones of its keys, each once, with a dot at the end
	Names []wire.Name // the same in wire form, lower case
	Pos   corefile.Pos
	Root  string // folder that relative file names are relative to
	Debug bool
	Listen
	View string
	// Filters decide whether the block takes a query; all must agree.
	Filters []func(q *Query) bool
	// HasMetadata says that the block has the metadata directive. Queries for names outside of MetadataZones,
	// which is nil for all, have none.
	HasMetadata   bool
	MetadataZones []wire.Name
	Config        *Config

	slots    int
	chain    *Chain
	metadata map[string]func(q *Query) string
	families map[string]func(q *Query, rest string) string // by prefix
	ready    []Readiness
}

// Listen is how a block's listeners are made.
type Listen struct {
	Bind    []Bound // nil: all addresses; empty: none
	TLS     *tls.Config
	Timeout Timeouts
	Sockets int // multisocket: at least that many sockets for an address; 0 is as many as loops
}

// Bound is an address that the block binds to, with its place in the Corefile.
type Bound struct {
	Addr string
	Pos  corefile.Pos
}

// Timeouts are a stream listener's; 0 is the default.
type Timeouts struct {
	Read, Write, Idle time.Duration
	Queries           int // how many a connection may ask; 0 is any number
}

// Override takes over what is set in o.
func (t *Timeouts) Override(o Timeouts) {
	for _, f := range []struct{ dst, src *time.Duration }{{&t.Read, &o.Read}, {&t.Write, &o.Write}, {&t.Idle, &o.Idle}} {
		if *f.src != 0 {
			*f.dst = *f.src
		}
	}
	if o.Queries != 0 {
		t.Queries = o.Queries
	}
}

// Readiness is one part's say in /ready.
type Readiness struct {
	Name  string
	Ready func() bool
}

// Config is the whole configuration while it is built: hooks and endpoints of all blocks.
type Config struct {
	Blocks []*Block
	// Built run when all blocks have their chains and before anything is bound; an error refuses the configuration.
	Built []func() error
	// Starts run in order after binding; an error refuses the configuration. A start may take as long as its ctx.
	Starts []func(ctx context.Context) error
	// Tasks run as goroutines while the configuration lives, and are joined at its end.
	Tasks []func(ctx context.Context) error
	// Stops run in order at the end; final says that the process ends too, rather than another configuration following.
	Stops []func(final bool)
	// Shutdowns run at the beginning of the process's end, while queries are still answered: lameduck.
	Shutdowns []func(ctx context.Context)
	// Kept is what a successor may have of the configuration. Safe for use by any goroutine.
	Kept      []Kept
	Endpoints []Endpoint
	// Watched are files besides the Corefile's own that a reload looks at.
	Watched []string
	// ReloadEvery and ReloadJitter are the reload directive's; 0 without one.
	ReloadEvery, ReloadJitter time.Duration
	Warnings                  []corefile.Warning
	// Echoed are EDNS options that replies give back unchanged, besides those that every reply does.
	Echoed map[uint16]bool
	// AnyClass is set by a directive that answers other classes than IN: forward, chaos.
	anyClass map[*Block]bool
	shared   map[string]any
}

// Endpoint is an HTTP endpoint that a directive wants.
type Endpoint struct {
	Addr    string // host:port
	Path    string // as http.ServeMux takes it
	Handler http.Handler
	TLS     *tls.Config // nil for plain HTTP
	Pos     corefile.Pos
	// Name is what a log line calls the endpoint.
	Name string
}

// Handler adds a handler to the block's chain, with all slots reserved since the last one.
func (s *Setup) Handler(h Handler) {
	s.builder.Add(s.Spec.Name, h, s.slots...)
	s.slots = nil
	if pool, ok := h.(*blocking); ok {
		s.OnStop(pool.stop)
	}
}

// Pos is where the directive first stands in the block.
func (s *Setup) Pos() corefile.Pos { return s.Lines[0].Name.Pos }

// Warn notes something that works but that an operator should know.
func (s *Setup) Warn(w ...corefile.Warning) {
	s.Block.Config.Warnings = append(s.Block.Config.Warnings, w...)
}

// OnBuilt adds a function that runs when every block has been set up and nothing is bound: to look at neighbours.
func (s *Setup) OnBuilt(f func() error) { s.Block.Config.Built = append(s.Block.Config.Built, f) }

// OnStart adds a function that runs before the configuration serves; an error refuses the configuration.
func (s *Setup) OnStart(f func(ctx context.Context) error) {
	s.Block.Config.Starts = append(s.Block.Config.Starts, f)
}

// Go adds a goroutine that lives as long as the configuration. An error it returns is logged.
func (s *Setup) Go(f func(ctx context.Context) error) {
	s.Block.Config.Tasks = append(s.Block.Config.Tasks, f)
}

// OnStop adds a function that runs when the configuration has ended.
func (s *Setup) OnStop(f func(final bool)) { s.Block.Config.Stops = append(s.Block.Config.Stops, f) }

// OnShutdown adds a function that runs when the process is asked to end, while it still answers.
func (s *Setup) OnShutdown(f func(ctx context.Context)) {
	s.Block.Config.Shutdowns = append(s.Block.Config.Shutdowns, f)
}

// Keep offers what the directive holds to a successor of the process.
func (s *Setup) Keep(k Kept) { s.Block.Config.Kept = append(s.Block.Config.Kept, k) }

// HTTP adds an endpoint.
func (s *Setup) HTTP(e Endpoint) { s.Block.Config.Endpoints = append(s.Block.Config.Endpoints, e) }

// Ready gives the block a say in /ready, under the directive's name.
func (s *Setup) Ready(ready func() bool) {
	s.Block.ready = append(s.Block.ready, Readiness{s.Spec.Name, ready})
}

// AnyClass lets queries of classes other than IN through to this server's blocks.
func (s *Setup) AnyClass() {
	if s.Block.Config.anyClass == nil {
		s.Block.Config.anyClass = map[*Block]bool{}
	}
	s.Block.Config.anyClass[s.Block] = true
}

// EchoOption makes replies give an EDNS option of their queries back unchanged.
func (s *Setup) EchoOption(code uint16) {
	if s.Block.Config.Echoed == nil {
		s.Block.Config.Echoed = map[uint16]bool{}
	}
	s.Block.Config.Echoed[code] = true
}

// Provide makes metadata available under a name like "kubernetes/service"; f is called when somebody reads it.
func (s *Setup) Provide(name string, f func(q *Query) string) {
	if s.Block.metadata == nil {
		s.Block.metadata = map[string]func(q *Query) string{}
	}
	s.Block.metadata[name] = f
}

// ProvideAll makes metadata available under every name that begins with a prefix, "kubernetes/client-label/" for instance;
// f gets what follows it.
func (s *Setup) ProvideAll(prefix string, f func(q *Query, rest string) string) {
	if s.Block.metadata == nil {
		s.Block.metadata = map[string]func(q *Query) string{}
	}
	if s.Block.families == nil {
		s.Block.families = map[string]func(q *Query, rest string) string{}
	}
	s.Block.families[prefix] = f
}

// Shared gives the value that directives of all blocks share under key in this configuration, made at first use.
func (s *Setup) Shared(key string, make func() any) any {
	c := s.Block.Config
	if c.shared == nil {
		c.shared = map[string]any{}
	}
	if _, ok := c.shared[key]; !ok {
		c.shared[key] = make()
	}
	return c.shared[key]
}

// Chain is the block's chain; nil before all of the block has been set up.
func (b *Block) Chain() *Chain { return b.chain }

// Ready lists who has a say in the block's /ready.
func (b *Block) Ready() []Readiness { return b.ready }

// Metadata gives the reader of a name, nil when nobody provides it or the block has no metadata directive. To be called
// when all of the block has been set up.
func (b *Block) Metadata(name string) func(q *Query) string {
	if !b.provides(name) {
		return nil
	}
	return func(q *Query) string {
		if b.MetadataZones != nil && !slices.ContainsFunc(b.MetadataZones, q.OriginalName().Under) {
			return ""
		}
		return b.metadata[name](q) // found late: a directive may stand in for another's
	}
}

// provides reports whether a name means anything, and enters one that only its prefix provides.
func (b *Block) provides(name string) bool {
	if !b.HasMetadata {
		return false
	}
	for prefix, f := range b.families {
		if rest, ok := strings.CutPrefix(name, prefix); ok && b.metadata[name] == nil {
			b.metadata[name] = func(q *Query) string { return f(q, rest) }
		}
	}
	return b.metadata[name] != nil
}

// Provided gives what a name means so far, for a directive that stands in for it.
func (b *Block) Provided(name string) func(q *Query) string { return b.metadata[name] }

// AnyClass reports whether a directive of the block answers other classes than IN.
func (b *Block) AnyClass() bool { return b.Config.anyClass[b] }

// Build sets up one block's directives in the order of specs. Lines of unknown directives are an error with the
// nearest known word.
func Build(env *Env, specs []Spec, b *Block, lines []corefile.Line) error {
	byName := map[string][]corefile.Line{}
	known := make([]string, len(specs))
	for i := range specs {
		known[i] = specs[i].Name
	}
	for _, l := range lines {
		byName[l.Name.Text] = append(byName[l.Name.Text], l)
	}
	builder := &Builder{}
	for i := range specs {
		group := byName[specs[i].Name]
		if group == nil {
			continue
		}
		delete(byName, specs[i].Name)
		s := &Setup{Spec: &specs[i], Lines: group, Block: b, Env: env, builder: builder}
		if err := specs[i].New(s); err != nil {
			return within(err, group[0].Name.Pos, specs[i].Name)
		}
	}
	for _, l := range lines {
		if _, unknown := byName[l.Name.Text]; unknown {
			err := corefile.Errorf(l.Name.Pos, "unknown directive %q", l.Name.Text)
			if near := corefile.Nearest(l.Name.Text, known); near != "" {
				err.Hint = "did you mean " + near + "?"
			}
			return err
		}
	}
	b.chain = builder.Chain()
	b.chain.Debug, b.chain.View, b.chain.Filters = b.Debug, b.View, b.Filters
	return nil
}

// within gives an error without a place of its own that of the directive.
func within(err error, pos corefile.Pos, name string) error {
	var placed *corefile.Error
	if errors.As(err, &placed) {
		return err
	}
	return corefile.Errorf(pos, "%s: %v", name, err)
}

// RR is one record outside a message: in zone transfers. Data is in wire form, names uncompressed.
type RR struct {
	Owner wire.Name
	Type  wire.Type
	Class wire.Class
	TTL   uint32
	Data  []byte
}

// ErrNotAuthoritative says that a Transferer does not have the zone.
var ErrNotAuthoritative = errors.New("not authoritative for zone")

// Transferer is a handler that gives whole zones away (RFC 5936): the transfer directive asks its neighbours.
type Transferer interface {
	// Transfer gives the zone's records, SOA first and last. With a serial other than 0 it may give the SOA alone when
	// nothing has changed since (RFC 1995, 2). Slices are valid until the next record.
	Transfer(zone wire.Name, serial uint32) (iter.Seq[RR], error)
}

// Names gives zones in wire form, lower case, in the same order.
func Names(zones []string) ([]wire.Name, error) {
	names := make([]wire.Name, 0, len(zones))
	for _, z := range zones {
		n, err := wire.ParseName(z)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", z, err)
		}
		wire.ToLower(n)
		names = append(names, n)
	}
	return names, nil
}
