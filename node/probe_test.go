package node

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/internal/freeport"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/server"
)

// self answers for a process's own name, as server does.
type self struct {
	id       atomic.Pointer[string]
	udp, tcp atomic.Bool // answered
	asked    atomic.Int64
	port     uint16
}

func (s *self) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	tcp := w.RemoteAddr().Network() == "tcp"
	if !tcp {
		s.asked.Add(1)
	}
	if tcp && !s.tcp.Load() || !tcp && !s.udp.Load() {
		if tcp {
			w.Close()
		}
		return
	}
	m := new(dns.Msg).SetReply(q)
	if q.Question[0] != (dns.Question{Name: server.SelfName, Qtype: dns.TypeTXT, Qclass: dns.ClassCHAOS}) {
		m.Rcode = dns.RcodeRefused
	} else {
		m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: server.SelfName, Rrtype: dns.TypeTXT, Class: dns.ClassCHAOS}, Txt: []string{*s.id.Load()}}}
	}
	_ = w.WriteMsg(m)
}

// startSelf answers at 127.0.0.1, at a port of its own.
func startSelf(t *testing.T, id string) *self {
	t.Helper()
	s := &self{}
	s.id.Store(&id)
	s.udp.Store(true)
	s.tcp.Store(true)
	pc, ln, err := freeport.Listen()
	if err != nil {
		t.Fatal(err)
	}
	s.port = netip.MustParseAddrPort(pc.LocalAddr().String()).Port()
	var running sync.WaitGroup
	t.Cleanup(running.Wait) // the last of all
	for _, srv := range []*dns.Server{{PacketConn: pc, Handler: s}, {Listener: ln, Handler: s}} {
		ready := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(ready) }
		running.Go(func() { _ = srv.ActivateAndServe() })
		<-ready
		t.Cleanup(func() { _ = srv.Shutdown() })
	}
	return s
}

func quickPace() pace {
	return pace{udp: 10 * time.Millisecond, tcp: 30 * time.Millisecond, retry: 20 * time.Millisecond, patience: 200 * time.Millisecond,
		holdOff: 300 * time.Millisecond, fresh: 100 * time.Millisecond}
}

func startProber(t *testing.T, id string, s *self, log *logged) (*prober, *metrics.Registry) {
	t.Helper()
	r := metrics.New(1)
	p, err := newProber(id, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, s.port, log.logger(), r)
	if err != nil {
		t.Fatal(err)
	}
	p.pace = quickPace()
	t.Cleanup(p.close)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return p, r
}

// value reads a series of a registry.
func value(r *metrics.Registry, name string, labels ...string) float64 {
	for _, f := range r.Families() {
		if f.Name != name {
			continue
		}
		for _, s := range f.Series() {
			var l []metrics.Label
			var v float64
			switch s := s.(type) {
			case *metrics.Counter:
				l, v = s.Labels, float64(s.Value())
			case *metrics.GaugeFunc:
				l, v = s.Labels, s.Value()
			case *metrics.Gauge:
				l, v = s.Labels, s.Value()
			}
			var words []string
			for _, x := range l {
				words = append(words, x.Name+"="+x.Value)
			}
			if strings.Join(words, " ") == strings.Join(labels, " ") {
				return v
			}
		}
	}
	return -1
}

