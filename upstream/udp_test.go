package upstream

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/loop"
)

func TestUDPExchange(t *testing.T) {
	b := newBench(t, 1)
	s := answering(t, "192.0.2.1")
	g := b.group(nil, s.addr)
	for i := range 50 {
		r := b.ask(g, fmt.Sprintf("n%d.example.org.", i), UDP)
		mustAnswer(t, r, "192.0.2.1")
		if r.server != s.addr || r.via != UDP {
			t.Fatalf("answered by %q via %d", r.server, r.via)
		}
	}
	ports := 0
	s.ports.Range(func(any, any) bool { ports++; return true })
	if ports < 8 || ports > minSockets {
		t.Errorf("50 questions left from %d ports, want about %d", ports, minSockets)
	}
	if n := b.count("coredns_proxy_request_duration_seconds", "proxy_name", "test", "to", s.addr, "rcode", "NOERROR"); n != 50 {
		t.Errorf("%d durations observed, want 50", n)
	}
	hits := b.count("coredns_proxy_conn_cache_hits_total", "proxy_name", "test", "to", s.addr, "proto", "udp")
	misses := b.count("coredns_proxy_conn_cache_misses_total", "proxy_name", "test", "to", s.addr, "proto", "udp")
	if misses != uint64(ports) || hits+misses < 50 {
		t.Errorf("%d hits and %d misses with %d ports", hits, misses, ports)
	}
}

func TestIPv6(t *testing.T) {
	b := newBench(t, 1)
	s := newUDP(t, "[::1]:0", func(m *dns.Msg, reply func([]byte)) { reply(pack(echo(m, "192.0.2.6"))) })
	mustAnswer(t, b.ask(b.group(nil, s.addr), "a.example.org.", UDP), "192.0.2.6")
	ln := newTCPServer(t, listen(t, "[::1]:0"), oneByOne("192.0.2.6"))
	mustAnswer(t, b.ask(b.group(nil, ln.addr), "a.example.org.", TCP), "192.0.2.6")
}

func TestSpellingGoesUpstreamAndOtherSpellingIsTaken(t *testing.T) {
	b := newBench(t, 1)
	var seen atomic.Value
	s := newUDP(t, "127.0.0.1:0", func(m *dns.Msg, reply func([]byte)) {
		seen.Store(m.Question[0].Name)
		m.Question[0].Name = strings.ToLower(m.Question[0].Name)
		reply(pack(echo(m, "192.0.2.1")))
	})
	g := b.group(nil, s.addr)
	mustAnswer(t, b.ask(g, "MiXed.Example.ORG.", UDP), "192.0.2.1")
	if got := seen.Load(); got != "MiXed.Example.ORG." {
		t.Errorf("the server was asked for %v", got)
	}
}

func TestWrongRepliesDoNotEndTheWait(t *testing.T) {
	b := newBench(t, 1)
	s := newUDP(t, "127.0.0.1:0", func(m *dns.Msg, reply func([]byte)) {
		bad := echo(m, "203.0.113.66")
		bad.Id++ // another ID
		reply(pack(bad))
		bad = echo(m, "203.0.113.66")
		bad.Question[0].Name = "evil.example.org."
		reply(pack(bad))
		bad = echo(m, "203.0.113.66")
		bad.Question[0].Qtype = dns.TypeAAAA
		reply(pack(bad))
		bad = echo(m, "203.0.113.66")
		bad.Question[0].Qclass = dns.ClassCHAOS
		reply(pack(bad))
		bad = echo(m, "203.0.113.66")
		bad.Response = false
		reply(pack(bad))
		reply([]byte{1})
		reply(pack(echo(m, "192.0.2.1")))
	})
	g := b.group(nil, s.addr)
	mustAnswer(t, b.ask(g, "good.example.org.", UDP), "192.0.2.1")
	if n := b.count("godwit_upstream_wrong_replies_total", "proxy_name", "test"); n != 6 {
		t.Errorf("%d wrong replies counted, want 6", n)
	}
}

