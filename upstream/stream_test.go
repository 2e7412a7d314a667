package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestTCPExchangeReusesTheConnection(t *testing.T) {
	b := newBench(t, 1)
	s := newTCPServer(t, listen(t, "127.0.0.1:0"), oneByOne("192.0.2.1"))
	g := b.group(nil, s.addr)
	for i := range 20 {
		r := b.ask(g, fmt.Sprintf("n%d.example.org.", i), TCP)
		mustAnswer(t, r, "192.0.2.1")
		if r.via != TCP {
			t.Fatal("not over TCP")
		}
	}
	if n := s.conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	if n := b.count("coredns_proxy_conn_cache_hits_total", "proxy_name", "test", "to", s.addr, "proto", "tcp"); n != 19 {
		t.Errorf("%d hits, want 19", n)
	}
}

func TestForceTCP(t *testing.T) {
	b := newBench(t, 1)
	s := newTCPServer(t, listen(t, "127.0.0.1:0"), oneByOne("192.0.2.1"))
	g := b.group(func(c *Config) { c.ForceTCP, c.PreferUDP = true, true }, s.addr)
	mustAnswer(t, b.ask(g, "a.example.org.", UDP), "192.0.2.1")
}

// A server that answers one question at a time must never make one wait for another while there are connections.
func TestOneInFlightUntilOutOfOrder(t *testing.T) {
	b := newBench(t, 1)
	var busy, most atomic.Int64
	s := newTCPServer(t, listen(t, "127.0.0.1:0"), func(c *dns.Conn) {
		for {
			m, err := c.ReadMsg()
			if err != nil {
				return
			}
			if n := busy.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(100 * time.Millisecond)
			busy.Add(-1)
			if c.WriteMsg(echo(m, "192.0.2.1")) != nil {
				return
			}
		}
	})
	g := b.group(func(c *Config) { c.Policy = Sequential }, s.addr)
	var waits []<-chan result
	for i := range 40 {
		waits = append(waits, b.start(g, 0, question(fmt.Sprintf("n%d.example.org.", i)), Options{Via: TCP}))
	}
	for _, w := range waits {
		mustAnswer(t, b.wait(w), "192.0.2.1")
	}
	if n := s.conns.Load(); n != maxStreams {
		t.Errorf("40 questions at once opened %d connections, want %d", n, maxStreams)
	}
}

func TestPipeliningOnceRepliesComeOutOfOrder(t *testing.T) {
	b := newBench(t, 1)
	s := newTCPServer(t, listen(t, "127.0.0.1:0"), func(c *dns.Conn) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		defer wg.Wait()
		for {
			m, err := c.ReadMsg()
			if err != nil {
				return
			}
			wg.Go(func() {
				if strings.HasPrefix(m.Question[0].Name, "slow") {
					time.Sleep(150 * time.Millisecond)
				}
				mu.Lock()
				defer mu.Unlock()
				_ = c.WriteMsg(echo(m, "192.0.2.1"))
			})
		}
	})
	g := b.group(func(c *Config) { c.Policy = Sequential }, s.addr)
	round := func(n int) int64 {
		before := s.conns.Load()
		var waits []<-chan result
		for i := range n {
			name := fmt.Sprintf("slow%d.example.org.", i)
			if i%2 == 1 {
				name = fmt.Sprintf("fast%d.example.org.", i)
			}
			waits = append(waits, b.start(g, 0, question(name), Options{Via: TCP}))
		}
		for _, w := range waits {
			mustAnswer(t, b.wait(w), "192.0.2.1")
		}
		return s.conns.Load() - before
	}
	if n := round(maxStreams * 2); n != maxStreams {
		t.Fatalf("%d connections, want all %d", n, maxStreams)
	}
	if n := round(maxStreams * maxPipelined); n != 0 {
		t.Errorf("%d more connections for %d questions, want none", n, maxStreams*maxPipelined)
	}
}

