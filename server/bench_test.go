package server

import (
	"log/slog"
	"math"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

// steady answers every query alike, and may be repeated.
type steady struct {
	version atomic.Uint64
	counted *metrics.Counter
	again   bool
	walked  int
}

func (s *steady) Serve(q *chain.Query) chain.Outcome {
	s.walked++
	s.counted.Inc(q.Shard())
	q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA)
	q.Reply.AppendOwnData(wire.Answer, wire.TypeA, 5, []byte{192, 0, 2, 1}, 4)
	return chain.Answered
}

func (s *steady) Repeat(q *chain.Query, r *chain.Repeat) bool {
	r.Cells = append(r.Cells, s.counted.Cell())
	r.Guards = append(r.Guards, chain.Guard{Version: &s.version, Check: func(time.Duration) (int, time.Duration, bool) {
		return -1, math.MaxInt64, true
	}})
	return s.again
}

// bed is a socket of a loop that is turned by hand, and the batch in its slots.
type bed struct {
	s      *Server
	u      *udpSocket
	h      *steady
	client *net.UDPConn
}

func newBed(tb testing.TB, again bool) *bed {
	tb.Helper()
	registry := metrics.New(1)
	s, err := New(Options{Loops: 1, Clock: loop.System(), Log: slog.New(slog.DiscardHandler), Metrics: registry})
	if err != nil {
		tb.Fatal(err)
	}
	fd, err := socket(netip.MustParseAddrPort("127.0.0.1:0"), unix.SOCK_DGRAM, false, false)
	if err != nil {
		tb.Fatal(err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		tb.Fatal(err)
	}
	local := loop.AddrPort(bound)
	h := &steady{counted: registry.Counter("counted", ""), again: again}
	var b chain.Builder
	b.Add("steady", h)
	t := &Table{Label: "dns://:53", Config: &chain.Config{}}
	t.Add(wire.Root, b.Chain())
	w := s.workers[0]
	u := &udpSocket{w: w, fd: fd, local: local, table: new(atomic.Pointer[Table]), repeats: w.newRepeats(w.repeated)}
	u.out.begin(fd, local.Addr(), &w.dropped)
	u.table.Store(t)
	client, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(local))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		client.Close()
		unix.Close(fd)
		s.workers[0].Loop.Close()
		s.cancel()
	})
	return &bed{s: s, u: u, h: h, client: client}
}

// fill has the slots hold what the client sends now.
func (b *bed) fill(tb testing.TB, packets ...[]byte) int {
	for _, p := range packets {
		if _, err := b.client.Write(p); err != nil {
			tb.Fatal(err)
		}
	}
	b.u.w.receiver.prepare(false)
	return b.u.w.receiver.receive(b.u.fd)
}

// walk delivers a slot and forgets the answer.
func (b *bed) walk(i int) {
	b.u.deliver(b.u.w.receiver, i)
	b.u.out.n, b.u.out.used = 0, 0
}

// BenchmarkDeliver takes a datagram through the gate, routing, a walk and the fitter. BenchmarkRepeat1 and its like are the
// short way.
func BenchmarkDeliver(b *testing.B) {
	bed := newBed(b, false)
	msg := query("www.example.org.", 1, 0)
	bed.fill(b, msg)
	bed.u.repeats.begin(bed.u.table.Load())
	bed.u.w.BeginBatch()
	b.ReportAllocs()
	for b.Loop() {
		bed.walk(0)
	}
	if bed.h.walked < b.N {
		b.Errorf("%d walks of %d", bed.h.walked, b.N)
	}
}
