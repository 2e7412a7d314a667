package node

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/handover"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/server"
)

// wall is the interface's alias, which all agents of a host see.
type wall struct {
	mu   sync.Mutex
	text string
}

// owner is the agent that it names.
func (w *wall) owner() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	id, _ := handover.Owner(w.text)
	return id
}

// hostStub notes what is asked of a host.
type hostStub struct {
	wall *wall
	mu   sync.Mutex
	did  []string
	fail map[string][]error // by step, what its next calls give
}

func (h *hostStub) step(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.did = append(h.did, name)
	if errs := h.fail[name]; len(errs) > 0 {
		h.fail[name] = errs[1:]
		return errs[0]
	}
	return nil
}

func (h *hostStub) steps() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.did, " ")
}

func (h *hostStub) Adopt(context.Context) error  { return h.step("adopt") }
func (h *hostStub) Up(context.Context) error     { return h.step("up") }
func (h *hostStub) GiveUp(context.Context) error { return h.step("giveup") }
func (h *hostStub) Leave() error                 { return h.step("leave") }

func (h *hostStub) Run(ctx context.Context) {
	_ = h.step("run")
	<-ctx.Done()
	_ = h.step("ran")
}

func (h *hostStub) Down(_ context.Context, keep bool) error {
	if keep {
		return h.step("down(keep)")
	}
	return h.step("down")
}

func (h *hostStub) Alias() (string, error) {
	h.wall.mu.Lock()
	defer h.wall.mu.Unlock()
	return h.wall.text, nil
}

func (h *hostStub) SetAlias(text string) error {
	h.wall.mu.Lock()
	defer h.wall.mu.Unlock()
	h.wall.text = text
	return nil
}

// socketsStub is a process that has one listener and one cache.
type socketsStub struct {
	ln    net.Listener
	cache *box
	mu    sync.Mutex
	did   []string
}

func (s *socketsStub) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.did = append(s.did, what)
}

func (s *socketsStub) Pause()               { s.note("pause") }
func (s *socketsStub) Continue()            { s.note("continue") }
func (s *socketsStub) Hold()                { s.note("hold") }
func (s *socketsStub) Release()             { s.note("release") }
func (s *socketsStub) Quiet() time.Duration { return time.Minute }
func (s *socketsStub) Kept() []chain.Kept   { return []chain.Kept{s.cache.kept()} }

func (s *socketsStub) Export() ([]server.Inherited, error) {
	in := server.Inherited{Key: "http://" + s.ln.Addr().String(), Network: "tcp"}
	err := server.WithFD(s.ln, func(fd int) (err error) {
		in.FD, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		return err
	})
	return []server.Inherited{in}, err
}

// stage is an agent on a host that is a stub, around a process that is another, and answered by a third.
type stage struct {
	*agent
	host    *hostStub
	process *socketsStub
	answers *self
	reg     *metrics.Registry
	log     *logged
}

func newStage(t *testing.T, id, line string, shared *wall, before *predecessor) *stage {
	t.Helper()
	if shared == nil {
		shared = &wall{}
	}
	if before == nil {
		before = &predecessor{metrics: -1, handed: make(chan struct{})}
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, dir+"/base", ". {\n    errors\n}\n")
	s := &stage{host: &hostStub{wall: shared, fail: map[string][]error{}}, answers: startSelf(t, id), reg: metrics.New(1), log: &logged{}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	s.process = &socketsStub{ln: ln, cache: &box{name: "a"}}
	o := parse(t, "-localip 10.0.0.1 -metrics-listen-address= -basecorefile "+dir+"/base -run-dir "+dir+"/run "+line)
	o.localIPs, o.port = []netip.Addr{netip.MustParseAddr("127.0.0.1")}, s.answers.port
	host := o.setupInterface
	o.setupInterface, o.setupRules = false, false // so that none is opened
	env := &chain.Env{Log: s.log.logger(), Metrics: s.reg, Version: "Godwit-0\n"}
	if s.agent, err = newAgent(o, id, Program{Env: noEnv}, env, before); err != nil {
		t.Fatal(err)
	}
	if o.setupInterface = host; host {
		s.agent.net = s.host
		if s.agent.probe, err = newProber(id, o.localIPs, o.port, s.log.logger(), s.reg); err != nil {
			t.Fatal(err)
		}
	}
	s.agent.probe.pace = quickPace()
	return s
}

// listens begins, and waits until the agent owns the sockets.
func (s *stage) listens(t *testing.T) {
	t.Helper()
	if err := s.Listening(t.Context(), s.process); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "it owns the sockets", func() bool { return s.state.Load().owns })
}