func within(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

func TestProberSeesItselfAlone(t *testing.T) {
	s := startSelf(t, "0000000a")
	var log logged
	p, r := startProber(t, "0000000a", s, &log)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.wait(ctx, true); err != nil {
		t.Fatal(err)
	}
	if v := value(r, "godwit_node_answering", "address=127.0.0.1"); v != 1 {
		t.Errorf("answering is %v", v)
	}
	if four, six := p.ports(); four == 0 || six != 0 {
		t.Errorf("ports %d %d", four, six)
	}
	other := "0000000b"
	s.id.Store(&other) // somebody else answers now
	within(t, 10*time.Second, "failures are counted", func() bool { return value(r, "godwit_node_probe_failures_total", "proto=udp") >= 3 })
	within(t, 10*time.Second, "not answering", func() bool { return value(r, "godwit_node_answering", "address=127.0.0.1") == 0 })
	short, enough := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer enough()
	if err := p.wait(short, false); err == nil || !strings.Contains(err.Error(), "at 0 of 1 addresses") {
		t.Error(err)
	}
	mine := "0000000a"
	s.id.Store(&mine)
	within(t, 10*time.Second, "again", func() bool { return strings.Contains(log.String(), "answers its own queries again") })
}

func TestProberCountsSilence(t *testing.T) {
	s := startSelf(t, "0000000a")
	s.udp.Store(false)
	var log logged
	_, r := startProber(t, "0000000a", s, &log)
	within(t, 10*time.Second, "silence is counted", func() bool { return value(r, "godwit_node_probe_failures_total", "proto=udp") >= 5 })
	if n := strings.Count(log.String(), "does not answer its own queries"); n != 1 {
		t.Errorf("said %d times:\n%s", n, &log)
	}
	if v := value(r, "godwit_node_probe_failures_total", "proto=tcp"); v != 0 {
		t.Errorf("TCP is tried where the agent does not answer: %v failures", v)
	}
}

// An agent without TCP must not be led to: its UDP queries, which the lease lives by, stay away, and come back to try.
func TestProberHoldsOffWithoutTCP(t *testing.T) {
	s := startSelf(t, "0000000a")
	s.tcp.Store(false)
	var log logged
	_, r := startProber(t, "0000000a", s, &log)
	within(t, 10*time.Second, "held off", func() bool { return strings.Contains(log.String(), "does not answer over TCP") })
	time.Sleep(20 * time.Millisecond) // what was on its way
	asked := s.asked.Load()
	time.Sleep(100 * time.Millisecond)
	if now := s.asked.Load(); now != asked {
		t.Errorf("%d queries while it is held off", now-asked)
	}
	if v := value(r, "godwit_node_probe_failures_total", "proto=tcp"); v < tcpMisses {
		t.Errorf("%v failures over TCP", v)
	}
	s.tcp.Store(true)
	within(t, 10*time.Second, "asked again", func() bool { return s.asked.Load() > asked+10 })
}

func TestSelfAnswers(t *testing.T) {
	good := func() *dns.Msg {
		q := new(dns.Msg)
		if err := q.Unpack(selfQuery(7)); err != nil {
			t.Fatal(err)
		}
		m := new(dns.Msg).SetReply(q)
		m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: server.SelfName, Rrtype: dns.TypeTXT, Class: dns.ClassCHAOS}, Txt: []string{"x"}}}
		return m
	}
	read := func(m *dns.Msg) bool {
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		for cut := range b {
			if _, ok := selfAnswer(b[:cut], 7); ok {
				t.Errorf("cut to %d octets of %d it is an answer", cut, len(b))
			}
		}
		who, ok := selfAnswer(b, 7)
		return ok && who == "x"
	}
	if !read(good()) {
		t.Error("not taken")
	}
	for what, spoil := range map[string]func(m *dns.Msg){
		"another ID":      func(m *dns.Msg) { m.Id = 8 },
		"a query":         func(m *dns.Msg) { m.Response = false },
		"an error":        func(m *dns.Msg) { m.Rcode = dns.RcodeRefused },
		"no answer":       func(m *dns.Msg) { m.Answer = nil },
		"another class":   func(m *dns.Msg) { m.Answer[0].Header().Class = dns.ClassINET },
		"several strings": func(m *dns.Msg) { m.Answer[0].(*dns.TXT).Txt = []string{"x", "y"} },
	} {
		m := good()
		spoil(m)
		if read(m) {
			t.Errorf("%s is taken", what)
		}
	}
}
