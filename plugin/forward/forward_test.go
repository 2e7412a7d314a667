package forward

import (
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/run"
	"github.com/godwit-dns/godwit/wire"
)

// harness is a loop that the test turns, with one block.
type harness struct {
	worker *chain.Worker
	chain  *chain.Chain
	block  *chain.Block
	packet []byte
	// what became of the last query
	done  bool
	out   chain.Outcome
	rcode wire.Rcode
	err   error
	meta  string

	upstream func(q *chain.Query) string // reads the metadata
}

func (h *harness) Route(*chain.Query) *chain.Chain { return h.chain }
func (h *harness) Server() string                  { return "dns://:53" }

func (h *harness) Finish(q *chain.Query, out chain.Outcome) {
	h.done, h.out, h.rcode, h.err = true, out, q.ResponseCode(out), q.Err
	h.meta = h.upstream(q)
}

func newHarness(t *testing.T, text string) *harness {
	t.Helper()
	clock := loop.System()
	l, err := loop.New(0, clock)
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{worker: chain.NewWorker(l, 1)}
	env := &chain.Env{Log: slog.New(slog.DiscardHandler), Metrics: metrics.New(1), Loops: 1, Clock: clock, Wall: time.Now,
		Files: corefile.OS(), Env: func(string) (string, bool) { return "", false }, Loop: func(int) *chain.Worker { return h.worker }}
	metadata := chain.Spec{Name: "metadata", New: func(s *chain.Setup) error { s.Block.HasMetadata = true; return nil }}
	built, err := run.Build(env, []chain.Spec{metadata, Spec}, "53", "Corefile", []byte(".:53 {\nmetadata\n"+text+"\n}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	h.block = built.Config.Blocks[0]
	h.chain, h.upstream = h.block.Chain(), h.block.Metadata("forward/upstream")
	m := new(dns.Msg)
	m.SetQuestion("www.example.org.", dns.TypeA)
	if h.packet, err = m.Pack(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stopped := make(chan struct{})
		go func() {
			for _, f := range built.Config.Stops {
				f(true)
			}
			close(stopped)
		}()
		for running := true; running; {
			select {
			case <-stopped:
				running = false
			default:
				l.Turn(false)
			}
		}
		l.Close()
	})
	return h
}

// ask puts a query through the chain and turns the loop until its end.
func (h *harness) ask(t *testing.T, proto chain.Proto) {
	q := h.worker.Get()
	if q.Parse(h.packet) != wire.Accepted {
		t.Fatal("the packet was refused")
	}
	q.Proto, q.Start = proto, h.worker.Loop.Now()
	h.done = false
	h.worker.Start(q, h, h)
	h.worker.Loop.FlushNow()
	for !h.done {
		h.worker.Loop.Turn(true)
	}
}

// mirror is a UDP server that sends questions back as replies, without allocating.
func mirror(t *testing.T) string {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			buf[2] |= 0x80
			_, _ = conn.WriteToUDPAddrPort(buf[:n], from)
		}
	})
	t.Cleanup(func() { conn.Close(); wg.Wait() })
	return conn.LocalAddr().String()
}

func TestMetadataNamesTheUpstream(t *testing.T) {
	at := mirror(t)
	h := newHarness(t, "forward . "+at)
	h.ask(t, chain.UDP)
	if h.out != chain.Answered || h.meta != at {
		t.Errorf("%v, %v, metadata %q, want %q", h.out, h.err, h.meta, at)
	}
}

func TestRefusedUpstreamIsServfailWithItsError(t *testing.T) {
	at := refused(t)
	h := newHarness(t, "forward . "+at)
	h.ask(t, chain.TCP)
	if h.out != chain.Failed || h.rcode != wire.ServFail || h.err.Error() != "dial tcp "+at+": connect: connection refused" {
		t.Errorf("%v, %v, %v", h.out, h.rcode, h.err)
	}
	if h.meta != at {
		t.Errorf("metadata %q, want %q", h.meta, at)
	}
}

func TestSuspend(t *testing.T) {
	h := newHarness(t, "forward . "+mirror(t))
	var f chain.Forwarder
	h.chain.Handlers(func(_ string, handler chain.Handler) bool {
		f, _ = handler.(chain.Forwarder)
		return true
	})
	f.Probe(wire.MustName("1.2."), true)
	if h.ask(t, chain.UDP); h.out != chain.Failed || h.rcode != wire.ServFail || h.err != errLooping {
		t.Errorf("suspended: %v, %v, %v", h.out, h.rcode, h.err)
	}
	m := new(dns.Msg)
	m.SetQuestion("1.2.", dns.TypeHINFO)
	name := h.packet
	h.packet, _ = m.Pack()
	if h.ask(t, chain.UDP); h.out != chain.Answered {
		t.Errorf("the probe: %v, %v", h.out, h.err)
	}
	h.packet = name
	f.Probe(nil, false)
	if h.ask(t, chain.UDP); h.out != chain.Answered {
		t.Errorf("afterwards: %v, %v", h.out, h.err)
	}
}

func TestLimitIsGivenBack(t *testing.T) {
	h := newHarness(t, "forward . "+mirror(t)+" {\nmax_concurrent 1\n}")
	for range 5 {
		if h.ask(t, chain.UDP); h.out != chain.Answered {
			t.Fatalf("%v, %v", h.out, h.err)
		}
	}
}
