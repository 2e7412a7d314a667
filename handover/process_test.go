package handover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The variables of a process of the test. Its role is to be an agent: it takes over from the one that the alias names, or
// begins alone, answers with its id, and waits for a successor.
const (
	roleVariable  = "HANDOVER_TEST_ID"    // its id
	aliasVariable = "HANDOVER_TEST_ALIAS" // the file that stands for the interface's alias
	addrVariable  = "HANDOVER_TEST_ADDR"
	haltVariable  = "HANDOVER_TEST_HALT" // "old STEP" or "new STEP": where it stops to be killed
)

// fileAlias is an interface's alias that processes share.
type fileAlias string

func (f fileAlias) Alias() (string, error) {
	b, err := os.ReadFile(string(f))
	return string(b), err
}

func (f fileAlias) SetAlias(text string) error {
	fresh := fmt.Sprintf("%s.%d", f, os.Getpid())
	if err := os.WriteFile(fresh, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, string(f))
}

// halting is a log that stops its goroutine for good at a step.
type halting struct {
	slog.Handler
	side string
}

func (h halting) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "step" && h.side+" "+a.Value.String() == os.Getenv(haltVariable) {
			fmt.Println("halt")
			select {}
		}
		return true
	})
	return nil
}

func (h halting) Enabled(context.Context, slog.Level) bool { return true }
func (h halting) WithAttrs([]slog.Attr) slog.Handler       { return h }

// agent is such a process.
type agent struct {
	fileAlias
	id      string
	list    []Listener
	turn    sync.Mutex // held by the server while it takes something, and while it must not
	stopped atomic.Bool
	old     *slog.Logger
}

func playRole(id string) int {
	a := &agent{fileAlias: fileAlias(os.Getenv(aliasVariable)), id: id, old: slog.New(halting{side: "old"})}
	me, err := Listen(id, a.old)
	if err != nil {
		fmt.Println("failed", err)
		return 1
	}
	switch err = a.begin(me.Alias()); {
	case errors.Is(err, ErrKept):
		fmt.Println("kept")
		return 1
	case err != nil:
		fmt.Println("failed", err)
		return 1
	}
	fmt.Println("serving", a.list[0].Addr)
	if !me.Serve(context.Background(), a) {
		return 1
	}
	fmt.Println("handed")
	return 0
}

// begin makes the agent the owner, by a handover where there is somebody.
func (a *agent) begin(mine string) error {
	log := slog.New(halting{side: "new"})
	taken, err := Take(context.Background(), a.id, a, log)
	if errors.Is(err, ErrNobody) {
		var bound error
		for range 100 { // a dead process's sockets take a moment to go
			if a.list, bound = openSockets(os.Getenv(addrVariable)); bound == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if bound != nil {
			return fmt.Errorf("%w; alone: %w", err, bound)
		}
		go a.serve()
		return a.SetAlias(mine)
	}
	if err != nil {
		return err
	}
	a.list = taken.Listeners
	go a.serve()
	err = taken.Ready(context.Background(), func(r io.Reader) {
		_, _ = io.ReadFull(r, make([]byte, 50000))
		log.Debug("handover", "step", "loading")
	})
	if err == nil {
		err = taken.Own(context.Background(), mine)
	}
	if errors.Is(err, ErrGone) {
		return a.SetAlias(mine)
	}
	return err
}

// serve answers datagrams and connections with the agent's id, one by one.
func (a *agent) serve() {
	files := []unix.PollFd{{Fd: int32(a.list[0].FD), Events: unix.POLLIN}, {Fd: int32(a.list[1].FD), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(files, 10); err != nil && err != unix.EINTR {
			return
		}
		a.turn.Lock()
		if !a.stopped.Load() {
			a.datagram()
			a.connection()
		}
		a.turn.Unlock()
	}
}

func (a *agent) datagram() {
	b := make([]byte, 100)
	if _, from, err := unix.Recvfrom(a.list[0].FD, b, unix.MSG_DONTWAIT); err == nil {
		_ = unix.Sendto(a.list[0].FD, []byte(a.id), 0, from)
	}
}

func (a *agent) connection() {
	fd, _, err := unix.Accept4(a.list[1].FD, unix.SOCK_CLOEXEC)
	if err != nil {
		return
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100000})
	if n, _ := unix.Read(fd, make([]byte, 100)); n > 0 {
		_, _ = unix.Write(fd, []byte(a.id))
	}
	unix.Close(fd)
}

func (a *agent) Listeners() ([]Listener, error) { return (&fakeSide{list: a.list}).Listeners() }

func (a *agent) StopReading() {
	a.stopped.Store(true)
	a.turn.Lock() // what is being answered is answered
	defer a.turn.Unlock()
}

func (a *agent) ReadOn() { a.stopped.Store(false) }
func (a *agent) GoOn()   {}

func (a *agent) SaveCache(_ context.Context, w io.Writer) error {
	if _, err := w.Write(make([]byte, 150000)); err != nil {
		return err
	}
	a.old.Debug("handover", "step", "saving")
	_, err := w.Write(make([]byte, 150000))
	return err
}

// process is an agent as the test sees it.
type process struct {
	t     *testing.T
	id    string
	cmd   *exec.Cmd
	lines chan string
	ended bool
}

// node is one interface with its agents.
type node struct {
	t     *testing.T
	alias fileAlias
	addr  string
	next  int
}

func newNode(t *testing.T) *node {
	n := &node{t: t, alias: fileAlias(filepath.Join(t.TempDir(), "alias")), addr: "127.0.0.1:0"}
	if err := n.alias.SetAlias(""); err != nil {
		t.Fatal(err)
	}
	return n
}

// start runs an agent that halts at a step.
func (n *node) start(halt string) *process {
	n.t.Helper()
	n.next++
	p := &process{t: n.t, id: fmt.Sprintf("%08x", n.next), lines: make(chan string, 100)}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), roleVariable+"="+p.id, aliasVariable+"="+string(n.alias), addrVariable+"="+n.addr,
		haltVariable+"="+halt)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		n.t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			p.lines <- in.Text()
		}
	}()
	n.t.Cleanup(p.kill)
	return p
}