// A server that answers in order may be given several questions while it is quick; once it is not, nobody waits behind
// the slow one for long.
func TestQuickServersShareAConnection(t *testing.T) {
	b := newBench(t, 1)
	release := make(chan struct{})
	s := newTCPServer(t, listen(t, "127.0.0.1:0"), func(c *dns.Conn) {
		for {
			m, err := c.ReadMsg()
			if err != nil {
				return
			}
			if strings.HasPrefix(m.Question[0].Name, "slow") {
				<-release
			}
			if c.WriteMsg(echo(m, "192.0.2.1")) != nil {
				return
			}
		}
	})
	g := b.group(nil, s.addr)
	for quickOnes := 0; quickOnes < quickRun; {
		if r := b.ask(g, "a.example.org.", TCP); r.took < quick {
			quickOnes++
		} else { // the machine is busy
			quickOnes = 0
		}
	}
	for _, w := range b.together(g, maxQueued, Options{Via: TCP}) {
		mustAnswer(t, b.wait(w), "192.0.2.1")
	}
	if n := s.conns.Load(); n != 1 {
		t.Errorf("%d connections for %d questions at once, want 1", n, maxQueued)
	}
	slow := b.start(g, 0, question("slow.example.org."), Options{Via: TCP})
	for _, w := range b.together(g, maxQueued/2, Options{Via: TCP}) {
		mustAnswer(t, b.wait(w), "192.0.2.1")
	}
	if n := s.conns.Load(); n < 2 {
		t.Errorf("%d connections: nobody asked again over another one", n)
	}
	close(release)
	mustAnswer(t, b.wait(slow), "192.0.2.1")
}

func TestConnectionClosedInFlightMovesOnce(t *testing.T) {
	b := newBench(t, 1)
	var closes atomic.Int64
	s := newTCPServer(t, listen(t, "127.0.0.1:0"), func(c *dns.Conn) {
		for i := 0; ; i++ {
			m, err := c.ReadMsg()
			if err != nil {
				return
			}
			if i == 1 {
				closes.Add(1)
				return
			}
			_ = c.WriteMsg(echo(m, "192.0.2.1"))
		}
	})
	g := b.group(nil, s.addr)
	for i := range 6 { // every second question on a connection meets its end
		mustAnswer(t, b.ask(g, fmt.Sprintf("n%d.example.org.", i), TCP), "192.0.2.1")
	}
	if closes.Load() == 0 {
		t.Fatal("no connection was closed in flight")
	}
	if n := b.count("coredns_proxy_healthcheck_failures_total", "proxy_name", "test", "to", s.addr); n != 0 {
		t.Errorf("%d health checks failed: a closed connection is no failure of the server", n)
	}
	never := newTCPServer(t, listen(t, "127.0.0.1:0"), func(c *dns.Conn) { _, _ = c.ReadMsg() })
	g = b.group(nil, never.addr)
	if r := b.ask(g, "a.example.org.", TCP); r.err == nil || r.err.Error() != "EOF" {
		t.Errorf("error %v, want EOF", r.err)
	}
	if n := never.conns.Load(); n < 2 {
		t.Errorf("%d connections, want one for each of two attempts", n)
	}
}

func TestTCPErrors(t *testing.T) {
	b := newBench(t, 1)
	addr := refusedAddr(t)
	r := b.ask(b.group(nil, addr), "a.example.org.", TCP)
	if r.err == nil || r.err.Error() != "dial tcp "+addr+": connect: connection refused" {
		t.Errorf("error %v", r.err)
	}
	mute := newTCPServer(t, listen(t, "127.0.0.1:0"), func(c *dns.Conn) {
		for {
			if _, err := c.ReadMsg(); err != nil {
				return
			}
		}
	})
	g := b.group(func(c *Config) { c.ReadTimeout = 100 * time.Millisecond }, mute.addr)
	r = b.ask(g, "a.example.org.", TCP)
	if r.err == nil || !strings.HasPrefix(r.err.Error(), "read tcp 127.0.0.1:") ||
		!strings.HasSuffix(r.err.Error(), "->"+mute.addr+": i/o timeout") {
		t.Errorf("error %v", r.err)
	}
	other := newTCPServer(t, listen(t, "127.0.0.1:0"), func(c *dns.Conn) {
		m, err := c.ReadMsg()
		if err == nil {
			m.Question[0].Name = "other.example.org."
			_ = c.WriteMsg(echo(m, "192.0.2.1"))
		}
	})
	if r = b.ask(b.group(nil, other.addr), "a.example.org.", TCP); r.err != ErrMismatch {
		t.Errorf("error %v, want a mismatch", r.err)
	}
}

