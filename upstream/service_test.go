package upstream

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/loop"
)

// service is an address behind which two servers stand. A connection, and a client's socket, gets one of them and keeps it,
// as behind kube-proxy.
type service struct {
	addr  string
	first atomic.Int64 // so many connections and sockets get the first server by chance, before both get their share
	mood  [2]atomic.Int32
	asked [2]atomic.Int64
	paths atomic.Int64 // connections and sockets seen
	mu    sync.Mutex
	conns [2][]net.Conn // guarded by mu
}

// Moods of a server. One that is gone has its connections reset.
const (
	well int32 = iota
	mute
	gone
)

func newService(t *testing.T, via Via) *service {
	s := &service{}
	if via == TCP {
		s.addr = newTCPServer(t, listen(t, "127.0.0.1:0"), s.stream).addr
		return s
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s.addr = conn.LocalAddr().String()
	var wg sync.WaitGroup
	wg.Go(func() { s.datagrams(conn) })
	t.Cleanup(func() { conn.Close(); wg.Wait() })
	return s
}

// answer gives what server i says to a question; nil for nothing.
func (s *service) answer(i int, m *dns.Msg) *dns.Msg {
	s.asked[i].Add(1)
	if s.mood[i].Load() != well {
		return nil
	}
	return echo(m, fmt.Sprintf("192.0.2.%d", i+1))
}

// next gives the server of a new connection or socket.
func (s *service) next() int {
	n := s.paths.Add(1)
	if n <= s.first.Load() {
		return 0
	}
	return int(n % 2)
}

func (s *service) datagrams(conn *net.UDPConn) {
	server := map[uint16]int{}
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		i, known := server[from.Port()]
		if !known {
			i = s.next()
			server[from.Port()] = i
		}
		m := new(dns.Msg)
		if m.Unpack(buf[:n]) != nil {
			continue
		}
		if r := s.answer(i, m); r != nil {
			_, _ = conn.WriteToUDPAddrPort(pack(r), from) // a client that is gone wants none
		}
	}
}

func (s *service) stream(c *dns.Conn) {
	i := s.next()
	tcp := c.Conn.(*net.TCPConn)
	_ = tcp.SetLinger(0)
	s.mu.Lock()
	s.conns[i] = append(s.conns[i], tcp)
	s.mu.Unlock()
	for s.mood[i].Load() != gone {
		m, err := c.ReadMsg()
		if err != nil {
			return
		}
		if r := s.answer(i, m); r != nil && c.WriteMsg(r) != nil {
			return
		}
	}
}

// set changes a server's mood.
func (s *service) set(i int, mood int32) {
	s.mood[i].Store(mood)
	s.mu.Lock()
	defer s.mu.Unlock()
	if mood == gone {
		for _, c := range s.conns[i] {
			c.Close()
		}
		s.conns[i] = nil
	}
}

// load asks n questions, one each few milliseconds whatever becomes of them, and gives the results.
func (b *bench) load(g *Group, prefix string, n int, via Via) []result {
	var waits []<-chan result
	for i := range n {
		waits = append(waits, b.start(g, 0, question(fmt.Sprintf("%s%d.example.org.", prefix, i)), Options{Via: via}))
		time.Sleep(3 * time.Millisecond)
	}
	var all []result
	for _, w := range waits {
		all = append(all, b.wait(w))
	}
	return all
}

// wantAll checks that every question was answered, none later than limit.
func wantAll(t *testing.T, what string, all []result, limit time.Duration) {
	t.Helper()
	var longest time.Duration
	for i, r := range all {
		if longest = max(longest, r.took); r.err != nil {
			t.Errorf("%s: question %d: %v after %v", what, i, r.err, r.took)
		}
	}
	if longest > limit {
		t.Errorf("%s: an answer took %v, want at most %v", what, longest, limit)
	}
	t.Logf("%s: longest %v", what, longest)
}

func asService(c *Config) { c.Service, c.Total = true, 4*time.Second }

// Both servers get their share of questions, however few there are at a time.
func TestServiceIsSpread(t *testing.T) {
	for _, via := range []Via{UDP, TCP} {
		b := newBench(t, 1)
		s := newService(t, via)
		g := b.group(asService, s.addr)
		for i := range 120 {
			if r := b.ask(g, fmt.Sprintf("n%d.example.org.", i), via); r.err != nil {
				t.Fatal(r.err)
			}
		}
		one, other := s.asked[0].Load(), s.asked[1].Load()
		if min(one, other) < 25 {
			t.Errorf("via %d: %d questions to one server, %d to the other", via, one, other)
		}
		if n := s.paths.Load(); via == TCP && (n < spreadStreams || n > spreadStreams+2) {
			t.Errorf("%d connections, want %d", n, spreadStreams)
		}
	}
}

