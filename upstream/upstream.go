// Package upstream asks other DNS servers, on the loop of whoever asks: sockets, timers, the question and its reply all
// belong to that one loop, so an exchange takes no lock and starts no goroutine.
//
// The life of an exchange:
//
//  1. Group.Ask packs the question and looks whether the same one is in flight already (share.go).
//  2. The policy orders the servers; the exchange takes the first that is not down (exchange.go).
//  3. The question leaves by a socket of the server's pool (udp.go) or by one of its connections (stream.go, tcp.go,
//     tls.go).
//  4. A reply is matched (match.go); one that does not belong to the question never ends the wait.
//  5. Silence longer than the server's usual time sends a second question, within a budget (hedge.go); where an address
//     stands for several servers a silent connection or socket is left to itself (service.go).
//  6. A failure starts the server's health check (health.go) and moves on to the next server.
//  7. All who asked are told, each on its own loop.
package upstream

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

// Errors of an Answer, besides those of the network (net.OpError) and of TLS.
var (
	// ErrNoHealthy: every server is down and the group fails fast, or the time was up before one could be asked.
	ErrNoHealthy = errors.New("no healthy proxies")
	// ErrMismatch: what the server sent answers another question; the client gets FORMERR.
	ErrMismatch = errors.New("the reply does not belong to the question")
	// ErrTooMany: the loop has as many questions in flight as it may.
	ErrTooMany = errors.New("too many questions to other servers in flight")
	// ErrClosed: the group was closed.
	ErrClosed = errors.New("upstream: group is closed")
)

// Limits. Each is for one group on one loop unless it says otherwise.
const (
	// defaultTotal is how long a question may take in all, unless the read timeout is longer.
	defaultTotal = 5 * time.Second
	// maxExchanges bounds the questions in flight.
	maxExchanges = 1 << 15
	// maxWaiters bounds those who wait for one exchange; others get an exchange of their own.
	maxWaiters = 1000
)

// Via is the transport of a question.
type Via uint8

// Transports. A server with TLS is asked over TLS whatever is said here.
const (
	UDP Via = iota + 1
	TCP
)

// Policy says in which order servers are tried.
type Policy uint8

// Policies.
const (
	Random Policy = iota + 1
	RoundRobin
	Sequential
)

// String gives the policy's name in a Corefile.
func (p Policy) String() string {
	return [...]string{"", "random", "round_robin", "sequential"}[p]
}

// Config is how a group asks. It must not be changed once given to New.
type Config struct {
	Name        string        // label proxy_name of the metrics
	Policy      Policy        // default Random
	MaxFails    uint32        // a server is down when more health checks than these failed in a row; 0 is never
	MaxAttempts int           // failed attempts that end a question; 0 is no limit, -1 twice the number of servers
	FailFast    bool          // when all servers are down, fail; else one of them is tried at random
	Failover    []wire.Rcode  // replies that make the next server be asked
	Total       time.Duration // for a question in all; default 5 s, never less than ReadTimeout
	ReadTimeout time.Duration // wait for a reply to one attempt; default 2 s
	Expire      time.Duration // idle connections are closed after it
	MaxAge      time.Duration // connections are closed after it; 0 is five minutes
	MaxIdle     int           // idle connections kept for a server; 0 is no limit but the pool's
	Source      netip.Addr    // address to ask from; the zero Addr leaves it to the kernel
	ForceTCP    bool          // never ask over UDP
	PreferUDP   bool          // ask over UDP whatever the client used, and over TCP when the reply is truncated
	// Service says that each address stands for several servers, as a Service's does: every connection, and every socket,
	// reaches one of them, and one that is gone must not keep what the others could answer (service.go).
	Service bool
	Health  Health

	Loops   int // number of loops; their indices are below it
	Metrics *metrics.Registry
	// Broken counts the questions that found every server down; nil counts nowhere.
	Broken *metrics.Counter
}

// Health is how servers are checked after a failure.
type Health struct {
	Interval    time.Duration // between failed checks; at least 10 ms
	Domain      wire.Name     // the name whose NS records are asked for; default the root
	NoRecursion bool          // without the RD bit
}

// Target is the address of a server. Two targets are the same server when they are equal.
type Target struct {
	Addr netip.AddrPort
	Text string      // label "to" of the metrics
	TLS  *tls.Config // nil for plain DNS; with an empty ServerName the address is the name to verify
}

// Server is a target with what is known of it on all loops.
type Server struct {
	Target
	index    int
	fails    atomic.Uint32
	checking atomic.Bool
	metrics  serverMetrics
}

// Down reports whether more health checks in a row failed than maxFails.
func (s *Server) Down(maxFails uint32) bool { return maxFails != 0 && s.fails.Load() > maxFails }

// Answer is the end of an exchange.
type Answer struct {
	// Msg is the server's reply, matched against the question; nil with an error. It is valid during Done.
	Msg    []byte
	Err    error
	Server *Server        // who answered or failed last; nil when nobody was asked
	Local  netip.AddrPort // the address asked from; may be zero
	Via    Via            // the transport of the reply
}

// Waiter is told the end of an exchange.
type Waiter interface {
	// Done is called once, on the loop that asked, and never before Ask has returned.
	Done(a *Answer)
}