func TestIdleConnectionsExpire(t *testing.T) {
	b := newBench(t, 1)
	s := newTCPServer(t, listen(t, "127.0.0.1:0"), oneByOne("192.0.2.1"))
	g := b.group(func(c *Config) { c.Expire = 100 * time.Millisecond }, s.addr)
	b.ask(g, "a.example.org.", TCP)
	time.Sleep(200 * time.Millisecond)
	b.ask(g, "b.example.org.", TCP)
	if n := s.conns.Load(); n != 2 {
		t.Errorf("%d connections, want 2: the first had expired", n)
	}
	aged := newTCPServer(t, listen(t, "127.0.0.1:0"), oneByOne("192.0.2.1"))
	g = b.group(func(c *Config) { c.MaxAge = 100 * time.Millisecond }, aged.addr)
	var asked time.Time // before the question that opened the newest connection
	var opened time.Time
	for range 12 {
		had, begin := aged.conns.Load(), time.Now()
		b.ask(g, "a.example.org.", TCP)
		fresh := aged.conns.Load() - had
		switch {
		case had > 0 && time.Since(asked) < 75*time.Millisecond && fresh != 0:
			t.Errorf("a connection of at most %v was not used again", time.Since(asked))
		case had > 0 && begin.Sub(opened) > 110*time.Millisecond && fresh != 1:
			t.Errorf("a connection of at least %v was used, want at most 100 ms", begin.Sub(opened))
		}
		if fresh > 0 {
			asked, opened = begin, time.Now()
		}
		time.Sleep(40 * time.Millisecond)
	}
	if n := aged.conns.Load(); n < 3 {
		t.Errorf("%d connections in half a second, want each to live 75 to 100 ms", n)
	}
}

func TestMaxIdle(t *testing.T) {
	b := newBench(t, 1)
	var asked atomic.Int64 // nobody is answered before all six have asked, so each needs a connection of its own
	s := newTCPServer(t, listen(t, "127.0.0.1:0"), func(c *dns.Conn) {
		for {
			m, err := c.ReadMsg()
			if err != nil {
				return
			}
			for all := (asked.Add(1) + 5) / 6 * 6; asked.Load() < all; {
				time.Sleep(time.Millisecond)
			}
			_ = c.WriteMsg(echo(m, "192.0.2.1"))
		}
	})
	g := b.group(func(c *Config) { c.MaxIdle, c.ReadTimeout = 2, 30*time.Second }, s.addr)
	for range 2 {
		var waits []<-chan result
		for i := range 6 {
			waits = append(waits, b.start(g, 0, question(fmt.Sprintf("n%d.example.org.", i)), Options{Via: TCP}))
		}
		for _, w := range waits {
			mustAnswer(t, b.wait(w), "192.0.2.1")
		}
	}
	if n := s.conns.Load(); n != 10 {
		t.Errorf("%d connections, want 6 and then 4: two were kept", n)
	}
}

func TestLargeReplyOverTCP(t *testing.T) {
	b := newBench(t, 1)
	s := newTCPServer(t, listen(t, "127.0.0.1:0"), func(c *dns.Conn) {
		for {
			m, err := c.ReadMsg()
			if err != nil {
				return
			}
			r := new(dns.Msg)
			r.SetReply(m)
			for i := range 2000 {
				r.Answer = append(r.Answer, &dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: 1},
					A: net.IPv4(10, 0, byte(i>>8), byte(i))})
			}
			r.Compress = true
			_ = c.WriteMsg(r)
		}
	})
	g := b.group(nil, s.addr)
	for range 3 {
		if r := b.ask(g, "big.example.org.", TCP); r.err != nil || len(r.m.Answer) != 2000 {
			t.Fatalf("%v", r.err)
		}
	}
}