// As long as one server is well every question is answered soon, also those that meet the other one.
func TestServiceWithOneServerAway(t *testing.T) {
	for name, c := range map[string]struct {
		via  Via
		mood int32
	}{"silent, UDP": {UDP, mute}, "silent, TCP": {TCP, mute}, "gone, TCP": {TCP, gone}} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 1)
			s := newService(t, c.via)
			g := b.group(func(c *Config) { asService(c); c.MaxAge = time.Second }, s.addr)
			wantAll(t, "both well", b.load(g, "before", 100, c.via), time.Second)
			s.set(0, c.mood)
			wantAll(t, "one away", b.load(g, "during", 400, c.via), time.Second)
			again := b.count("godwit_upstream_hedges_total", "proxy_name", "test")
			if again > 100 {
				t.Errorf("%d second questions for 400", again)
			}
			t.Logf("%d second questions, %d paths", again, s.paths.Load())
			s.set(0, well)
			if c.via == UDP {
				return // sockets live for ten seconds
			}
			time.Sleep(1500 * time.Millisecond) // connections are older than they may be
			before := s.asked[0].Load()
			wantAll(t, "both well again", b.load(g, "after", 200, c.via), time.Second)
			if n := s.asked[0].Load() - before; n < 40 {
				t.Errorf("the server that is back got %d of 200 questions", n)
			}
		})
	}
}

// Chance may lead to the server that has gone many times in a row, and nothing tells of a better way as long as no
// connection is up: the question is asked on, since a refusal takes no time.
func TestServiceByBadLuck(t *testing.T) {
	b := newBench(t, 1)
	s := newService(t, TCP)
	s.first.Store(10) // of which the health check has one
	s.set(0, gone)
	g := b.group(asService, s.addr)
	wantAll(t, "the first question", b.load(g, "n", 1, TCP), time.Second)
	if n := s.paths.Load(); n <= s.first.Load() {
		t.Errorf("%d connections: luck was not that bad", n)
	}
}

// Where nobody answers a question ends before a client gives up, and is not asked without end.
func TestServiceThatIsSilent(t *testing.T) {
	for _, via := range []Via{UDP, TCP} {
		b := newBench(t, 1)
		s := newService(t, via)
		g := b.group(func(c *Config) { asService(c); c.MaxFails = 0 }, s.addr)
		s.set(0, mute)
		s.set(1, mute)
		all := b.load(g, "n", 100, via)
		for _, r := range all {
			if r.err == nil || r.took > 4500*time.Millisecond {
				t.Fatalf("via %d: error %v after %v", via, r.err, r.took)
			}
		}
		if n := s.asked[0].Load() + s.asked[1].Load(); n > 500 {
			t.Errorf("via %d: 100 questions were asked %d times", via, n)
		}
	}
}

// A name that takes long is not taken for a dead server: the first answer counts, and the others' way stays open.
func TestServiceWithASlowName(t *testing.T) {
	b := newBench(t, 1)
	s := newTCPServer(t, listen(t, "127.0.0.1:0"), func(c *dns.Conn) {
		for {
			m, err := c.ReadMsg()
			if err != nil {
				return
			}
			if m.Question[0].Name == "slow.example.org." {
				time.Sleep(700 * time.Millisecond)
			}
			if c.WriteMsg(echo(m, "192.0.2.1")) != nil {
				return
			}
		}
	})
	g := b.group(asService, s.addr)
	wantAll(t, "quick names", b.load(g, "before", 100, TCP), time.Second)
	slow := b.start(g, 0, question("slow.example.org."), Options{Via: TCP})
	wantAll(t, "beside it", b.load(g, "during", 100, TCP), 300*time.Millisecond)
	r := b.wait(slow)
	mustAnswer(t, r, "192.0.2.1")
	if r.took > 900*time.Millisecond {
		t.Errorf("took %v", r.took)
	}
}

// A server whose machine has vanished answers no SYN: the question goes to another meanwhile.
func TestServiceThatDoesNotConnect(t *testing.T) {
	b := newBench(t, 1)
	ln := fullListener(t)
	g := b.group(func(c *Config) { asService(c); c.MaxFails = 0 }, ln)
	r := b.ask(g, "a.example.org.", TCP)
	if r.err == nil || r.took > 4500*time.Millisecond {
		t.Fatalf("error %v after %v", r.err, r.took)
	}
	if n := b.count("coredns_proxy_conn_cache_misses_total", "proxy_name", "test", "to", ln, "proto", "tcp"); n < 4 {
		t.Errorf("%d connections tried in four seconds", n)
	}
}

// fullListener is an address whose queue of connections is full, so that SYNs go unanswered.
func fullListener(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	at := loop.Local(fd).String()
	for range 8 {
		c, err := net.DialTimeout("tcp", at, 200*time.Millisecond)
		if err != nil {
			return at
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the queue of connections does not fill")
	return ""
}
