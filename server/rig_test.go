package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/freeport"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a server on the loopback with one block for the root, whose handler it is itself.
type rig struct {
	t    *testing.T
	s    *Server
	port int
	stop func()
	self *Self

	mu     sync.Mutex
	parked map[string][]chain.Ticket
	local  netip.AddrPort // where the last query was sent to
	client netip.AddrPort
}

// newRig starts a server that listens on the addresses, all on one port, over UDP and TCP.
func newRig(t *testing.T, hosts ...string) *rig {
	t.Helper()
	return startRig(t, freePort(t), Options{Loops: 2}, hosts...)
}

// startRig is newRig with a port and options of one's own.
func startRig(t *testing.T, port int, opt Options, hosts ...string) *rig {
	t.Helper()
	r := &rig{t: t, port: port, parked: map[string][]chain.Ticket{}}
	opt.Clock, opt.Log, opt.Metrics = loop.System(), slog.New(slog.NewTextHandler(io.Discard, nil)), metrics.New(opt.Loops)
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	r.s = s
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx)
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Error("the server did not end")
		}
	})
	t.Cleanup(r.stop)
	if len(hosts) > 0 {
		r.listen(hosts...)
	}
	return r
}

// listen makes the hosts' addresses the listeners.
func (r *rig) listen(hosts ...string) {
	r.t.Helper()
	var specs []ListenSpec
	for _, h := range hosts {
		specs = append(specs, r.spec(h))
	}
	if err := r.publish(specs...); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) spec(host string) ListenSpec {
	return ListenSpec{Transport: "dns", Addr: net.JoinHostPort(host, fmt.Sprint(r.port))}
}

// publish makes specs the listeners.
func (r *rig) publish(specs ...ListenSpec) error {
	opened, err := r.s.Bind(specs)
	if err != nil {
		return err
	}
	tables := map[string]*Table{}
	for _, spec := range specs {
		var b chain.Builder
		b.Add("rig", r)
		t := &Table{Label: spec.Key(), Config: &chain.Config{}, Self: r.self}
		t.Add(wire.Root, b.Chain())
		tables[spec.Key()] = t
	}
	r.s.Publish(opened, specs, tables)
	return nil
}

// freePort gives a port that is free for UDP and TCP on all addresses.
func freePort(t *testing.T) int {
	t.Helper()
	port, err := freeport.Find()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Serve does what the first label says.
func (r *rig) Serve(q *chain.Query) chain.Outcome {
	r.mu.Lock()
	r.local, r.client = q.Local, q.Client
	r.mu.Unlock()
	label := string(q.Name().Label())
	switch {
	case label == "drop":
		return chain.Dropped
	case label == "fail":
		return q.Fail(wire.ServFail, errors.New("fail"))
	case label == "panic":
		panic("on purpose")
	case label == "empty":
		return chain.Answered // a mistake in a handler
	case label == "busy":
		for end := time.Now().Add(20 * time.Microsecond); time.Now().Before(end); {
		}
	case label == "stream":
		return r.stream(q)
	case strings.HasPrefix(label, "park"):
		t, ok := q.Park()
		if !ok {
			return chain.Failed
		}
		r.mu.Lock()
		r.parked[label] = append(r.parked[label], t)
		r.mu.Unlock()
		return chain.Parked
	case label == "renamed":
		q.SetName(wire.MustName("inside.example."))
	}
	return r.answer(q, label)
}

func (r *rig) answer(q *chain.Query, label string) chain.Outcome {
	q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA)
	records, size := 1, 0
	_, _ = fmt.Sscanf(label, "big%dx%d", &records, &size)
	for i := range records {
		if size > 0 {
			q.Reply.AppendTXT(wire.Answer, q.Name(), wire.ClassIN, 5, strings.Repeat("t", size))
			continue
		}
		q.Reply.AppendOwnData(wire.Answer, wire.TypeA, 5, []byte{192, 0, 2, byte(i)}, 4)
	}
	return chain.Answered
}