func (s *stage) probed(t *testing.T) bool {
	t.Helper()
	owns, _, err := handover.Probe(t.Context(), s.o.adminFolders())
	if err != nil {
		t.Error(err)
	}
	return owns
}

func TestOrderOfALife(t *testing.T) {
	for _, c := range []struct {
		line      string
		sig       syscall.Signal
		left, end string // what has been done after Leaving, and after Left
	}{
		{"", syscall.SIGTERM, "adopt up run giveup", " ran down"},
		{"-skipteardown", syscall.SIGTERM, "adopt up run giveup", " ran down(keep)"},
		{"", syscall.SIGINT, "adopt up run giveup ran down", ""},
		{"-setupinterface=false", syscall.SIGTERM, "", ""},
	} {
		s := newStage(t, "0000000a", c.line, nil, nil)
		s.listens(t)
		if !s.probed(t) {
			t.Error("a probe is told that it does not own the sockets")
		}
		within(t, 5*time.Second, "repairs begin", func() bool { return s.agent.net == nil || strings.Contains(s.host.steps(), "run") })
		s.Leaving(c.sig)
		if got := s.host.steps(); got != c.left {
			t.Errorf("%s %v: after Leaving %q, want %q", c.line, c.sig, got, c.left)
		}
		asked := s.answers.asked.Load()
		if s.probed(t) {
			t.Error("while it leaves a probe is told that it owns the sockets")
		}
		time.Sleep(50 * time.Millisecond)
		if now := s.answers.asked.Load(); now != asked {
			t.Errorf("%s: it goes on probing", c.line)
		}
		s.Left()
		if got := s.host.steps(); got != c.left+c.end {
			t.Errorf("%s %v: after Left %q, want %q", c.line, c.sig, got, c.left+c.end)
		}
	}
}

// Nothing is led to an agent before it answers, and one that fails to start takes nothing away that is not its own.
func TestProcessThatDoesNotStart(t *testing.T) {
	s := newStage(t, "0000000a", "", nil, nil)
	s.Left()
	if got := s.host.steps(); got != "leave" {
		t.Errorf("%q", got)
	}
}

func TestSetUpIsTriedAgain(t *testing.T) {
	s := newStage(t, "0000000a", "", nil, nil)
	s.host.fail["up"] = []error{errors.New("iptables: Another app is currently holding the xtables lock")}
	if err := s.Listening(t.Context(), s.process); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "the first try", func() bool { return strings.Contains(s.log.String(), "the host is not set up") })
	if s.probed(t) || s.answers.asked.Load() != 0 {
		t.Error("it owns the sockets, or probes, on a host that is not set up")
	}
	within(t, 10*time.Second, "the second try", func() bool { return s.state.Load().owns })
	if got := s.host.steps(); !strings.HasPrefix(got, "adopt up adopt up") {
		t.Errorf("%q", got)
	}
	if v := value(s.reg, "coredns_nodecache_setup_errors_total", "errortype=iptables_lock"); v != 1 {
		t.Errorf("counted %v", v)
	}
	s.Leaving(syscall.SIGTERM)
	s.Left()
}

// TestFailedChecksAreCounted by node-cache's names.
func TestFailedChecksAreCounted(t *testing.T) {
	s := newStage(t, "0000000a", "", nil, nil)
	defer s.Left()
	s.checkFailed(false, errors.New("interface nodelocaldns is of type vlan"))
	s.checkFailed(true, errors.New("no such table"))
	s.checkFailed(true, errors.New("another app is currently holding the xtables lock"))
	for _, kind := range []string{"interface_check", "iptables", "iptables_lock"} {
		if v := value(s.reg, "coredns_nodecache_setup_errors_total", "errortype="+kind); v != 1 {
			t.Errorf("%s: counted %v", kind, v)
		}
	}
}

func TestLeavingWhileItIsNotSetUp(t *testing.T) {
	s := newStage(t, "0000000a", "", nil, nil)
	s.host.fail["adopt"] = slices.Repeat([]error{errors.New("link: no")}, 100)
	if err := s.Listening(t.Context(), s.process); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "the first try", func() bool { return strings.Contains(s.log.String(), "the host is not set up") })
	began := time.Now()
	s.Leaving(syscall.SIGTERM)
	s.Left()
	if took := time.Since(began); took > 900*time.Millisecond {
		t.Errorf("leaving took %v", took)
	}
	if got := s.host.steps(); got != "adopt giveup down" {
		t.Errorf("%q", got)
	}
	if v := value(s.reg, "coredns_nodecache_setup_errors_total", "errortype=interface_add"); v != 1 {
		t.Errorf("counted %v", v)
	}
}

