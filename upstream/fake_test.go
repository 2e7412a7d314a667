package upstream

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is loops that turn, a registry, and the groups made on them.
type bench struct {
	t     testing.TB
	loops []*loop.Loop
	reg   *metrics.Registry
}

func newBench(t testing.TB, loops int) *bench {
	b := &bench{t: t, reg: metrics.New(loops)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	clock := loop.System()
	for i := range loops {
		l, err := loop.New(i, clock)
		if err != nil {
			t.Fatal(err)
		}
		b.loops = append(b.loops, l)
		wg.Go(func() { l.Run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		for _, l := range b.loops {
			l.Close()
		}
	})
	return b
}

// group makes a group of plain servers at addrs; change may edit its configuration.
func (b *bench) group(change func(*Config), addrs ...string) *Group {
	targets := make([]Target, len(addrs))
	for i, a := range addrs {
		targets[i] = Target{Addr: netip.MustParseAddrPort(a), Text: a}
	}
	return b.groupOf(change, targets...)
}

func (b *bench) groupOf(change func(*Config), targets ...Target) *Group {
	cfg := Config{Name: "test", MaxFails: 2, MaxAttempts: -1, Expire: 10 * time.Second, Loops: len(b.loops), Metrics: b.reg,
		Health: Health{Interval: 50 * time.Millisecond}}
	if change != nil {
		change(&cfg)
	}
	g, err := New(cfg, targets)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		g.Close(ctx)
	})
	return g
}

// result is what became of a question.
type result struct {
	m      *dns.Msg
	err    error
	server string
	via    Via
	took   time.Duration
}

type collector struct {
	start time.Time
	c     chan result
}

func (w *collector) Done(a *Answer) {
	r := result{err: a.Err, via: a.Via, took: time.Since(w.start)}
	if a.Server != nil {
		r.server = a.Server.Text
	}
	if a.Err == nil {
		r.m = new(dns.Msg)
		if err := r.m.Unpack(append([]byte(nil), a.Msg...)); err != nil {
			r.err = err
		}
	}
	w.c <- r
}

func question(name string) *wire.Request {
	r := new(wire.Request)
	r.SetQuestion(wire.MustName(name), wire.TypeA)
	return r
}

// start asks on a loop and gives the channel of the result.
func (b *bench) start(g *Group, at int, r *wire.Request, o Options) <-chan result {
	w := &collector{time.Now(), make(chan result, 1)}
	b.loops[at].Post(loop.TaskFunc(func(l *loop.Loop) { g.Ask(l, r, o, w) }))
	return w.c
}

func (b *bench) ask(g *Group, name string, via Via) result {
	b.t.Helper()
	return b.wait(b.start(g, 0, question(name), Options{Via: via}))
}

func (b *bench) wait(c <-chan result) result {
	b.t.Helper()
	select {
	case r := <-c:
		return r
	case <-time.After(15 * time.Second):
		b.t.Fatal("no end of an exchange in 15 seconds")
		return result{}
	}
}

// mustAnswer checks for the address that echo gives.
func mustAnswer(t testing.TB, r result, address string) {
	t.Helper()
	if r.err != nil {
		t.Fatalf("error %v", r.err)
	}
	if len(r.m.Answer) != 1 || r.m.Answer[0].(*dns.A).A.String() != address {
		t.Fatalf("got %v, want one A %s", r.m, address)
	}
}

// echo answers with one address.
func echo(m *dns.Msg, address string) *dns.Msg {
	r := new(dns.Msg)
	r.SetReply(m)
	r.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30},
		A: net.ParseIP(address)}}
	return r
}

// udpServer answers datagrams; f may write any number of replies. Count is of datagrams received.
type udpServer struct {
	addr  string
	conn  *net.UDPConn
	count atomic.Int64
	ports sync.Map
}

func newUDP(t testing.TB, address string, f func(m *dns.Msg, reply func([]byte))) *udpServer {
	t.Helper()
	at, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	s := &udpServer{addr: conn.LocalAddr().String(), conn: conn}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 65535)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			s.count.Add(1)
			s.ports.Store(from.Port(), true)
			m := new(dns.Msg)
			if m.Unpack(buf[:n]) != nil {
				continue
			}
			f(m, func(b []byte) { _, _ = conn.WriteToUDPAddrPort(b, from) })
		}
	})
	t.Cleanup(func() { conn.Close(); wg.Wait() })
	return s
}

// answering is a UDP server with one address for every name.
func answering(t testing.TB, address string) *udpServer {
	return newUDP(t, "127.0.0.1:0", func(m *dns.Msg, reply func([]byte)) { reply(pack(echo(m, address))) })
}

func silent(t testing.TB) *udpServer {
	return newUDP(t, "127.0.0.1:0", func(*dns.Msg, func([]byte)) {})
}

func pack(m *dns.Msg) []byte {
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

// tcpServer hands every connection to f, which may return at any time: the connection is closed then.
type tcpServer struct {
	addr  string
	conns atomic.Int64
}

func newTCPServer(t testing.TB, ln net.Listener, f func(c *dns.Conn)) *tcpServer {
	s := &tcpServer{addr: ln.Addr().String()}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.conns.Add(1)
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				f(&dns.Conn{Conn: c})
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return s
}

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// oneByOne answers every question on a connection, in order.
func oneByOne(address string) func(c *dns.Conn) {
	return func(c *dns.Conn) {
		for {
			m, err := c.ReadMsg()
			if err != nil || c.WriteMsg(echo(m, address)) != nil {
				return
			}
		}
	}
}

// refusedAddr is an address on which nothing listens.
func refusedAddr(t testing.TB) string {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().String()
}

// count reads a counter or a histogram's count.
func (b *bench) count(name string, labels ...string) uint64 {
	for _, f := range b.reg.Families() {
		if f.Name != name {
			continue
		}
		for _, s := range f.Series() {
			switch s := s.(type) {
			case *metrics.Counter:
				if sameLabels(s.Labels, labels) {
					return s.Value()
				}
			case *metrics.Histogram:
				if sameLabels(s.Labels, labels) {
					return s.Read().Count
				}
			}
		}
	}
	return 0
}

func sameLabels(have []metrics.Label, want []string) bool {
	if len(have)*2 != len(want) {
		return false
	}
	for i, l := range have {
		if l.Name != want[2*i] || l.Value != want[2*i+1] {
			return false
		}
	}
	return true
}
