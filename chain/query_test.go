package chain

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

func TestLimit(t *testing.T) {
	for _, c := range []struct {
		proto Proto
		size  uint16
		want  int
	}{{UDP, 0, 512}, {UDP, 100, 512}, {UDP, 1232, 1232}, {UDP, 65535, 65507}, {TCP, 0, 65535}, {TLS, 512, 65535}} {
		q := &Query{Proto: c.proto}
		q.EDNS.Size = c.size
		if got := q.Limit(); got != c.want {
			t.Errorf("%v with %d: %d, want %d", c.proto, c.size, got, c.want)
		}
	}
}

func TestProtoNamesAreTheMetrics(t *testing.T) {
	for p, want := range map[Proto]string{UDP: "udp", TCP: "tcp", TLS: "tcp", HTTPS: "tcp", HTTPS3: "udp", QUIC: "udp", GRPC: "tcp"} {
		if p.String() != want {
			t.Errorf("%d is %q", p, p)
		}
	}
}

func TestEditAndRestoreQuestion(t *testing.T) {
	b := newBench(t)
	q := b.query("asked.")
	q.SetName(wire.MustName("inside."))
	answer(q)
	q.Reply.AppendTXT(wire.Answer, wire.MustName("inside."), wire.ClassIN, 9, "x")
	drop := func(_ wire.Section, r *wire.Record) wire.Action { r.TTL = 4; return wire.Keep }
	if err := q.Edit(drop); err != nil {
		t.Fatal(err)
	}
	if err := q.RestoreQuestion(nil); err != nil {
		t.Fatal(err)
	}
	m, err := q.ReplyMessage()
	if err != nil || m.Question[0].Name != "asked." || m.Answer[0].Header().Ttl != 4 || m.Answer[0].Header().Name != "inside." {
		t.Errorf("%v %v", m, err)
	}
	b.Put(q)
	r := q.Report(Failed, time.Second)
	if r.Response != 0 || r.Stream {
		t.Errorf("%+v", r)
	}
}

func TestMessages(t *testing.T) {
	b := newBench(t)
	q := b.query("asked.")
	q.ID = 99
	m, err := q.Message()
	if err != nil || m.Id != 99 || m.Question[0].Name != "asked." || m.Response {
		t.Fatalf("%v %v", m, err)
	}
	if err := q.SetReplyMessage(new(dns.Msg).SetRcode(m, dns.RcodeNameError)); err != nil || q.Reply.Rcode != wire.NXDomain {
		t.Errorf("%v %v", q.Reply.Rcode, err)
	}
	if err := q.SetReplyMessage(new(dns.Msg).SetQuestion("other.", dns.TypeA)); err == nil {
		t.Error("a reply to another question was taken")
	}
}