func TestManyWrongRepliesMoveToTCP(t *testing.T) {
	b := newBench(t, 1)
	ln := listen(t, "127.0.0.1:0")
	newTCPServer(t, ln, oneByOne("192.0.2.2"))
	newUDP(t, ln.Addr().String(), func(m *dns.Msg, reply func([]byte)) {
		for i := range 9 {
			bad := echo(m, "203.0.113.66")
			bad.Id += uint16(i + 1)
			reply(pack(bad))
		}
	})
	g := b.group(nil, ln.Addr().String())
	r := b.ask(g, "attacked.example.org.", UDP)
	mustAnswer(t, r, "192.0.2.2")
	if r.via != TCP {
		t.Error("the reply did not come over TCP")
	}
}

func TestOnlyWrongQuestionIsMismatch(t *testing.T) {
	b := newBench(t, 1)
	s := newUDP(t, "127.0.0.1:0", func(m *dns.Msg, reply func([]byte)) {
		m.Question[0].Name = "other.example.org."
		reply(pack(echo(m, "192.0.2.1")))
	})
	g := b.group(func(c *Config) { c.ReadTimeout = 100 * time.Millisecond }, s.addr)
	if r := b.ask(g, "a.example.org.", UDP); r.err != ErrMismatch {
		t.Errorf("error %v, want a mismatch", r.err)
	}
	bare := newUDP(t, "127.0.0.1:0", func(m *dns.Msg, reply func([]byte)) {
		r := new(dns.Msg)
		r.Id, r.Response, r.Rcode = m.Id, true, dns.RcodeFormatError
		reply(pack(r))
	})
	g = b.group(nil, bare.addr)
	if r := b.ask(g, "a.example.org.", UDP); r.err != ErrMismatch || r.took > time.Second {
		t.Errorf("error %v after %v, want a mismatch at once", r.err, r.took)
	}
}

func TestTornDatagramIsTruncation(t *testing.T) {
	b := newBench(t, 1)
	s := newUDP(t, "127.0.0.1:0", func(m *dns.Msg, reply func([]byte)) {
		full := pack(echo(m, "192.0.2.1"))
		reply(full[:len(full)-3])
	})
	g := b.group(nil, s.addr)
	r := b.ask(g, "a.example.org.", UDP)
	if r.err != nil || !r.m.Truncated || len(r.m.Answer) != 0 {
		t.Errorf("got %v, %v; want an empty reply with TC", r.m, r.err)
	}
}

func TestCountsThatPromiseTooMuch(t *testing.T) {
	b := newBench(t, 1)
	s := newUDP(t, "127.0.0.1:0", func(m *dns.Msg, reply func([]byte)) {
		msg := pack(echo(m, "192.0.2.1"))
		msg[7], msg[9] = 9, 3
		reply(msg)
	})
	mustAnswer(t, b.ask(b.group(nil, s.addr), "a.example.org.", UDP), "192.0.2.1")
}

func TestStumpIsNoMismatch(t *testing.T) {
	b := newBench(t, 1)
	ln := listen(t, "127.0.0.1:0")
	newTCPServer(t, ln, func(c *dns.Conn) {
		m, err := c.ReadMsg()
		if err == nil {
			_, _ = c.Write(pack(m)[:7])
		}
	})
	newUDP(t, ln.Addr().String(), func(m *dns.Msg, reply func([]byte)) { reply(pack(m)[:7]) })
	g := b.group(func(c *Config) { c.ReadTimeout = 100 * time.Millisecond }, ln.Addr().String())
	for _, via := range []Via{UDP, TCP} {
		if r := b.ask(g, "a.example.org.", via); r.err == nil || r.err == ErrMismatch {
			t.Errorf("error %v", r.err)
		}
	}
}

