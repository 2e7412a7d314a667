package scenario

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/tools/txtar"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/run"
	"github.com/godwit-dns/godwit/server"
	"github.com/godwit-dns/godwit/wire"
)

// world is everything around one scenario: a loop with a clock of its own, upstreams on the loopback, a configuration.
type world struct {
	t         *testing.T
	archive   *txtar.Archive
	dir       string
	now       atomic.Int64
	wall      time.Time
	loop      *loop.Loop
	worker    *chain.Worker
	env       *chain.Env
	built     *run.Built
	upstreams map[string]*upstream
	pending   *pendingQuery
	log       bytes.Buffer
	cancel    context.CancelFunc
	tasks     sync.WaitGroup
}

func newWorld(t *testing.T, archive *txtar.Archive, directives []chain.Spec) *world {
	w := &world{t: t, archive: archive, dir: t.TempDir(), upstreams: map[string]*upstream{},
		wall: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.now.Store(int64(time.Hour))
	clock := func() time.Duration { return time.Duration(w.now.Load()) }
	var err error
	if w.loop, err = loop.New(0, clock); err != nil {
		t.Fatal(err)
	}
	w.worker = chain.NewWorker(w.loop, 1)
	w.worker.OnPanic = func(q *chain.Query, v any, stack []byte) { t.Errorf("panic: %v\n%s", v, stack) }
	for _, f := range archive.Files {
		if name, ok := strings.CutPrefix(f.Name, "upstream:"); ok {
			w.upstreams[name] = newUpstream(t, string(f.Data))
		} else {
			w.write(f.Name, string(f.Data))
		}
	}
	w.env = &chain.Env{
		Log: slog.New(slog.NewTextHandler(&w.log, nil)), Metrics: metrics.New(1), Loops: 1, Clock: clock,
		Wall:   func() time.Time { return w.wall.Add(clock() - time.Hour) },
		Files:  corefile.OS(),
		Env:    w.variable,
		Reload: func() {},
		Fatal:  func(err error) { t.Errorf("fatal: %v", err) },
		Print:  func(_ int, line []byte) { w.log.Write(line) },
		Loop:   func(int) *chain.Worker { return w.worker },
		Node:   w.has("node"),
	}
	w.built, err = run.Build(w.env, directives, "53", filepath.Join(w.dir, "Corefile"), []byte(w.file("Corefile")), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.start()
	return w
}

func (w *world) variable(name string) (string, bool) {
	if name == "DIR" {
		return w.dir, true
	}
	if u, ok := w.upstreams[name]; ok {
		return u.addr, true
	}
	return "", false
}

// start runs the configuration's tasks and starts, turning the loop meanwhile.
func (w *world) start() {
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	for _, task := range w.built.Config.Tasks {
		w.tasks.Go(func() {
			if err := task(ctx); err != nil && ctx.Err() == nil {
				w.t.Errorf("task: %v", err)
			}
		})
	}
	done := make(chan error, 1)
	go func() {
		for _, f := range w.built.Config.Starts {
			if err := f(ctx); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				w.t.Fatal(err)
			}
			return
		default:
			w.turn()
		}
	}
}

func (w *world) close() {
	w.cancel()
	stopped := make(chan struct{})
	go func() {
		w.tasks.Wait()
		for _, f := range w.built.Config.Stops {
			f(true)
		}
		close(stopped)
	}()
	for running := true; running; {
		select {
		case <-stopped:
			running = false
		default:
			w.turn()
		}
	}
	for _, u := range w.upstreams {
		u.close()
	}
	w.loop.Close()
}

// turn does what is ready; with nothing to do it gives the upstreams' goroutines a moment.
func (w *world) turn() {
	if !w.loop.Turn(false) {
		time.Sleep(100 * time.Microsecond)
	}
}

// advance moves the clock in steps of the loop's resolution, so that timers fire in order.
func (w *world) advance(d time.Duration) {
	const step = 10 * time.Millisecond
	for ; d > 0; d -= step {
		w.now.Add(int64(min(d, step)))
		for w.loop.Turn(false) {
		}
	}
	if len(w.built.Config.Tasks) > 0 { // goroutines that the clock may have woken
		w.settle(nil, patience/3)
	}
}

// patience is how long nothing has to happen, in real time, until a scenario believes that nothing will: upstreams are
// goroutines, and the machine may be busy.
const patience = time.Second

// settle turns the loop until done is true or nothing has happened for a while of real time.
func (w *world) settle(done func() bool, patience time.Duration) {
	quiet := time.Now()
	for time.Since(quiet) < patience {
		if done != nil && done() {
			return
		}
		if w.loop.Turn(false) {
			quiet = time.Now()
		} else {
			time.Sleep(200 * time.Microsecond)
		}
	}
}

// has reports whether the scenario has a part of that name.
func (w *world) has(name string) bool {
	return slices.ContainsFunc(w.archive.Files, func(f txtar.File) bool { return f.Name == name })
}

func (w *world) file(name string) string {
	for _, f := range w.archive.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	w.t.Fatalf("the scenario has no file %q", name)
	return ""
}

func (w *world) write(name, text string) {
	path := filepath.Join(w.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// pendingQuery is a query of the script and, in the end, its reply.
type pendingQuery struct {
	w     *world
	reply []byte
	done  bool
	none  bool
}

// Finish fits the reply as a server does.
func (p *pendingQuery) Finish(q *chain.Query, out chain.Outcome) {
	p.done = true
	if !server.Complete(q, out) {
		p.none = true
		return
	}
	var f wire.Fitter
	p.reply = f.Append(nil, &q.Reply, &q.Request, q.Limit(), 0)
}

// query sends a query and gives its reply in lines; "waiting" when there is none yet.
func (w *world) query(ctx context.Context, args []string) []string {
	m, proto, from := w.message(args)
	packet, err := m.Pack()
	if err != nil {
		w.t.Fatal(err)
	}
	q := w.worker.Get()
	if v := q.Parse(packet); v != wire.Accepted {
		w.worker.Put(q)
		return []string{fmt.Sprintf("refused at the gate (%d)", v)}
	}
	q.Client, q.Local, q.Proto, q.Start = from, netip.MustParseAddrPort("127.0.0.1:53"), proto, w.loop.Now()
	w.pending = &pendingQuery{w: w}
	w.worker.Start(q, w.built.Tables[w.built.Specs[0].Key()], w.pending)
	return w.finish(ctx)
}

func (w *world) finish(context.Context) []string {
	p := w.pending
	if p == nil {
		return []string{"no query waits"}
	}
	w.settle(func() bool { return p.done }, patience)
	switch {
	case !p.done:
		return []string{"waiting"}
	case p.none:
		return []string{"no reply"}
	}
	w.pending = nil
	m := new(dns.Msg)
	if err := m.Unpack(p.reply); err != nil {
		w.t.Errorf("the reply does not parse: %v", err)
	}
	return render(m)
}

func (w *world) message(args []string) (*dns.Msg, chain.Proto, netip.AddrPort) {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(args[0]), dns.StringToType[args[1]])
	m.Id = 1
	proto, from := chain.UDP, netip.MustParseAddrPort("192.0.2.100:40000")
	size, do, edns := uint16(1232), false, false
	for _, a := range args[2:] {
		name, value, _ := strings.Cut(a, "=")
		switch name {
		case "tcp":
			proto = chain.TCP
		case "do":
			do, edns = true, true
		case "ad":
			m.AuthenticatedData = true
		case "cd":
			m.CheckingDisabled = true
		case "nord":
			m.RecursionDesired = false
		case "edns":
			n, _ := strconv.Atoi(value)
			size, edns = uint16(n), true
		case "class":
			m.Question[0].Qclass = dns.StringToClass[value]
		case "from":
			from = netip.AddrPortFrom(netip.MustParseAddr(value), 40000)
		default:
			w.t.Fatalf("query: no word %q", a)
		}
	}
	if edns {
		m.SetEdns0(size, do)
	}
	return m, proto, from
}

// render writes a reply in lines: the code and flags, then the records, sorted within the answer where order means
// nothing: only addresses are.
func render(m *dns.Msg) []string {
	head := dns.RcodeToString[m.Rcode]
	for _, f := range []struct {
		on   bool
		name string
	}{{m.Response, "qr"}, {m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.RecursionDesired, "rd"}, {m.RecursionAvailable, "ra"},
		{m.AuthenticatedData, "ad"}, {m.CheckingDisabled, "cd"}} {
		if f.on {
			head += " " + f.name
		}
	}
	lines := []string{head}
	for _, s := range []struct {
		name string
		rrs  []dns.RR
	}{{"answer", m.Answer}, {"authority", m.Ns}, {"additional", m.Extra}} {
		var part []string
		for _, rr := range s.rrs {
			if opt, ok := rr.(*dns.OPT); ok {
				line := fmt.Sprintf("opt size=%d do=%t options=%d", opt.UDPSize(), opt.Do(), len(opt.Option))
				for _, o := range opt.Option {
					if e, ok := o.(*dns.EDNS0_EDE); ok {
						line += fmt.Sprintf(" ede=%d", e.InfoCode)
					}
				}
				part = append(part, line)
				continue
			}
			part = append(part, s.name+" "+strings.Join(strings.Fields(rr.String()), " "))
		}
		if onlyAddresses(s.rrs) {
			slices.Sort(part)
		}
		lines = append(lines, part...)
	}
	return lines
}

func onlyAddresses(rrs []dns.RR) bool {
	for _, rr := range rrs {
		if t := rr.Header().Rrtype; t != dns.TypeA && t != dns.TypeAAAA {
			return false
		}
	}
	return true
}

// metric compares one series: NAME{label="value",…} VALUE.
func (w *world) metric(args []string) []string {
	want := strings.Join(args[:len(args)-1], " ")
	for _, f := range w.env.Metrics.Families() {
		for _, s := range f.Series() {
			name, value := series(f.Name, s)
			if name != want {
				continue
			}
			if got := strconv.FormatFloat(value, 'g', -1, 64); got != args[len(args)-1] {
				return []string{"metric " + got}
			}
			return nil
		}
	}
	return []string{"no such metric"}
}

func series(name string, s any) (string, float64) {
	var labels []metrics.Label
	value := 0.0
	switch s := s.(type) {
	case *metrics.Counter:
		labels, value = s.Labels, float64(s.Value())
	case *metrics.Gauge:
		labels, value = s.Labels, s.Value()
	case *metrics.GaugeFunc:
		labels, value = s.Labels, s.Value()
	case *metrics.Histogram:
		labels, value = s.Labels, float64(s.Read().Count)
	}
	parts := make([]string, len(labels))
	for i, l := range labels {
		parts[i] = fmt.Sprintf("%s=%q", l.Name, l.Value)
	}
	return name + "{" + strings.Join(parts, ",") + "}", value
}