func TestBlocking(t *testing.T) {
	boom := errors.New("boom")
	release := make(chan struct{})
	h := Blocking(2, func(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
		switch m.Question[0].Name {
		case "next.":
			return nil, nil
		case "boom.":
			return nil, boom
		case "panic.":
			panic("x")
		case "exit.":
			runtime.Goexit()
		case "wait.":
			select {
			case <-release:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return new(dns.Msg).SetReply(m), nil
	})
	b := newBench(t, h, serve(func(q *Query) Outcome { return q.Fail(wire.Refused, nil) }))
	for i, name := range []string{"answer.", "next.", "boom.", "panic.", "exit."} {
		b.ask(name)
		b.until(func() bool { return len(b.ends) == i+1 })
	}
	b.ended(Answered, Failed, Failed, Failed, Failed)
	if b.rcodes[1] != wire.Refused || b.errs[2] != boom || b.errs[3] != ErrPanic || b.errs[4] != errNoReturn {
		t.Errorf("%v %v", b.rcodes, b.errs)
	}
	b.ends, b.errs = nil, nil
	for range 5 { // two at work, two waiting, one too many
		b.ask("wait.")
	}
	b.until(func() bool { return len(b.ends) == 1 })
	if b.ends[0] != Failed || b.errs[0] != errPoolFull || b.InFlight() != 4 {
		t.Fatalf("%v %v, %d in flight", b.ends, b.errs, b.InFlight())
	}
	close(release)
	b.until(func() bool { return len(b.ends) == 5 })
	b.ended(Failed, Answered, Answered, Answered, Answered)
}

func TestBlockingEndsWithItsConfiguration(t *testing.T) {
	s := &Setup{Spec: &Spec{Name: "x"}, Block: &Block{Config: &Config{}}, builder: &Builder{}}
	s.Handler(Blocking(1, func(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	b := newBench(t)
	b.chain = s.builder.Chain()
	b.ask("a.")
	b.ask("a.")
	for _, stop := range s.Block.Config.Stops {
		stop(true) // and goleak sees that nothing is left
	}
	b.ask("a.")
	b.until(func() bool { return len(b.ends) == 3 })
	b.ended(Failed, Failed, Failed)
}

func TestRunOn(t *testing.T) {
	l, err := loop.New(0, loop.System())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := NewWorker(l, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := w.RunOn(ctx, func(*Worker) {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v although the loop does not turn", err)
	}
	turning, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { l.Run(turning); close(ended) }()
	ran := false
	if err := w.RunOn(context.Background(), func(got *Worker) { ran = got == w }); err != nil || !ran {
		t.Errorf("%v %v", err, ran)
	}
	stop()
	<-ended
}

func testEnv(b *bench) *Env {
	return &Env{Loops: 1, Metrics: metrics.New(1), Clock: func() time.Duration { return b.now }, Loop: func(int) *Worker { return b.Worker }}
}

func TestTicks(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(context.Background())
	c := testEnv(b).Ticks(ctx, time.Second)
	got := 0
	for range 50 {
		b.Loop.Turn(false)
		b.now += 100 * time.Millisecond
		b.Loop.Turn(false)
		select {
		case <-c:
			got++
		default:
		}
	}
	cancel()
	if got < 4 || got > 5 {
		t.Errorf("%d ticks in five seconds", got)
	}
	time.Sleep(10 * time.Millisecond)
	b.Loop.Turn(false)
	b.now += time.Minute
	b.Loop.Turn(false)
	select {
	case <-c:
		t.Error("a tick after the end")
	default:
	}
}

func build(t *testing.T, specs []Spec, text string) (*Block, error) {
	t.Helper()
	b := newBench(t)
	file, err := corefile.Parse(corefile.OS(), "Corefile", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	block := &Block{Config: &Config{}}
	return block, Build(testEnv(b), specs, block, file.Blocks[0].Lines)
}

func TestBuild(t *testing.T) {
	order := ""
	spec := func(name string, f func(s *Setup) error) Spec {
		return Spec{Name: name, New: func(s *Setup) error {
			order += name
			s.Handler(serve(answer))
			return f(s)
		}}
	}
	specs := []Spec{
		spec("early", func(s *Setup) error {
			s.Ready(func() bool { return true })
			s.Provide("early/x", func(*Query) string { return "value" })
			s.AnyClass()
			if s.Shared("k", func() any { return 1 }) != s.Shared("k", func() any { return 2 }) {
				t.Error("shared twice")
			}
			return nil
		}),
		spec("late", func(s *Setup) error {
			if len(s.Lines) > 1 {
				return errors.New("once is enough")
			}
			return nil
		}),
	}
	block, err := build(t, specs, ".:53 {\n late\n early\n}\n")
	if err != nil || order != "earlylate" || block.Chain().Empty() || !block.AnyClass() || len(block.Ready()) != 1 || block.Ready()[0].Name != "early" {
		t.Fatalf("%v %q %+v", err, order, block)
	}
	if block.Metadata("early/x") != nil || block.Provided("early/x") == nil {
		t.Error("metadata without the metadata directive")
	}
	block.HasMetadata = true
	if f := block.Metadata("early/x"); f == nil || f(nil) != "value" || block.Metadata("other") != nil {
		t.Error("no metadata")
	}
	for text, want := range map[string]string{
		".:53 {\n late\n late\n}\n":  "Corefile:2:2: late: once is enough",
		".:53 {\n early\n laet\n}\n": `Corefile:3:2: unknown directive "laet"; did you mean late?`,
	} {
		if _, err := build(t, specs, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestNames(t *testing.T) {
	names, err := Names([]string{"Example.ORG.", "."})
	if err != nil || len(names) != 2 || names[0].String() != "example.org." {
		t.Errorf("%v %v", names, err)
	}
	if _, err := Names([]string{"a..b"}); err == nil {
		t.Error("a..b is no name")
	}
}

func TestAWalkAllocatesNothing(t *testing.T) {
	b := newBench(t)
	slot := NewSlot[int](&Setup{Block: &Block{Config: &Config{}}})
	var builder Builder
	builder.Add("top", &full{reply: func(q *Query, out Outcome) Outcome { *slot.Of(q)++; return out }}, slot)
	builder.Add("end", serve(answer))
	b.chain = builder.Chain()
	var s Sink = silent{}
	var r Router = b
	client := netip.MustParseAddrPort("192.0.2.1:1")
	name := wire.MustName("a.example.")
	run := func() {
		q := b.Get()
		q.SetQuestion(name, wire.TypeA)
		q.Client, q.Proto = client, UDP
		b.Start(q, r, s)
	}
	run()
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

type silent struct{}

func (silent) Finish(*Query, Outcome) {}
