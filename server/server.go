// Package server takes queries from sockets and sends the answers: the gate that every transport passes, routing to the
// blocks of a listener, and the one send.
//
// A query's life: a loop receives a batch (udp.go, tcp.go), the gate reads each query or refuses it (gate.go),
// the listener's table finds its block (route.go), the chain walks it (package chain), and complete and the fitter make
// what leaves (send.go). Streams without TLS live on the loops too; TLS connections have goroutines that hand whole
// frames to a loop (tls.go).
package server

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

// Options are what a server is made with.
type Options struct {
	Loops   int
	Clock   loop.Clock
	Log     *slog.Logger
	Metrics *metrics.Registry
	// Freebind lets sockets be bound to addresses that the host does not have yet (ip(7), IP_FREEBIND).
	Freebind bool
	// Inherited are sockets to use instead of binding new ones; those that the first configuration has no use for are closed.
	Inherited []Inherited
}

// Server is the loops and the listeners of a process.
type Server struct {
	opt     Options
	workers []*worker

	mu        sync.Mutex // guards listeners; held while the set changes
	listeners map[string]*Listener
	inherited []Inherited    // guarded by mu
	streams   sync.WaitGroup // goroutines of TLS connections and transfers
	ctx       context.Context
	cancel    context.CancelFunc
	panics    *metrics.Counter
}

// worker is a loop with all that the server keeps for it.
type worker struct {
	*chain.Worker
	receiver          *receiver
	calls             metrics.Tally // that received datagrams, and what they brought: how full batches are
	datagrams         metrics.Tally
	lastQuery         atomic.Int64 // when the last packet came, by the loop's clock
	s                 *Server
	stage             *stage // nil before the first overload
	fitter            wire.Fitter
	echoed            map[uint16]bool // the options that the configuration of the query being sent gives back, too
	scratch           []byte          // for answers that are copied on
	dropped           atomic.Uint64
	malformed         atomic.Uint64
	repeated          *metrics.Counter // answers given without a walk
	repeatedTCP       *metrics.Counter
	unfair            *metrics.Counter
	thinned           *metrics.Counter
	conns             map[*tcpConn]bool
	connsOf           map[netip.Addr]int // by client
	spareIn, spareOut []byte             // buffers between two connections' use
}

// New makes the loops; nothing runs and nothing is bound yet.
func New(opt Options) (*Server, error) {
	s := &Server{opt: opt, listeners: map[string]*Listener{}, inherited: opt.Inherited}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.panics = opt.Metrics.Counter("coredns_panics_total", "A metrics that counts the number of panics.")
	for i := range opt.Loops {
		l, err := loop.New(i, opt.Clock)
		if err != nil {
			return nil, fmt.Errorf("event loop: %w", err)
		}
		if opt.Loops > 1 { // spill.go
			l.Measure()
		}
		w := &worker{Worker: chain.NewWorker(l, seed()), s: s, receiver: newReceiver(), scratch: make([]byte, 0, wire.MaxMessage), conns: map[*tcpConn]bool{}, connsOf: map[netip.Addr]int{}}
		w.fitter.Echo = func(code uint16) bool { return w.echoed[code] }
		w.OnPanic = s.panicked
		opt.Metrics.Tally(&w.calls, opt.Metrics.Counter("godwit_udp_receives_total", "Calls that received UDP datagrams.").Cell())
		opt.Metrics.Tally(&w.datagrams, opt.Metrics.Counter("godwit_udp_datagrams_total", "UDP datagrams received by those calls.").Cell())
		w.repeated = opt.Metrics.Counter("godwit_udp_repeated_total", "UDP queries that got the octets of an earlier answer, without a walk.")
		w.repeatedTCP = opt.Metrics.Counter("godwit_tcp_repeated_total", "TCP queries that got the octets of an earlier answer, without a walk.")
		w.unfair = opt.Metrics.Counter("godwit_udp_unfair_drops_total", "UDP queries dropped unread because their client asked for more than its share of an overloaded socket.")
		w.thinned = opt.Metrics.Counter("godwit_udp_thinned_clients_total", "Clients of which the kernel was told to drop a part because they went on asking for more than their share.")
		s.workers = append(s.workers, w)
	}
	s.gauges()
	return s, nil
}

func seed() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails (Go 1.24)
	return binary.LittleEndian.Uint64(b[:])
}

func (s *Server) gauges() {
	sum := func(f func(w *worker) uint64) func() float64 {
		return func() float64 {
			var n uint64
			for _, w := range s.workers {
				n += f(w)
			}
			return float64(n)
		}
	}
	s.opt.Metrics.GaugeFunc("godwit_udp_unsent_answers", "Answers that the kernel did not take.",
		sum(func(w *worker) uint64 { return w.dropped.Load() }))
	s.opt.Metrics.GaugeFunc("godwit_malformed_queries", "Packets that were refused by the gate.",
		sum(func(w *worker) uint64 { return w.malformed.Load() }))
}

// Worker gives a loop by index.
func (s *Server) Worker(i int) *chain.Worker { return s.workers[i].Worker }

// Run turns the loops until ctx is done, then closes every socket, and returns when all goroutines have ended.
func (s *Server) Run(ctx context.Context) {
	var loops sync.WaitGroup
	running, stop := context.WithCancel(context.Background())
	for _, w := range s.workers {
		loops.Go(func() { w.Loop.Run(running) })
	}
	<-ctx.Done()
	s.mu.Lock()
	for key, l := range s.listeners {
		l.close()
		delete(s.listeners, key)
	}
	s.mu.Unlock()
	s.cancel()
	for _, w := range s.workers {
		_ = w.RunOn(context.Background(), func(*chain.Worker) {
			for c := range w.conns {
				c.close()
			}
		})
	}
	s.streams.Wait()
	stop()
	loops.Wait()
	for _, w := range s.workers {
		w.Loop.Close()
	}
}

// Quiet gives the time since the last packet on any loop.
func (s *Server) Quiet() time.Duration {
	last := int64(0)
	for _, w := range s.workers {
		last = max(last, w.lastQuery.Load())
	}
	return s.opt.Clock() - time.Duration(last)
}

// InFlight counts the queries of one configuration that are parked on any loop, as far as loops tell before ctx ends.
func (s *Server) InFlight(ctx context.Context, c *chain.Config) int {
	var n atomic.Int64
	for _, w := range s.workers {
		_ = w.RunOn(ctx, func(cw *chain.Worker) {
			cw.Parked(func(q *chain.Query) {
				if t, ok := q.Router().(*Table); ok && t.Config == c {
					n.Add(1)
				}
			})
		})
	}
	return int(n.Load())
}

// panicked counts and logs a handler's panic; its client has been answered SERVFAIL.
func (s *Server) panicked(q *chain.Query, value any, stack []byte) {
	s.panics.Inc(q.Shard())
	s.opt.Log.Error("a handler panicked; the query was answered SERVFAIL",
		"directive", q.At(), "name", q.Name().String(), "type", q.Type.String(), "panic", fmt.Sprint(value), "stack", string(stack))
}

func (w *worker) refused() { w.malformed.Add(1) }