func TestTruncationPassesOnUnlessUDPIsPreferred(t *testing.T) {
	b := newBench(t, 1)
	ln := listen(t, "127.0.0.1:0")
	newTCPServer(t, ln, oneByOne("192.0.2.2"))
	newUDP(t, ln.Addr().String(), func(m *dns.Msg, reply func([]byte)) {
		r := echo(m, "192.0.2.1")
		r.Truncated = true
		reply(pack(r))
	})
	r := b.ask(b.group(nil, ln.Addr().String()), "a.example.org.", UDP)
	mustAnswer(t, r, "192.0.2.1")
	if !r.m.Truncated {
		t.Error("TC was lost")
	}
	g := b.group(func(c *Config) { c.PreferUDP = true }, ln.Addr().String())
	for _, via := range []Via{UDP, TCP} {
		r = b.ask(g, "a.example.org.", via)
		mustAnswer(t, r, "192.0.2.2")
		if r.m.Truncated || r.via != TCP {
			t.Errorf("via %d: truncated %v, reply via %d", via, r.m.Truncated, r.via)
		}
	}
}

func TestRefusedAtOnce(t *testing.T) {
	b := newBench(t, 1)
	addr := refusedAddr(t)
	r := b.ask(b.group(nil, addr), "a.example.org.", UDP)
	if r.err == nil || !strings.Contains(r.err.Error(), "connection refused") || !strings.HasPrefix(r.err.Error(), "read udp 127.0.0.1:") {
		t.Errorf("error %v", r.err)
	}
	if r.took > time.Second {
		t.Errorf("took %v", r.took)
	}
	good := answering(t, "192.0.2.1")
	g := b.group(func(c *Config) { c.Policy = Sequential }, addr, good.addr)
	for range 20 {
		mustAnswer(t, b.ask(g, "a.example.org.", UDP), "192.0.2.1")
	}
}

// together asks n questions in one turn.
func (b *bench) together(g *Group, n int, o Options) []<-chan result {
	waits := make([]<-chan result, n)
	asked := make(chan bool)
	b.loops[0].Post(loop.TaskFunc(func(l *loop.Loop) {
		for i := range waits {
			w := &collector{time.Now(), make(chan result, 1)}
			waits[i] = w.c
			g.Ask(l, question(fmt.Sprintf("n%d.example.org.", i)), o, w)
		}
		close(asked)
	}))
	<-asked
	return waits
}

func TestQuestionsOfATurnShareASocket(t *testing.T) {
	b := newBench(t, 1)
	var mu sync.Mutex
	ids := map[uint16]bool{}
	s := newUDP(t, "127.0.0.1:0", func(m *dns.Msg, reply func([]byte)) {
		mu.Lock()
		ids[m.Id] = true
		mu.Unlock()
		r := echo(m, "192.0.2.1")
		if strings.HasPrefix(m.Question[0].Name, "n7.") { // larger than was asked for, and than a slot
			for range 500 {
				r.Answer = append(r.Answer, r.Answer[0])
			}
			r.Compress = true
		}
		reply(pack(r))
	})
	g := b.group(nil, s.addr)
	ports := func() (n int) {
		s.ports.Range(func(any, any) bool { n++; return true })
		return n
	}
	const many = 3*batch + 5
	for i, w := range b.together(g, many, Options{Via: UDP}) {
		r := b.wait(w)
		if i == 7 {
			if r.err != nil || !r.m.Truncated && len(r.m.Answer) != 501 { // whole where it was the only one awaited
				t.Errorf("got %d answers, %v; want a reply that is cut or whole", len(r.m.Answer), r.err)
			}
			continue
		}
		mustAnswer(t, r, "192.0.2.1")
	}
	if n := ports(); n != 1 {
		t.Errorf("%d ports for the questions of one turn, want 1", n)
	}
	mu.Lock()
	if len(ids) < many-3 { // two alike are possible after one has ended
		t.Errorf("%d IDs for %d questions", len(ids), many)
	}
	mu.Unlock()
	for range 40 {
		mustAnswer(t, b.ask(g, "a.example.org.", UDP), "192.0.2.1")
	}
	if n := ports(); n < minSockets/2 {
		t.Errorf("%d ports in 40 more turns: sockets must be drawn at random", n)
	}
}

