// Package chaintest drives the handlers of a Corefile's blocks without sockets, on a loop with a clock of the test's own.
// It is for tests only.
package chaintest

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

// Options are what a Bench is built from beside its Corefile.
type Options struct {
	Specs []chain.Spec
	Files fs.FS // nil is the machine's
}

// Bench is a configuration at work.
type Bench struct {
	Env    *chain.Env
	Config *chain.Config
	Worker *chain.Worker
	Log    *Log
	Client netip.AddrPort // who asks when a query does not say

	t      testing.TB
	now    time.Duration
	routes map[string]*chain.Chain
	fitter wire.Fitter
}

// Log gathers log lines.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write adds a line.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String gives all lines.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Build makes a bench, or gives the error that the Corefile was refused with.
func Build(t testing.TB, text string, opt Options) (*Bench, error) {
	t.Helper()
	b := &Bench{t: t, Log: &Log{}, routes: map[string]*chain.Chain{}, Config: &chain.Config{},
		Client: netip.MustParseAddrPort("10.240.0.1:40212")}
	if opt.Files == nil {
		opt.Files = corefile.OS()
	}
	l, err := loop.New(0, func() time.Duration { return b.now })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	b.Worker = chain.NewWorker(l, 1)
	b.Worker.OnPanic = func(_ *chain.Query, v any, stack []byte) { t.Errorf("a handler panicked: %v\n%s", v, stack) }
	b.Env = &chain.Env{
		Log: slog.New(slog.NewTextHandler(b.Log, nil)), Metrics: metrics.New(1), Loops: 1,
		Clock: func() time.Duration { return b.now }, Wall: time.Now, Files: opt.Files,
		Env: func(string) (string, bool) { return "", false }, Reload: func() {}, Fatal: func(err error) { t.Error(err) },
		Loop:  func(int) *chain.Worker { return b.Worker },
		Print: func(_ int, line []byte) { _, _ = b.Log.Write(line) },
	}
	file, err := corefile.Parse(opt.Files, "Corefile", []byte(text), b.Env.Env)
	if err != nil {
		return nil, err
	}
	for _, src := range file.Blocks {
		if err := b.block(src, opt.Specs); err != nil {
			return nil, err
		}
	}
	for _, f := range b.Config.Built {
		if err := f(); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// New is Build for Corefiles that must be accepted.
func New(t testing.TB, text string, opt Options) *Bench {
	t.Helper()
	b, err := Build(t, text, opt)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *Bench) block(src corefile.Block, specs []chain.Spec) error {
	keys, err := corefile.Keys(src.Keys, "53")
	if err != nil {
		return err
	}
	block := &chain.Block{Keys: keys, Pos: src.Keys[0].Pos, Config: b.Config}
	for _, k := range keys {
		block.Zones = append(block.Zones, k.Zone)
		block.Names = append(block.Names, wire.MustName(k.Zone))
	}
	b.Config.Blocks = append(b.Config.Blocks, block)
	if err := chain.Build(b.Env, specs, block, src.Lines); err != nil {
		return err
	}
	for _, k := range keys {
		b.routes[string(wire.MustName(k.Zone))] = block.Chain().WithZone(k.Zone)
	}
	return nil
}

// Start runs the configuration's starts and tasks, and ends them when the test does. The loop turns on a goroutine of its
// own while tasks need it: call Advance to let time pass.
func (b *Bench) Start() {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	for _, f := range b.Config.Tasks {
		tasks.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				b.t.Error(err)
			}
		})
	}
	for _, f := range b.Config.Starts {
		if err := f(ctx); err != nil {
			b.t.Fatal(err)
		}
	}
	b.t.Cleanup(func() {
		cancel()
		tasks.Wait()
		for _, f := range b.Config.Stops {
			f(true)
		}
	})
}

// Advance lets d pass on the loop's clock in steps of at most a second, and then some real time for tasks to do their
// part.
func (b *Bench) Advance(d time.Duration) {
	for d > 0 {
		step := min(d, time.Second)
		b.Worker.Loop.Turn(false)
		b.now += step
		d -= step
		b.Worker.Loop.Turn(false)
	}
}

// Until turns the loop until ok, and fails the test after five seconds.
func (b *Bench) Until(what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); {
		if time.Now().After(end) {
			b.t.Fatalf("%s did not happen; log:\n%s", what, b.Log)
		}
		b.Worker.Loop.Turn(false)
		time.Sleep(time.Millisecond)
	}
}

// Query is a question and where it comes from.
type Query struct {
	Msg    *dns.Msg
	Client netip.AddrPort // the bench's when not valid
	Proto  chain.Proto    // UDP when zero
	Socket any            // a chain.Streamer, for transfers
	OnEnd  func(q *chain.Query, out chain.Outcome)
}

// Ask asks for a name and a type and gives the reply as the client sees it; nil when there is none.
func (b *Bench) Ask(name string, qtype uint16) *dns.Msg {
	b.t.Helper()
	return b.Do(Query{Msg: new(dns.Msg).SetQuestion(name, qtype)})
}