// Resume answers.
func (r *rig) Resume(q *chain.Query, _ chain.Event) chain.Outcome { return r.answer(q, "") }

// stream sends twenty messages, or breaks off after two when the type is TXT.
func (r *rig) stream(q *chain.Query) chain.Outcome {
	if !q.CanStream() {
		return q.Fail(wire.Refused, nil)
	}
	q.Reply.Begin(&q.Request, wire.NoError, 0)
	msg, cut := append([]byte(nil), q.Reply.Bytes()...), q.Type == wire.TypeTXT
	return q.Stream(func(w chain.MessageWriter) error {
		for i := range 20 {
			if cut && i == 2 {
				return errors.New("broken off")
			}
			if err := w.WriteMessage(msg); err != nil {
				return err
			}
		}
		return nil
	})
}

// release answers the queries that were parked under a label, once there are n.
func (r *rig) release(label string, n int) {
	r.t.Helper()
	var list []chain.Ticket
	r.until(label+" is parked", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		list = r.parked[label]
		return len(list) >= n
	})
	for _, t := range list {
		t.Post(chain.Event{Kind: chain.EventResult})
	}
}

func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("it did not happen: %s", what)
		}
	}
}

// dial connects over network to host.
func (r *rig) dial(network, host string) net.Conn {
	r.t.Helper()
	c, err := net.Dial(network, net.JoinHostPort(host, fmt.Sprint(r.port)))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(15 * time.Second))
	return c
}

// query is a packed question.
func query(name string, id uint16, edns uint16) []byte {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	m.Id = id
	if edns != 0 {
		m.SetEdns0(edns, false)
	}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

// frame puts the length before each message.
func frame(msgs ...[]byte) []byte {
	var b []byte
	for _, m := range msgs {
		b = binary.BigEndian.AppendUint16(b, uint16(len(m)))
		b = append(b, m...)
	}
	return b
}

// read reads one framed message.
func read(t *testing.T, c net.Conn) *dns.Msg {
	t.Helper()
	b := make([]byte, 2)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatalf("no answer: %v", err)
	}
	b = make([]byte, binary.BigEndian.Uint16(b))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatalf("half an answer: %v", err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatal(err)
	}
	return m
}

func write(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

// ended checks that the server closes the connection, and gives when.
func ended(t *testing.T, c net.Conn) time.Time {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("read %d octets, %v; the connection should have been closed", n, err)
	}
	return time.Now()
}

// exchange sends a datagram and gives the answer, nil when none comes in a moment.
func exchange(t *testing.T, c net.Conn, packet []byte, wait time.Duration) []byte {
	t.Helper()
	write(t, c, packet)
	_ = c.SetReadDeadline(time.Now().Add(wait))
	b := make([]byte, 65535)
	n, err := c.Read(b)
	if err != nil {
		return nil
	}
	return b[:n]
}

func newPointer(t *Table) *atomic.Pointer[Table] {
	p := new(atomic.Pointer[Table])
	p.Store(t)
	return p
}

func rawPointer(a *[28]byte) unsafe.Pointer { return unsafe.Pointer(a) }

func taskFunc(f func()) loop.Task { return loop.TaskFunc(func(*loop.Loop) { f() }) }

// connections counts the TCP connections on all loops.
func (r *rig) connections() (n int) {
	for _, w := range r.s.workers {
		if err := w.RunOn(context.Background(), func(*chain.Worker) { n += len(w.conns) }); err != nil {
			r.t.Fatal(err)
		}
	}
	return n
}

// processTime gives the CPU time that the process uses while the test sleeps.
func processTime(t *testing.T, d time.Duration) time.Duration {
	t.Helper()
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	time.Sleep(d)
	return used() - before
}

func mustName(s string) wire.Name { return wire.MustName(s) }

func mustType(s string) wire.Type {
	t, ok := wire.ParseType(s)
	if !ok {
		panic(s)
	}
	return t
}
