package loop

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// speed is how much faster than the machine's the loop's clock runs.
const speed = 50

// site is a server with a loop directive and a handler that forwards to wherever the test says.
type site struct {
	t     *testing.T
	env   *chain.Env
	conn  *net.UDPConn
	to    atomic.Pointer[string]
	fwd   *relay
	log   lockedBuffer
	fatal chan error
	wg    sync.WaitGroup
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// relay forwards over UDP, each query on a goroutine.
type relay struct {
	s     *site
	probe atomic.Pointer[wire.Name] // the only query to pass; nil for all
	asked atomic.Int64
}

func (r *relay) Forwards(wire.Name) bool { return true }

func (r *relay) Probe(p wire.Name, suspend bool) {
	if p == nil || !suspend {
		r.probe.Store(nil)
		return
	}
	r.probe.Store(&p)
}

func (r *relay) Serve(q *chain.Query) chain.Outcome {
	if p := r.probe.Load(); p != nil && !wire.Equal(*p, q.Name()) {
		return q.Fail(wire.ServFail, nil)
	}
	r.asked.Add(1)
	ticket, ok := q.Park()
	if !ok {
		return chain.Failed
	}
	query := q.AppendQuery(nil, q.ID, 0)
	r.s.wg.Go(func() { ticket.Post(chain.Event{Kind: chain.EventReply, Msg: exchange(*r.s.to.Load(), query)}) })
	return chain.Parked
}

func (r *relay) Resume(q *chain.Query, ev chain.Event) chain.Outcome {
	if ev.Msg == nil || q.Reply.Adopt(ev.Msg, &q.Request) != nil {
		return q.Fail(wire.ServFail, nil)
	}
	return chain.Answered
}

func exchange(to string, query []byte) []byte {
	conn, err := net.Dial("udp", to)
	if err != nil {
		return nil
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, _ = conn.Write(query)
	buf := make([]byte, 512)
	n, err := conn.Read(buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

type router struct{ c *chain.Chain }

func (r router) Route(*chain.Query) *chain.Chain { return r.c }
func (r router) Server() string                  { return "dns://:53" }

// back sends the reply to the client.
type back struct {
	conn *net.UDPConn
	to   netip.AddrPort
}

func (b back) Finish(q *chain.Query, out chain.Outcome) {
	if out == chain.Failed {
		q.Reply.Begin(&q.Request, q.Rcode, 0)
	}
	_, _ = b.conn.WriteToUDPAddrPort(q.Reply.Bytes(), b.to)
}

// newSite starts a server whose directive line is given; it forwards to itself, or to a server that answers.
func newSite(t *testing.T, line string, toItself bool) *site {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, conn: conn, fatal: make(chan error, 1)}
	self := conn.LocalAddr().String()
	s.to.Store(&self)
	if !toItself {
		good := s.answer()
		s.to.Store(&good)
	}
	s.fwd = &relay{s: s}
	began := time.Now()
	clock := func() time.Duration { return speed * time.Since(began) }
	l, err := loop.New(0, clock)
	if err != nil {
		t.Fatal(err)
	}
	worker := chain.NewWorker(l, 1)
	s.env = &chain.Env{Log: slog.New(slog.NewTextHandler(&s.log, nil)), Metrics: metrics.New(1), Loops: 1, Clock: clock,
		Fatal: func(err error) {
			select {
			case s.fatal <- err:
			default:
			}
		}, Loop: func(int) *chain.Worker { return worker }}
	relaySpec := chain.Spec{Name: "relay", New: func(su *chain.Setup) error { su.Handler(s.fwd); return nil }}
	block, err := buildBlock(s.env, conn.LocalAddr().(*net.UDPAddr), line+"\nrelay\n", Spec, relaySpec)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.wg.Go(func() { l.Run(ctx) })
	s.wg.Go(func() { // the loop sleeps by the machine's clock
		for ctx.Err() == nil {
			time.Sleep(2 * time.Millisecond)
			l.Wake()
		}
	})
	s.wg.Go(func() { s.read(worker, router{block.Chain()}) })
	s.run(block.Config.Tasks, func() {
		cancel()
		s.wg.Wait()
		l.Close()
	})
	return s
}

// run runs the directive's tasks until the test ends, and then stop.
func (s *site) run(tasks []func(ctx context.Context) error, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, f := range tasks {
		running.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				s.t.Errorf("task: %v", err)
			}
		})
	}
	s.t.Cleanup(func() {
		cancel()
		running.Wait()
		if s.looping() != 0 {
			s.t.Error("the metric is 1 after the end")
		}
		s.conn.Close()
		time.Sleep(20 * time.Millisecond)
		stop()
	})
}

