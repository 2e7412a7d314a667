package handover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(playRole(role))
	}
	goleak.VerifyTestMain(m)
}

// memoryAlias is an interface's alias. Writing can be forbidden, as it is without NET_ADMIN.
type memoryAlias struct {
	mu   sync.Mutex
	text string
}

func (a *memoryAlias) Alias() (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.text, nil
}

func (a *memoryAlias) SetAlias(text string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(text) > 255 {
		return unix.EINVAL // the kernel's IFALIASZ
	}
	a.text = text
	return nil
}

// readOnly is the alias as a process without NET_ADMIN has it.
type readOnly struct{ *memoryAlias }

func (readOnly) SetAlias(string) error { return unix.EPERM }

// fakeSide is an old agent with a real pair of sockets.
type fakeSide struct {
	*memoryAlias
	list  []Listener // its own, duplicated for the successor
	cache []byte
	saved error // what writing the cache ended with

	mu      sync.Mutex
	stopped int
	resumed int
	wentOn  int
	asked   int
}

func (s *fakeSide) Listeners() ([]Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	var list []Listener
	for _, l := range s.list {
		fd, err := unix.FcntlInt(uintptr(l.FD), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return list, err
		}
		l.FD = fd
		list = append(list, l)
	}
	return list, nil
}

func (s *fakeSide) StopReading() { s.mu.Lock(); s.stopped++; s.mu.Unlock() }
func (s *fakeSide) ReadOn()      { s.mu.Lock(); s.resumed++; s.mu.Unlock() }
func (s *fakeSide) GoOn()        { s.mu.Lock(); s.wentOn++; s.mu.Unlock() }

func (s *fakeSide) SaveCache(_ context.Context, w io.Writer) error {
	_, s.saved = w.Write(s.cache)
	return s.saved
}

// held says how often the listeners had to stay, and how often they might change again.
func (s *fakeSide) held() (asked, wentOn int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked, s.wentOn
}

func (s *fakeSide) counts() (asked, stopped, resumed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked, s.stopped, s.resumed
}

// sockets makes a UDP and a TCP socket on the loopback, non-blocking and unknown to Go's netpoller, as loops have them.
func sockets(t testing.TB) []Listener {
	t.Helper()
	list, err := openSockets("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(list) })
	return list
}

// openSockets binds both to one address; port 0 is one that is free for both.
func openSockets(at string) (list []Listener, err error) {
	addr := netip.MustParseAddrPort(at)
	for range 20 {
		list, err = openAt(addr)
		if err == nil || addr.Port() != 0 {
			break
		}
	}
	return list, err
}

func openAt(addr netip.AddrPort) (list []Listener, err error) {
	for _, network := range []string{"udp", "tcp"} {
		kind := map[string]int{"udp": unix.SOCK_DGRAM, "tcp": unix.SOCK_STREAM}[network]
		fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		list = append(list, Listener{Key: "dns://" + addr.String(), Network: network, FD: fd})
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}); err == nil && network == "tcp" {
			err = unix.Listen(fd, 64)
		}
		if err != nil {
			closeAll(list)
			return nil, err
		}
		sa, err := unix.Getsockname(fd)
		if err != nil {
			closeAll(list)
			return nil, err
		}
		addr = netip.AddrPortFrom(addr.Addr(), uint16(sa.(*unix.SockaddrInet4).Port))
		list[len(list)-1].Addr = addr
	}
	return list, nil
}

// rig is an old agent that serves.
type rig struct {
	t      *testing.T
	old    *Old
	side   *fakeSide
	log    *lines
	stop   context.CancelFunc
	result chan bool
}

// lines gathers a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func debugLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

const (
	oldID = "0000aaaa"
	newID = "0000bbbb"
)

func newRig(t *testing.T, change func(o *Old, s *fakeSide)) *rig {
	t.Helper()
	r := &rig{t: t, log: &lines{}, side: &fakeSide{memoryAlias: &memoryAlias{}, list: sockets(t)}, result: make(chan bool, 1)}
	var err error
	if r.old, err = Listen(oldID, debugLog(r.log)); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r.old, r.side)
	}
	r.side.text = r.old.Alias()
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	go func() { r.result <- r.old.Serve(ctx, r.side) }()
	t.Cleanup(func() { r.end() })
	return r
}

// end stops the old agent and says whether it handed over.
func (r *rig) end() bool {
	r.stop()
	handed := <-r.result
	r.result <- handed
	r.old.Close()
	return handed
}

func (r *rig) take() (*Taken, error) {
	taken, err := Take(r.t.Context(), newID, r.side, debugLog(r.log))
	if err == nil {
		r.t.Cleanup(func() { taken.Close(); closeAll(taken.Listeners) })
	}
	return taken, err
}

// untouched waits for the old agent to be as it was before a failed handover, or before a stranger came.
func (r *rig) untouched() {
	r.t.Helper()
	eventually(r.t, func() error {
		if _, stopped, resumed := r.side.counts(); stopped != resumed {
			return fmt.Errorf("stopped reading %d times, went on %d times", stopped, resumed)
		}
		if asked, wentOn := r.side.held(); asked != wentOn {
			return fmt.Errorf("listeners asked for %d times, let go %d times", asked, wentOn)
		}
		if text, _ := r.side.Alias(); text != r.old.Alias() {
			return fmt.Errorf("the alias is %q, not %q", text, r.old.Alias())
		}
		return nil
	})
}

func eventually(t testing.TB, f func() error) {
	t.Helper()
	var err error
	for range 500 {
		if err = f(); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error(err)
}

func discard(r io.Reader) { _, _ = io.Copy(io.Discard, r) }

// stranger connects to an agent's socket without a proof of anything.
func stranger(t *testing.T, text string) *conn {
	t.Helper()
	_, _, socket, ok := parseAlias(text)
	if !ok {
		t.Fatalf("no alias: %q", text)
	}
	fd, err := dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newConn(fd, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	c.within(10 * time.Second)
	return c
}

// getsNothing reads to the end of a connection and fails when anything comes but a hello, a refusal, or the end.
func getsNothing(t *testing.T, c *conn) {
	t.Helper()
	for {
		b, fd, err := c.receive()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("the connection ended with %v", err)
			}
			return
		}
		if fd >= 0 || kind(b[0]) != kindHello && kind(b[0]) != kindRefused {
			t.Errorf("a stranger got %v, descriptor %d", kind(b[0]), fd)
			return
		}
	}
}

// answers asks over UDP and TCP until both have answered, and gives what they said.
func answers(addr string) (string, error) {
	var said []string
	for _, network := range []string{"udp", "tcp"} {
		c, err := net.DialTimeout(network, addr, time.Second)
		if err != nil {
			return "", err
		}
		_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
		_, err = c.Write([]byte("?"))
		b := make([]byte, 100)
		n := 0
		if err == nil {
			n, err = c.Read(b)
		}
		c.Close()
		if err != nil {
			return "", err
		}
		said = append(said, string(b[:n]))
	}
	return strings.Join(said, " "), nil
}