// serving starts an agent and waits until it owns the sockets.
func (n *node) serving(halt string) *process {
	n.t.Helper()
	p := n.start(halt)
	n.addr = strings.TrimPrefix(p.expect("serving "), "serving ")
	return p
}

// expect waits for a line that begins so.
func (p *process) expect(head string) string {
	p.t.Helper()
	select {
	case line, ok := <-p.lines:
		if !ok || !strings.HasPrefix(line, head) {
			p.t.Fatalf("agent %s said %q, not %q", p.id, line, head)
		}
		return line
	case <-time.After(20 * time.Second):
		p.t.Fatalf("agent %s did not say %q", p.id, head)
	}
	return ""
}

func (p *process) kill() {
	if p.ended {
		return
	}
	p.ended = true
	_ = p.cmd.Process.Kill()
	for range p.lines {
	}
	_ = p.cmd.Wait()
}

// owns waits until an agent alone answers and the alias names it.
func (p *process) owns(n *node) {
	p.t.Helper()
	eventually(p.t, func() error {
		text, err := n.alias.Alias()
		if id, ok := Owner(text); err != nil || !ok || id != p.id || len(strings.Fields(text)) != 3 {
			return fmt.Errorf("the alias is %q, not that of agent %s: %w", text, p.id, err)
		}
		for range 3 {
			if said, err := answers(n.addr); err != nil || said != p.id+" "+p.id {
				return fmt.Errorf("%q answers, not %s: %w", said, p.id, err)
			}
		}
		return nil
	})
}

// The old agent is killed at each of its steps: the successor is what remains.
func TestOldIsKilled(t *testing.T) {
	for _, step := range []string{"hello", "proven", "listeners", "ready", "stopped", "saving", "cache", "owned", "left"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			old := n.serving("old " + step)
			successor := n.start("")
			old.expect("halt")
			old.kill()
			successor.expect("serving")
			successor.owns(n)
			n.serving("").owns(n)
			successor.expect("handed")
		})
	}
}

// The successor is killed at each of its steps: the old one is what remains, and the next successor is served; or, once
// it has consented, nobody is, and the next one begins alone.
func TestSuccessorIsKilled(t *testing.T) {
	for _, step := range []string{"connected", "hello", "proof", "proven", "listeners", "ready", "loading", "cache", "alias", "owned", "left"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			old := n.serving("")
			successor := n.start("new " + step)
			successor.expect("halt")
			successor.kill()
			if step == "owned" || step == "left" {
				old.expect("handed")
				if _, err := answers(n.addr); err == nil {
					t.Error("somebody answers")
				}
				n.serving("").owns(n)
				return
			}
			old.owns(n)
			n.serving("").owns(n)
			old.expect("handed")
		})
	}
}

// Under load, from one agent to the next and the next, nobody who asks is left without an answer.
func TestNothingIsLost(t *testing.T) {
	n := newNode(t)
	now := n.serving("")
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var asked atomic.Int64
	for _, network := range []string{"udp", "udp", "tcp"} {
		clients.Go(func() {
			for ctx.Err() == nil {
				if err := once(network, n.addr); err != nil {
					t.Error(err)
				}
				asked.Add(1)
			}
		})
	}
	for range 5 {
		next := n.start("")
		next.expect("serving")
		now.expect("handed")
		now = next
		before := asked.Load()
		eventually(t, func() error {
			if asked.Load() < before+100 {
				return errors.New("the clients ask no more")
			}
			return nil
		})
	}
	cancel()
	clients.Wait()
	t.Logf("%d questions", asked.Load())
}

// once asks one question and waits for its answer.
func once(network, addr string) error {
	c, err := net.DialTimeout(network, addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err = c.Write([]byte("?")); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 100))
	return err
}