// Group is a set of servers that are asked in the same way. It may be used from every loop.
type Group struct {
	cfg     Config
	servers atomic.Pointer[[]*Server]
	robin   atomic.Uint32
	flights flights
	members []atomic.Pointer[member] // by loop, each made and used by its own loop
	metrics groupMetrics

	ctx    context.Context // ends the goroutines of TLS connections
	cancel context.CancelFunc
	wg     sync.WaitGroup // goroutines of TLS connections

	mu     sync.Mutex
	all    []*Server // guarded by mu; every server there ever was, by index
	closed atomic.Bool
}

// New makes a group that asks nobody yet. It opens nothing; Close must be called when it has been used.
func New(cfg Config, targets []Target) (*Group, error) {
	if len(targets) == 0 {
		return nil, errors.New("upstream: no servers")
	}
	if cfg.Policy == 0 {
		cfg.Policy = Random
	}
	if cfg.ReadTimeout <= 0 {
		cfg.ReadTimeout = 2 * time.Second
	}
	if cfg.Total <= 0 {
		cfg.Total = defaultTotal
	}
	cfg.Health.Interval = max(minHealthInterval, cfg.Health.Interval)
	if cfg.Health.Domain == nil {
		cfg.Health.Domain = wire.Root
	}
	g := &Group{cfg: cfg, members: make([]atomic.Pointer[member], cfg.Loops)}
	g.flights.init()
	g.metrics.init(&g.cfg)
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.SetTargets(targets)
	return g, nil
}

// SetTargets replaces the servers; one that stays keeps its health and its sockets. Questions in flight end with the
// servers they began with. An empty list changes nothing.
func (g *Group) SetTargets(targets []Target) {
	if len(targets) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]*Server, 0, len(targets))
	for _, t := range targets {
		list = append(list, g.serverLocked(t))
	}
	g.servers.Store(&list)
}

func (g *Group) serverLocked(t Target) *Server {
	for _, s := range g.all {
		if s.Target == t {
			return s
		}
	}
	s := &Server{Target: t, index: len(g.all)}
	g.all = append(g.all, s)
	return s
}

// Servers gives the servers of the group. The slice must not be changed.
func (g *Group) Servers() []*Server { return *g.servers.Load() }

// Options are what one question wants otherwise than its group.
type Options struct {
	Via   Via  // the client's transport
	Alone bool // not to share the exchange of an identical question that is in flight
}

// Ask puts the question of r to the group's servers, on l, which must be the calling goroutine's loop. All of r that is
// needed is copied before Ask returns. It allocates nothing once sockets are open.
func (g *Group) Ask(l *loop.Loop, r *wire.Request, o Options, w Waiter) {
	m := g.member(l)
	e := m.get()
	e.prepare(r, o.Via)
	switch {
	case !o.Alone && g.flights.enter(e, w):
		m.put(e)
		return
	case o.Alone:
		e.waiters = append(e.waiters, waiting{w, l})
	}
	m.asking++
	switch {
	case m.closed:
		e.finish(nil, nil, ErrClosed)
	case m.flying > maxExchanges:
		e.finish(nil, nil, ErrTooMany)
	default:
		e.begin()
	}
	m.asking--
}

// Exchange asks from a goroutine that is no loop and waits for the answer, a copy that the caller owns.
func (g *Group) Exchange(ctx context.Context, l *loop.Loop, r *wire.Request, o Options) ([]byte, error) {
	w := &blocked{done: make(chan struct{})}
	l.Post(loop.TaskFunc(func(l *loop.Loop) { g.Ask(l, r, o, w) }))
	select {
	case <-w.done:
		return w.msg, w.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type blocked struct {
	done chan struct{}
	msg  []byte
	err  error
}

func (b *blocked) Done(a *Answer) {
	b.msg, b.err = append([]byte(nil), a.Msg...), a.Err
	close(b.done)
}

// Close ends the group: questions in flight are waited for until ctx is done, then everything is closed and joined. It
// must not be called from a loop. Loops that no longer run keep their sockets until the process ends.
func (g *Group) Close(ctx context.Context) {
	if g.closed.Swap(true) {
		return
	}
	var wait []chan struct{}
	for i := range g.members {
		if m := g.members[i].Load(); m != nil {
			wait = append(wait, m.done)
			m.loop.Post(loop.TaskFunc(func(*loop.Loop) { m.close(false) }))
		}
	}
	if !joined(wait, ctx.Done()) {
		g.abort(wait)
	}
	g.cancel()
	g.wg.Wait()
}

// joined waits for all channels to be closed, unless stop is closed before.
func joined(wait []chan struct{}, stop <-chan struct{}) bool {
	for _, done := range wait {
		select {
		case <-done:
		case <-stop:
			return false
		}
	}
	return true
}

// abortWait is how long a loop has to close its sockets; one that has stopped never will.
const abortWait = time.Second

// abort closes the members without waiting for their questions.
func (g *Group) abort(wait []chan struct{}) {
	for i := range g.members {
		if m := g.members[i].Load(); m != nil {
			m.loop.Post(loop.TaskFunc(func(*loop.Loop) { m.close(true) }))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), abortWait)
	defer cancel()
	joined(wait, ctx.Done())
}

// member gives the group's part on l, made at its first question.
func (g *Group) member(l *loop.Loop) *member {
	m := g.members[l.Index()].Load()
	if m == nil {
		m = newMember(g, l)
		g.members[l.Index()].Store(m)
		if g.closed.Load() { // Close may not have seen it
			m.closing = true
		}
	}
	return m
}

// seed gives a key for a generator whose numbers an attacker must not guess.
func seed() (key [32]byte) {
	_, _ = rand.Read(key[:]) // never fails (crypto/rand)
	return key
}