// Do puts a query through and gives the reply as the client sees it; nil when there is none.
func (b *Bench) Do(x Query) *dns.Msg {
	b.t.Helper()
	packet, err := x.Msg.Pack()
	if err != nil {
		b.t.Fatal(err)
	}
	q := b.Worker.Get()
	if v := q.Parse(packet); v != wire.Accepted {
		b.t.Fatalf("the query was not accepted: %d", v)
	}
	q.Client, q.Proto, q.Back.Socket = x.Client, x.Proto, x.Socket
	if !q.Client.IsValid() {
		q.Client = b.Client
	}
	q.Local = netip.MustParseAddrPort("127.0.0.1:53")
	if q.Proto == 0 {
		q.Proto = chain.UDP
	}
	end := &sink{b: b, onEnd: x.OnEnd}
	b.Worker.Start(q, router{b}, end)
	b.Until("an answer to "+strings.TrimSpace(x.Msg.Question[0].String()), func() bool { return end.done })
	return end.reply
}

// router takes the block with the longest zone.
type router struct{ b *Bench }

func (r router) Route(q *chain.Query) *chain.Chain {
	for n := q.Name(); ; n = n.Parent() {
		if c := r.b.routes[string(n)]; c != nil || len(n) <= 1 {
			return c
		}
	}
}

func (r router) Server() string { return "dns://:53" }

type sink struct {
	b     *Bench
	onEnd func(q *chain.Query, out chain.Outcome)
	done  bool
	reply *dns.Msg
}

// Finish makes the reply that the server would send.
func (s *sink) Finish(q *chain.Query, out chain.Outcome) {
	s.done = true
	if s.onEnd != nil {
		s.onEnd(q, out)
	}
	switch out {
	case chain.Dropped, chain.Streamed:
		return
	case chain.Failed:
		q.Reply.Begin(&q.Request, q.Rcode, 0)
	}
	s.b.fitter.Echo = func(code uint16) bool { return s.b.Config.Echoed[code] }
	packet := s.b.fitter.Append(nil, &q.Reply, &q.Request, q.Limit(), 0)
	m := new(dns.Msg)
	if err := m.Unpack(packet); err != nil {
		s.b.t.Errorf("the reply does not parse: %v", err)
		return
	}
	s.reply = m
}

// Text writes a reply as a golden file holds it: code, flags, the sections' records in their order, EDNS options.
func Text(m *dns.Msg) string {
	if m == nil {
		return "no reply\n"
	}
	var b strings.Builder
	b.WriteString(dns.RcodeToString[m.Rcode])
	for _, f := range []struct {
		set  bool
		name string
	}{{m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.RecursionAvailable, "ra"}, {m.AuthenticatedData, "ad"}} {
		if f.set {
			b.WriteString(" " + f.name)
		}
	}
	b.WriteByte('\n')
	for i, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if rr.Header().Rrtype != dns.TypeOPT {
				rr.Header().Name = strings.ToLower(rr.Header().Name)
				b.WriteString([]string{"an ", "ns ", "ar "}[i] + strings.ReplaceAll(rr.String(), "\t", " ") + "\n")
			}
		}
	}
	if o := m.IsEdns0(); o != nil {
		writeOptions(&b, o)
	}
	return b.String()
}

// writeOptions writes each EDNS option as "opt CODE:HEX".
func writeOptions(b *strings.Builder, o *dns.OPT) {
	packet := make([]byte, wire.MaxMessage)
	n, err := dns.PackRR(o, packet, 0, nil, false)
	if err != nil {
		b.WriteString("opt " + err.Error() + "\n")
		return
	}
	for list := packet[11:n]; len(list) > 0; {
		code, data, rest := wire.NextOption(list)
		fmt.Fprintf(b, "opt %d:%x\n", code, data)
		list = rest
	}
}

// ExpectNoAllocation fails the test when walking the query to its reply allocates, once the buffers are warm.
func (b *Bench) ExpectNoAllocation(m *dns.Msg) {
	b.t.Helper()
	packet, err := m.Pack()
	if err != nil {
		b.t.Fatal(err)
	}
	var r chain.Router = router{b}
	var s chain.Sink = quiet{}
	client := netip.MustParseAddrPort("10.240.0.1:40212")
	allocs := testing.AllocsPerRun(100, func() {
		q := b.Worker.Get()
		q.Parse(packet)
		q.Proto, q.Client = chain.UDP, client
		b.Worker.Start(q, r, s)
	})
	if allocs != 0 {
		b.t.Errorf("%s takes %.1f allocations", m.Question[0].String(), allocs)
	}
}

type quiet struct{}

func (quiet) Finish(*chain.Query, chain.Outcome) {}

// Measure walks the query to its reply again and again.
func (b *Bench) Measure(t *testing.B, m *dns.Msg) {
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var r chain.Router = router{b}
	var s chain.Sink = quiet{}
	client := netip.MustParseAddrPort("10.240.0.1:40212")
	t.ReportAllocs()
	for t.Loop() {
		q := b.Worker.Get()
		q.Parse(packet)
		q.Proto, q.Client = chain.UDP, client
		b.Worker.Start(q, r, s)
	}
}