func TestRefusalOfATurnsQuestions(t *testing.T) {
	b := newBench(t, 1)
	addr, good := refusedAddr(t), answering(t, "192.0.2.1")
	for _, w := range b.together(b.group(nil, addr), 2*batch, Options{Via: UDP}) {
		if r := b.wait(w); r.err == nil || !strings.Contains(r.err.Error(), "connection refused") {
			t.Errorf("got %v, %v", r.m, r.err)
		}
	}
	g := b.group(func(c *Config) { c.Policy = Sequential }, addr, good.addr)
	for _, w := range b.together(g, 2*batch, Options{Via: UDP}) {
		mustAnswer(t, b.wait(w), "192.0.2.1")
	}
}

func TestSilenceTimesOut(t *testing.T) {
	b := newBench(t, 1)
	s := silent(t)
	g := b.group(func(c *Config) { c.ReadTimeout = 100 * time.Millisecond }, s.addr)
	r := b.ask(g, "a.example.org.", UDP)
	if r.err == nil || !strings.HasPrefix(r.err.Error(), "read udp 127.0.0.1:") ||
		!strings.HasSuffix(r.err.Error(), "->"+s.addr+": i/o timeout") {
		t.Errorf("error %v", r.err)
	}
	if r.took < 200*time.Millisecond || r.took > 3900*time.Millisecond { // the default would be two of 2 s
		t.Errorf("two attempts of 100 ms took %v", r.took)
	}
	s = silent(t)
	g = b.group(func(c *Config) { c.MaxFails = 0 }, s.addr) // no health checks, which would be counted too
	before, hedged := s.count.Load(), b.count("godwit_upstream_hedges_total", "proxy_name", "test")
	if r = b.ask(g, "a.example.org.", UDP); r.took < 3900*time.Millisecond {
		t.Errorf("two attempts of 2 s took %v", r.took)
	}
	// Attempts are counted rather than a longest time, which a busy machine would exceed.
	again := b.count("godwit_upstream_hedges_total", "proxy_name", "test") - hedged
	if n := s.count.Load() - before - int64(again); n != 2 {
		t.Errorf("%d attempts besides %d second questions, want 2", n, again)
	}
}

func TestLostDatagramIsSentAgain(t *testing.T) {
	b := newBench(t, 1)
	var n atomic.Int64
	s := newUDP(t, "127.0.0.1:0", func(m *dns.Msg, reply func([]byte)) {
		if n.Add(1) > 1 {
			reply(pack(echo(m, "192.0.2.1")))
		}
	})
	r := b.ask(b.group(nil, s.addr), "a.example.org.", UDP)
	mustAnswer(t, r, "192.0.2.1")
	if r.took > time.Second {
		t.Errorf("took %v", r.took)
	}
}

func TestHedgeGoesToAnotherServerWithinBudget(t *testing.T) {
	b := newBench(t, 1)
	quiet, good := silent(t), answering(t, "192.0.2.1")
	g := b.group(func(c *Config) { c.Policy = RoundRobin; c.MaxFails = 0 }, quiet.addr, good.addr)
	slow := 0
	var waits []<-chan result
	for i := range 140 {
		waits = append(waits, b.start(g, 0, question(fmt.Sprintf("n%d.example.org.", i)), Options{Via: UDP}))
	}
	for _, w := range waits {
		r := b.wait(w)
		mustAnswer(t, r, "192.0.2.1")
		if r.took > 1500*time.Millisecond {
			slow++
		}
	}
	hedges := b.count("godwit_upstream_hedges_total", "proxy_name", "test")
	if hedges != 50 {
		t.Errorf("%d hedges, want the budget of 50", hedges)
	}
	if slow != 20 { // 70 went to the silent one first
		t.Errorf("%d questions waited for the read timeout, want 20", slow)
	}
}