func TestOneAgentTakesOverFromAnother(t *testing.T) {
	shared := &wall{}
	old := newStage(t, "0000000a", "", shared, nil)
	old.process.cache.entries = []string{"x", "y"}
	old.listens(t)
	within(t, 5*time.Second, "it can be found", func() bool { return shared.owner() == "0000000a" })

	before := &predecessor{metrics: -1, handed: make(chan struct{})}
	var err error
	if before.taken, err = handover.Take(t.Context(), "0000000b", &hostStub{wall: shared}, discard()); err != nil {
		t.Fatal(err)
	}
	before.sort(before.taken.Listeners)
	if len(before.listeners) != 1 || before.listeners[0].Key != "http://"+old.process.ln.Addr().String() ||
		before.listeners[0].Addr.String() != old.process.ln.Addr().String() {
		t.Errorf("listeners %+v", before.listeners)
	}
	for _, in := range before.listeners {
		unix.Close(in.FD)
	}
	fresh := newStage(t, "0000000b", "", shared, before)
	if err := fresh.Listening(t.Context(), fresh.process); err != nil {
		t.Fatal(err)
	}
	select {
	case <-old.handed:
	case <-time.After(5 * time.Second):
		t.Fatal("the old agent does not know")
	}
	if got := fresh.process.cache.entries; !slices.Equal(got, []string{"x", "y"}) {
		t.Errorf("the cache came as %q", got)
	}
	old.process.mu.Lock()
	if got := old.process.did; !slices.Equal(got, []string{"hold", "pause"}) {
		t.Errorf("the old process was told %q", got)
	}
	old.process.mu.Unlock()
	if old.probed(t) || !fresh.probed(t) {
		t.Error("probes are told the wrong owner")
	}
	if id := shared.owner(); id != "0000000b" {
		t.Errorf("the alias names %q", id)
	}
	old.Leaving(syscall.SIGTERM)
	old.Left()
	if got := old.host.steps(); strings.Contains(got, "down") || strings.Contains(got, "giveup") || !strings.HasSuffix(got, "leave") {
		t.Errorf("the old agent did %q", got)
	}
	if value(old.reg, "godwit_node_handovers_total", "role=predecessor") != 1 || value(fresh.reg, "godwit_node_handovers_total", "role=successor") != 1 {
		t.Error("the handover is not counted")
	}
	fresh.Leaving(syscall.SIGTERM)
	fresh.Left()
	if got := fresh.host.steps(); got != "adopt up run giveup ran down" {
		t.Errorf("the new agent did %q", got)
	}
}

// An agent whose rules do not come in leaves everything to its predecessor.
func TestSuccessorThatFails(t *testing.T) {
	shared := &wall{}
	old := newStage(t, "0000000a", "", shared, nil)
	old.listens(t)
	within(t, 5*time.Second, "it can be found", func() bool { return shared.owner() == "0000000a" })
	before := &predecessor{metrics: -1, handed: make(chan struct{})}
	var err error
	if before.taken, err = handover.Take(t.Context(), "0000000b", &hostStub{wall: shared}, discard()); err != nil {
		t.Fatal(err)
	}
	before.sort(before.taken.Listeners)
	for _, in := range before.listeners {
		unix.Close(in.FD)
	}
	fresh := newStage(t, "0000000b", "", shared, before)
	fresh.host.fail["up"] = []error{errors.New("nftables: no")}
	if err := fresh.Listening(t.Context(), fresh.process); err == nil || !strings.Contains(err.Error(), "nftables: no") {
		t.Fatal(err)
	}
	fresh.Left()
	if got := fresh.host.steps(); got != "adopt up leave" {
		t.Errorf("it did %q", got)
	}
	within(t, 5*time.Second, "the old agent reads on", func() bool {
		old.process.mu.Lock()
		defer old.process.mu.Unlock()
		return slices.Equal(old.process.did, []string{"hold", "pause", "continue", "release"})
	})
	within(t, 5*time.Second, "it can be found again", func() bool {
		text, _ := old.host.Alias()
		return strings.HasPrefix(text, "godwit/1 0000000a ") && strings.Count(text, " ") == 2
	})
	if old.succeeded() || !old.probed(t) {
		t.Error("the old agent has given up")
	}
	old.Leaving(syscall.SIGTERM)
	old.Left()
}
