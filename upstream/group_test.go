package upstream

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/wire"
)

func TestPolicies(t *testing.T) {
	b := newBench(t, 1)
	var servers []*udpServer
	var addrs []string
	for range 3 {
		s := answering(t, "192.0.2.1")
		servers, addrs = append(servers, s), append(addrs, s.addr)
	}
	counts := func(p Policy) (c [3]int64) {
		g := b.group(func(cfg *Config) { cfg.Policy = p }, addrs...)
		for i := range servers {
			servers[i].count.Store(0)
		}
		for i := range 60 {
			mustAnswer(t, b.ask(g, fmt.Sprintf("n%d.example.org.", i), UDP), "192.0.2.1")
		}
		for i := range servers {
			c[i] = servers[i].count.Load()
		}
		return c
	}
	if c := counts(Sequential); c != [3]int64{60, 0, 0} {
		t.Errorf("sequential: %v", c)
	}
	if c := counts(RoundRobin); c != [3]int64{20, 20, 20} {
		t.Errorf("round robin: %v", c)
	}
	if c := counts(Random); c[0] < 5 || c[1] < 5 || c[2] < 5 {
		t.Errorf("random: %v", c)
	}
}

// flaky is a UDP server that can be told to be silent.
func flaky(t *testing.T, address string) (*udpServer, *atomic.Bool, *atomic.Int64) {
	quiet, checks := new(atomic.Bool), new(atomic.Int64)
	s := newUDP(t, "127.0.0.1:0", func(m *dns.Msg, reply func([]byte)) {
		if m.Question[0].Name == "." && m.Question[0].Qtype == dns.TypeNS {
			checks.Add(1)
		}
		if quiet.Load() {
			return
		}
		if m.Question[0].Qtype == dns.TypeNS {
			m.Response, m.Rcode = true, dns.RcodeRefused
			reply(pack(m))
			return
		}
		reply(pack(echo(m, address)))
	})
	return s, quiet, checks
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 1000 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

func TestHealthChecks(t *testing.T) {
	b := newBench(t, 1)
	s, quiet, checks := flaky(t, "192.0.2.1")
	good := answering(t, "192.0.2.2")
	g := b.group(func(c *Config) {
		c.Policy, c.ReadTimeout, c.MaxFails = Sequential, 50*time.Millisecond, 1
		c.Broken = b.reg.Counter("broken", "")
	}, s.addr, good.addr)
	mustAnswer(t, b.ask(g, "a.example.org.", UDP), "192.0.2.1")
	if checks.Load() != 0 {
		t.Error("checked before any failure")
	}
	quiet.Store(true)
	mustAnswer(t, b.ask(g, "b.example.org.", UDP), "192.0.2.2")
	eventually(t, "down after two failed checks", func() bool { return g.Servers()[0].Down(1) })
	before := s.count.Load() - checks.Load()
	mustAnswer(t, b.ask(g, "c.example.org.", UDP), "192.0.2.2")
	if n := s.count.Load() - checks.Load() - before; n != 0 {
		t.Errorf("a server that is down was asked %d times", n)
	}
	quiet.Store(false)
	eventually(t, "up again by a REFUSED reply", func() bool { return !g.Servers()[0].Down(1) })
	mustAnswer(t, b.ask(g, "d.example.org.", UDP), "192.0.2.1")
	n := checks.Load()
	time.Sleep(200 * time.Millisecond)
	if checks.Load() != n {
		t.Error("a healthy server is still checked")
	}
	if b.count("coredns_proxy_healthcheck_failures_total", "proxy_name", "test", "to", s.addr) < 2 {
		t.Error("failures were not counted")
	}
	if b.count("broken") != 0 {
		t.Error("counted as broken with a healthy server")
	}
}

func TestSuspectsAreAskedLast(t *testing.T) {
	b := newBench(t, 1)
	good, other := answering(t, "192.0.2.1"), answering(t, "192.0.2.2")
	s, quiet, checks := flaky(t, "192.0.2.3")
	quiet.Store(true)
	g := b.group(func(c *Config) { c.Policy, c.ReadTimeout = RoundRobin, 100*time.Millisecond }, good.addr, s.addr, other.addr)
	mustAnswer(t, b.ask(g, "a.example.org.", UDP), "192.0.2.1") // the silent one was first
	asked := s.count.Load() - checks.Load()
	for i := range 30 {
		if r := b.ask(g, fmt.Sprintf("n%d.example.org.", i), UDP); r.err != nil || r.server == s.addr {
			t.Fatalf("%v from %s", r.err, r.server)
		}
	}
	if n := s.count.Load() - checks.Load(); n != asked {
		t.Errorf("a server under check was asked %d times", n-asked)
	}
	quiet.Store(false)
	eventually(t, "healthy again", func() bool { return !g.Servers()[1].checking.Load() })
	asked = s.count.Load() - checks.Load()
	for i := range 30 {
		b.ask(g, fmt.Sprintf("m%d.example.org.", i), UDP)
	}
	if n := s.count.Load() - checks.Load() - asked; n != 10 {
		t.Errorf("asked %d times out of 30 when healthy", n)
	}
}

func TestAllDown(t *testing.T) {
	b := newBench(t, 1)
	s := answering(t, "192.0.2.1")
	broken := b.reg.Counter("broken", "")
	for _, fast := range []bool{false, true} {
		g := b.group(func(c *Config) { c.FailFast, c.Broken = fast, broken }, s.addr)
		g.Servers()[0].fails.Store(3)
		r := b.ask(g, "a.example.org.", UDP)
		if !fast {
			mustAnswer(t, r, "192.0.2.1")
		} else if r.err != ErrNoHealthy {
			t.Errorf("error %v", r.err)
		}
	}
	if broken.Value() != 2 {
		t.Errorf("counted %d times as broken, want 2", broken.Value())
	}
}

func TestFailover(t *testing.T) {
	b := newBench(t, 1)
	servfail := newUDP(t, "127.0.0.1:0", func(m *dns.Msg, reply func([]byte)) {
		reply(pack(new(dns.Msg).SetRcode(m, dns.RcodeServerFailure)))
	})
	good := answering(t, "192.0.2.1")
	g := b.group(func(c *Config) { c.Policy, c.Failover = Sequential, []wire.Rcode{wire.ServFail} }, servfail.addr, good.addr)
	mustAnswer(t, b.ask(g, "a.example.org.", UDP), "192.0.2.1")
	g = b.group(func(c *Config) { c.Failover = []wire.Rcode{wire.ServFail} }, servfail.addr)
	if r := b.ask(g, "a.example.org.", UDP); r.err != nil || r.m.Rcode != dns.RcodeServerFailure {
		t.Errorf("%v, %v: the last reply is given when all were tried", r.m, r.err)
	}
}

func TestMaxAttempts(t *testing.T) {
	b := newBench(t, 1)
	s := silent(t)
	for attempts, want := range map[int]int64{1: 1, 3: 3} {
		s.count.Store(0)
		g := b.group(func(c *Config) {
			c.MaxAttempts, c.ReadTimeout, c.MaxFails = attempts, 50*time.Millisecond, 0
		}, s.addr)
		b.ask(g, "a.example.org.", UDP)
		if n := s.count.Load(); n != want {
			t.Errorf("%d attempts allowed, %d made", attempts, n)
		}
	}
}

func TestSetTargets(t *testing.T) {
	b := newBench(t, 1)
	one, two := answering(t, "192.0.2.1"), answering(t, "192.0.2.2")
	g := b.group(nil, one.addr)
	first := g.Servers()[0]
	mustAnswer(t, b.ask(g, "a.example.org.", UDP), "192.0.2.1")
	g.SetTargets(nil)
	mustAnswer(t, b.ask(g, "a.example.org.", UDP), "192.0.2.1")
	g.SetTargets([]Target{{Addr: netip.MustParseAddrPort(two.addr), Text: two.addr}})
	mustAnswer(t, b.ask(g, "a.example.org.", UDP), "192.0.2.2")
	g.SetTargets([]Target{first.Target})
	if g.Servers()[0] != first {
		t.Error("a server that came back is another one")
	}
}

func TestCloseWaitsForQuestionsInFlight(t *testing.T) {
	b := newBench(t, 1)
	s := newUDP(t, "127.0.0.1:0", func(m *dns.Msg, reply func([]byte)) {
		time.Sleep(200 * time.Millisecond)
		reply(pack(echo(m, "192.0.2.1")))
	})
	g := b.group(nil, s.addr)
	w := b.start(g, 0, question("a.example.org."), Options{Via: UDP})
	time.Sleep(50 * time.Millisecond)
	g.Close(context.Background())
	mustAnswer(t, b.wait(w), "192.0.2.1")
	if r := b.ask(g, "b.example.org.", UDP); r.err != ErrClosed {
		t.Errorf("error %v after Close", r.err)
	}
}

func TestCloseInTime(t *testing.T) {
	b := newBench(t, 1)
	udp := silent(t)
	tcp := newTCPServer(t, listen(t, "127.0.0.1:0"), func(c *dns.Conn) { _, _ = c.ReadMsg(); _, _ = c.ReadMsg() })
	g := b.group(nil, udp.addr)
	h := b.group(nil, tcp.addr)
	w1 := b.start(g, 0, question("a.example.org."), Options{Via: UDP})
	w2 := b.start(h, 0, question("a.example.org."), Options{Via: TCP})
	time.Sleep(50 * time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	g.Close(ctx)
	h.Close(ctx)
	for _, w := range []<-chan result{w1, w2} {
		if r := b.wait(w); r.err != ErrClosed {
			t.Errorf("error %v", r.err)
		}
	}
}

func TestExchangeFromOutside(t *testing.T) {
	b := newBench(t, 1)
	g := b.group(nil, answering(t, "192.0.2.1").addr)
	msg, err := g.Exchange(context.Background(), b.loops[0], question("a.example.org."), Options{Via: UDP})
	if err != nil || new(dns.Msg).Unpack(msg) != nil {
		t.Errorf("%x, %v", msg, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	quiet := b.group(func(c *Config) { c.ReadTimeout = 100 * time.Millisecond }, silent(t).addr)
	if _, err := quiet.Exchange(ctx, b.loops[0], question("a.example.org."), Options{Via: UDP}); err != context.DeadlineExceeded {
		t.Errorf("error %v", err)
	}
}

func TestSourceAddress(t *testing.T) {
	b := newBench(t, 1)
	s := answering(t, "192.0.2.1")
	g := b.group(func(c *Config) { c.Source = netip.MustParseAddr("127.0.0.9") }, s.addr)
	w := &localWaiter{c: make(chan netip.AddrPort, 1)}
	b.loops[0].Post(loop.TaskFunc(func(l *loop.Loop) { g.Ask(l, question("a.example.org."), Options{Via: UDP}, w) }))
	if got := <-w.c; got.Addr() != netip.MustParseAddr("127.0.0.9") {
		t.Errorf("asked from %v", got)
	}
}

type localWaiter struct{ c chan netip.AddrPort }

func (w *localWaiter) Done(a *Answer) { w.c <- a.Local }

func TestQuantileFollowsTheTail(t *testing.T) {
	q := quantile{at: firstPatience}
	for range 1000 {
		q.add(time.Millisecond)
	}
	if q.at != minPatience {
		t.Errorf("after fast replies %v, want the least", q.at)
	}
	for i := range 4000 {
		d := 30 * time.Millisecond
		if i%10 == 0 {
			d = 100 * time.Millisecond
		}
		q.add(d)
	}
	if q.at < 80*time.Millisecond || q.at > 110*time.Millisecond {
		t.Errorf("one in ten takes 100 ms: patience %v", q.at)
	}
}