// buildBlock sets a block up from the lines of its directives.
func buildBlock(env *chain.Env, at *net.UDPAddr, text string, specs ...chain.Spec) (*chain.Block, error) {
	b := &chain.Block{Keys: []corefile.Key{{Transport: "dns", Zone: ".", Port: at.AddrPort().String()[len("127.0.0.1:"):]}}, Config: &chain.Config{}}
	b.Bind = []chain.Bound{{Addr: "127.0.0.1"}}
	var lines []corefile.Line
	for text := range strings.Lines(text) {
		words := strings.Fields(text)
		l := corefile.Line{Name: corefile.Word{Text: words[0]}}
		for _, w := range words[1:] {
			l.Args = append(l.Args, corefile.Word{Text: w})
		}
		lines = append(lines, l)
	}
	if err := chain.Build(env, specs, b, lines); err != nil {
		return nil, err
	}
	for _, f := range b.Config.Built {
		if err := f(); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (s *site) read(w *chain.Worker, r router) {
	buf := make([]byte, 512)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		packet := bytes.Clone(buf[:n])
		w.Loop.Post(loop.TaskFunc(func(*loop.Loop) {
			q := w.Get()
			if q.Parse(packet) != wire.Accepted {
				w.Put(q)
				return
			}
			q.Client, q.Proto = from, chain.UDP
			w.Start(q, r, back{s.conn, from})
		}))
	}
}

func (s *site) looping() float64 {
	for _, f := range s.env.Metrics.Families() {
		if f.Name == "godwit_forwarding_loop" {
			return f.Series()[0].(*metrics.GaugeFunc).Value()
		}
	}
	return -1
}

// answer starts a server that answers NXDOMAIN and gives its address.
func (s *site) answer() string {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		s.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			buf[2], buf[3] = buf[2]|0x80, 3
			_, _ = conn.WriteToUDPAddrPort(buf[:n], from)
		}
	})
	s.t.Cleanup(func() { conn.Close(); wg.Wait() })
	return conn.LocalAddr().String()
}

func (s *site) eventually(what string, f func() bool) {
	s.t.Helper()
	for range 1000 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatalf("never: %s; log:\n%s", what, s.log.String())
}

// rcode asks for an ordinary name.
func (s *site) rcode() byte {
	var r wire.Request
	r.SetQuestion(wire.MustName("www.example.org."), wire.TypeA)
	reply := exchange(s.conn.LocalAddr().String(), r.AppendQuery(nil, 7, 0))
	if reply == nil {
		s.t.Fatal("no reply")
	}
	return reply[3] & 0xF
}

func TestLoopSuspendsForwardingAndRecovers(t *testing.T) {
	s := newSite(t, "loop", true)
	s.eventually("the loop is found", func() bool { return s.looping() == 1 })
	s.eventually("forwarding is suspended", func() bool { return s.fwd.probe.Load() != nil })
	if text := s.log.String(); !strings.Contains(text, `detected for zone \".\"`) || !strings.Contains(text, "Query: \\\"HINFO ") {
		t.Errorf("log %s", text)
	}
	asked := s.fwd.asked.Load()
	if s.rcode() != 2 || s.fwd.asked.Load() != asked {
		t.Error("a name was forwarded although forwarding is suspended")
	}
	s.eventually("a second log line a minute later", func() bool { return strings.Count(s.log.String(), "detected for zone") == 2 })
	good := s.answer()
	s.to.Store(&good)
	s.eventually("forwarding again", func() bool { return s.looping() == 0 && s.fwd.probe.Load() == nil })
	if s.rcode() != 3 {
		t.Error("names are not forwarded after the loop has gone")
	}
	self := s.conn.LocalAddr().String()
	s.to.Store(&self)
	s.eventually("the loop is found again", func() bool { return s.looping() == 1 })
	select {
	case err := <-s.fatal:
		t.Errorf("the process was to end: %v", err)
	default:
	}
}

func TestExitEndsTheProcess(t *testing.T) {
	s := newSite(t, "loop exit", true)
	select {
	case err := <-s.fatal:
		if !strings.Contains(err.Error(), `detected for zone "."`) {
			t.Errorf("error %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the process goes on")
	}
}

func TestNoLoop(t *testing.T) {
	s := newSite(t, "loop", false)
	s.eventually("the probe was forwarded", func() bool { return s.fwd.asked.Load() == 1 })
	time.Sleep(200 * time.Millisecond) // ten seconds of the loop's
	if s.looping() != 0 || s.rcode() != 3 {
		t.Error("an ordinary name is not forwarded")
	}
	if n := s.fwd.asked.Load(); n != 2 {
		t.Errorf("%d queries were forwarded, want one probe and one name", n)
	}
}

func TestSetup(t *testing.T) {
	env := &chain.Env{Metrics: metrics.New(1), Loops: 1}
	at := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 53}
	for text, want := range map[string]string{
		"loop\n":            "",
		"loop exit\n":       "",
		"loop\nloop\n":      "once in a block",
		"loop now\n":        "does not take now",
		"loop exit twice\n": "takes 0 to 1",
	} {
		_, err := buildBlock(env, at, text, Spec)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

func TestProbeName(t *testing.T) {
	a, err := probeName(wire.MustName("example.org."))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := probeName(wire.MustName("example.org."))
	if wire.Equal(a, b) || a.Labels() != 4 || !a.Under(wire.MustName("example.org.")) {
		t.Errorf("names %s and %s", a, b)
	}
	long := wire.MustName(strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("a", 40) + ".")
	if n, _ := probeName(long); len(n) > wire.MaxName || n.Labels() < 5 {
		t.Errorf("%d octets, %d labels", len(n), n.Labels())
	}
}