func TestIdenticalQuestionsShareAcrossLoops(t *testing.T) {
	b := newBench(t, 2)
	release := make(chan struct{})
	s := newUDP(t, "127.0.0.1:0", func(m *dns.Msg, reply func([]byte)) {
		<-release
		reply(pack(echo(m, "192.0.2.1")))
	})
	g := b.group(nil, s.addr)
	var waits []<-chan result
	for i := range 100 {
		name := "same.example.org."
		if i%3 == 0 {
			name = "SAME.example.org."
		}
		waits = append(waits, b.start(g, i%2, question(name), Options{Via: UDP}))
	}
	other := question("same.example.org.")
	other.EDNS.Present, other.EDNS.DO, other.EDNS.Flags, other.EDNS.Size = true, true, 0x8000, 1232
	waits = append(waits, b.start(g, 0, other, Options{Via: UDP}))
	waits = append(waits, b.start(g, 0, question("same.example.org."), Options{Via: UDP, Alone: true}))
	time.Sleep(50 * time.Millisecond)
	close(release)
	for _, w := range waits {
		mustAnswer(t, b.wait(w), "192.0.2.1")
	}
	// A busy machine may take so long that questions are asked again.
	if n := s.count.Load() - int64(b.count("godwit_upstream_hedges_total", "proxy_name", "test")); n != 3 {
		t.Errorf("the server was asked %d times, want 3: one shared, one with DO, one alone", n)
	}
}

func TestWaitersAreCapped(t *testing.T) {
	b := newBench(t, 1)
	release := make(chan struct{})
	var once sync.Once
	s := newUDP(t, "127.0.0.1:0", func(m *dns.Msg, reply func([]byte)) {
		<-release
		reply(pack(echo(m, "192.0.2.1")))
	})
	t.Cleanup(func() { once.Do(func() { close(release) }) })
	g := b.group(nil, s.addr)
	var waits []<-chan result
	for range maxWaiters + 1 {
		waits = append(waits, b.start(g, 0, question("same.example.org."), Options{Via: UDP}))
	}
	time.Sleep(20 * time.Millisecond)
	once.Do(func() { close(release) })
	for _, w := range waits {
		mustAnswer(t, b.wait(w), "192.0.2.1")
	}
	if n := s.count.Load() - int64(b.count("godwit_upstream_hedges_total", "proxy_name", "test")); n != 2 {
		t.Errorf("the server was asked %d times, want 2", n)
	}
}

func TestExchangesAreCapped(t *testing.T) {
	b := newBench(t, 1)
	g := b.group(nil, silent(t).addr)
	w := &collector{time.Now(), make(chan result, 1)}
	b.loops[0].Post(loop.TaskFunc(func(l *loop.Loop) {
		g.member(l).flying = maxExchanges
		g.Ask(l, question("a.example.org."), Options{Via: UDP}, w)
		g.member(l).flying -= maxExchanges
	}))
	if r := b.wait(w.c); r.err != ErrTooMany {
		t.Errorf("error %v", r.err)
	}
}

func TestSocketsRollOver(t *testing.T) {
	b := newBench(t, 1)
	s := answering(t, "192.0.2.1")
	g := b.group(nil, s.addr)
	check := make(chan [2]int, 1)
	mustAnswer(t, b.ask(g, "a.example.org.", UDP), "192.0.2.1")
	b.loops[0].Post(loop.TaskFunc(func(l *loop.Loop) {
		u, e := &g.member(l).peers[0].udp, &exchange{}
		for _, s := range u.sockets {
			if s != nil {
				s.uses = socketUses
			}
		}
		before := *u
		for range 200 {
			if s, err := u.draw(e); err != nil || s.uses >= socketUses {
				t.Errorf("drew %v, %v", s, err)
			}
		}
		u.inFlight = perSocket*minSockets + 1
		_, _ = u.draw(e)
		check <- [2]int{len(before.sockets), len(u.sockets)}
		u.inFlight = 0
		u.tidy(true)
	}))
	if got := <-check; got != [2]int{minSockets, 2 * minSockets} {
		t.Errorf("pool sizes %v", got)
	}
}