// A handshake that takes longer than one attempt is not begun again by the next.
func TestSlowHandshakeIsNotThrownAway(t *testing.T) {
	b := newBench(t, 1)
	cert, pool := authority(t, "dns.example.net")
	ln := listen(t, "127.0.0.1:0")
	s := newTCPServer(t, ln, func(c *dns.Conn) {
		time.Sleep(2500 * time.Millisecond)
		secure := tls.Server(c.Conn, &tls.Config{Certificates: []tls.Certificate{cert}})
		oneByOne("192.0.2.1")(&dns.Conn{Conn: secure})
	})
	g := b.groupOf(func(c *Config) { c.MaxFails = 0 }, Target{Addr: netip.MustParseAddrPort(s.addr), Text: s.addr,
		TLS: &tls.Config{RootCAs: pool, ServerName: "dns.example.net"}})
	r := b.ask(g, "a.example.org.", UDP)
	mustAnswer(t, r, "192.0.2.1")
	if n := s.conns.Load(); n != 1 || r.took > 3500*time.Millisecond {
		t.Errorf("%d connections, %v", n, r.took)
	}
}

// authority makes a certificate for a name, and the pool that trusts it.
func authority(t testing.TB, name string) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLS(t *testing.T) {
	b := newBench(t, 1)
	cert, pool := authority(t, "dns.example.net")
	var name atomic.Value
	var resumed atomic.Int64
	ln := tls.NewListener(listen(t, "127.0.0.1:0"), &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		name.Store(h.ServerName)
		return nil, nil
	}, Certificates: []tls.Certificate{cert}})
	s := newTCPServer(t, ln, func(c *dns.Conn) {
		for i := 0; ; i++ {
			m, err := c.ReadMsg()
			if err != nil || i == 5 {
				return
			}
			if c.Conn.(*tls.Conn).ConnectionState().DidResume && i == 0 {
				resumed.Add(1)
			}
			_ = c.WriteMsg(echo(m, "192.0.2.1"))
		}
	})
	target := Target{Addr: netip.MustParseAddrPort(s.addr), Text: s.addr, TLS: &tls.Config{RootCAs: pool,
		ServerName: "dns.example.net", ClientSessionCache: tls.NewLRUClientSessionCache(1)}}
	g := b.groupOf(nil, target)
	for i := range 12 {
		mustAnswer(t, b.ask(g, fmt.Sprintf("n%d.example.org.", i), UDP), "192.0.2.1")
	}
	if name.Load() != "dns.example.net" {
		t.Errorf("SNI %v", name.Load())
	}
	if n := s.conns.Load(); n != 3 || resumed.Load() != 2 {
		t.Errorf("%d connections, %d resumed; want 3 and 2", n, resumed.Load())
	}
	if n := b.count("coredns_proxy_conn_cache_misses_total", "proxy_name", "test", "to", s.addr, "proto", "tcp-tls"); n != 3 {
		t.Errorf("%d misses, want 3", n)
	}
	target.TLS = &tls.Config{RootCAs: pool, ServerName: "other.example.net"}
	r := b.ask(b.groupOf(nil, target), "a.example.org.", UDP)
	if r.err == nil || !strings.Contains(r.err.Error(), "x509: certificate is valid for dns.example.net, not other.example.net") {
		t.Errorf("error %v", r.err)
	}
	target.Addr = netip.MustParseAddrPort(refusedAddr(t))
	r = b.ask(b.groupOf(nil, target), "a.example.org.", UDP)
	if r.err == nil || r.err.Error() != "dial tcp "+target.Addr.String()+": connect: connection refused" {
		t.Errorf("error %v", r.err)
	}
}
