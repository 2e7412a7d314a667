package server

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
)

// withTimeouts republishes the listener with other timeouts.
func (r *rig) withTimeouts(host string, t chain.Timeouts) {
	r.t.Helper()
	spec := r.spec(host)
	spec.Timeout = t
	if err := r.publish(spec); err != nil {
		r.t.Fatal(err)
	}
}

func TestTCPPipelinesInOrder(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	c := r.dial("tcp", "127.0.0.1")
	var all []byte
	const n = 200
	for i := range n {
		all = append(all, frame(query(fmt.Sprintf("q%d.example", i), uint16(i), 0))...)
	}
	write(t, c, all)
	for i := range n {
		if m := read(t, c); int(m.Id) != i || m.Question[0].Name != fmt.Sprintf("q%d.example.", i) {
			t.Fatalf("answer %d: %v", i, m)
		}
	}
}

func TestTCPHalfClosedStillGetsEveryAnswer(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	for _, n := range []int{1, 40, 150} {
		c := r.dial("tcp", "127.0.0.1")
		all := frame(query("park"+fmt.Sprint(n)+".example", 9999, 0))
		for i := range n {
			all = append(all, frame(query("a.example", uint16(i), 0))...)
		}
		write(t, c, all)
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if m := read(t, c); int(m.Id) != i {
				t.Fatalf("answer %d is %v", i, m.Id)
			}
		}
		r.release("park"+fmt.Sprint(n), 1)
		if m := read(t, c); m.Id != 9999 {
			t.Fatalf("%v", m)
		}
		ended(t, c)
	}
}

func TestTCPParkedAnswersOvertake(t *testing.T) {
	r := newRig(t, "::1")
	c := r.dial("tcp", "::1")
	write(t, c, frame(query("park1.example", 1, 0), query("park2.example", 2, 0), query("now.example", 3, 0)))
	for _, want := range []struct {
		label string
		id    uint16
	}{{"", 3}, {"park2", 2}, {"park1", 1}} {
		if want.label != "" {
			r.release(want.label, 1)
		}
		if m := read(t, c); m.Id != want.id {
			t.Errorf("%d came, want %d", m.Id, want.id)
		}
	}
}

func TestTCPAnswersLeaveTogether(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	c := r.dial("tcp", "127.0.0.1")
	var all []byte
	for i := range framesPerTurn {
		all = append(all, frame(query("a.example", uint16(i), 0))...)
	}
	write(t, c, all)
	b := make([]byte, 64<<10)
	n, err := c.Read(b) // the kernel hands over what one segment brought
	answers := 0
	for rest := b[:n]; len(rest) > 1; answers++ {
		rest = rest[min(len(rest), 2+int(binary.BigEndian.Uint16(rest))):]
	}
	if err != nil || answers != framesPerTurn {
		t.Errorf("%d answers in the first read, want %d (%v)", answers, framesPerTurn, err)
	}
}

func TestTCPByteByByte(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	c := r.dial("tcp", "127.0.0.1")
	for range 2 {
		for _, b := range frame(query("slow.example", 7, 0)) {
			write(t, c, []byte{b})
			time.Sleep(time.Millisecond)
		}
		if m := read(t, c); m.Id != 7 {
			t.Errorf("%v", m)
		}
	}
}

func TestTCPTimeouts(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	const limit = 300 * time.Millisecond
	r.withTimeouts("127.0.0.1", chain.Timeouts{Read: limit, Idle: limit})
	check := func(what string, since, end time.Time) {
		t.Helper()
		if took := end.Sub(since); took < limit-100*time.Millisecond || took > 2*limit {
			t.Errorf("%s: closed after %v, want %v", what, took, limit)
		}
	}
	c, start := r.dial("tcp", "127.0.0.1"), time.Now()
	check("nothing", start, ended(t, c))

	c = r.dial("tcp", "127.0.0.1")
	time.Sleep(limit / 2)
	write(t, c, frame(query("a.example", 1, 0)))
	read(t, c)
	check("idle", time.Now(), ended(t, c))

	c, start = r.dial("tcp", "127.0.0.1"), time.Now()
	dribble, stop := frame(query("a-name-that-takes-its-time.example", 1, 0)), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, b := range dribble {
			select {
			case <-stop:
				return
			case <-time.After(limit / 5):
				_, _ = c.Write([]byte{b})
			}
		}
	})
	check("an octet now and then", start, ended(t, c))
	close(stop)
	wg.Wait()

	c = r.dial("tcp", "127.0.0.1") // waiting for its own answer is not idling
	write(t, c, frame(query("park.example", 5, 0)))
	time.Sleep(2 * limit)
	r.release("park", 1)
	if m := read(t, c); m.Id != 5 {
		t.Errorf("%v", m)
	}
	check("after the answer", time.Now(), ended(t, c))
}

func TestTCPBoundsWhatIsInFlight(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	c := r.dial("tcp", "127.0.0.1")
	var all []byte
	for i := range inFlightLimit + 50 {
		all = append(all, frame(query("park.example", uint16(i), 0))...)
	}
	write(t, c, all)
	r.until("the connection is full", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.parked["park"]) >= inFlightLimit
	})
	time.Sleep(50 * time.Millisecond)
	r.mu.Lock()
	if n := len(r.parked["park"]); n != inFlightLimit {
		t.Errorf("%d queries of one connection in flight, want %d", n, inFlightLimit)
	}
	r.mu.Unlock()
	r.release("park", inFlightLimit)
	r.release("park", inFlightLimit+50)
	seen := map[uint16]bool{}
	for range inFlightLimit + 50 {
		seen[read(t, c).Id] = true
	}
	if len(seen) != inFlightLimit+50 {
		t.Errorf("%d different answers", len(seen))
	}
}

func TestTCPOversizeFrame(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	c := r.dial("tcp", "127.0.0.1")
	write(t, c, append(frame(query("a.example", 1, 0)), 0xFF, 0xFF, 0, 0))
	if m := read(t, c); m.Id != 1 {
		t.Errorf("%v", m)
	}
	ended(t, c)
}

func TestTCPQueriesPerConnection(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	r.withTimeouts("127.0.0.1", chain.Timeouts{Queries: 3})
	c := r.dial("tcp", "127.0.0.1")
	for i := range 5 {
		write(t, c, frame(query("a.example", uint16(i), 0)))
		if i == 2 {
			break
		}
		read(t, c)
	}
	read(t, c)
	ended(t, c)
}

func TestTCPSlowReader(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	r.withTimeouts("127.0.0.1", chain.Timeouts{Write: 400 * time.Millisecond})
	c := r.dial("tcp", "127.0.0.1").(*net.TCPConn)
	_ = c.SetReadBuffer(128 << 10)
	other := r.dial("tcp", "127.0.0.1")
	big := frame(query("big300x200.example", 4, 0))
	for range 3 { // one that reads in the end gets everything
		write(t, c, bytes.Repeat(big, 40))
		time.Sleep(100 * time.Millisecond)
		write(t, other, frame(query("a.example", 8, 0))) // and keeps nobody else waiting
		if m := read(t, other); m.Id != 8 {
			t.Errorf("%v", m)
		}
		for range 40 {
			if m := read(t, c); len(m.Answer) != 300 {
				t.Fatalf("%d records", len(m.Answer))
			}
		}
	}
	write(t, c, bytes.Repeat(big, 200))
	time.Sleep(1500 * time.Millisecond)
	if _, err := c.Write(big); err == nil { // closed: the reset arrives with the next write at the latest
		time.Sleep(50 * time.Millisecond)
		_, err = c.Write(big)
		if err == nil {
			t.Error("a client that does not read keeps its connection")
		}
	}
}

func TestLoopsRestBesideBlockedAndFailedConnections(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	drained := r.dial("tcp", "127.0.0.1").(*net.TCPConn)
	_ = drained.SetReadBuffer(128 << 10)
	write(t, drained, bytes.Repeat(frame(query("big300x200.example", 4, 0)), 60))
	time.Sleep(50 * time.Millisecond)
	for range 60 {
		read(t, drained)
	}
	failed := r.dial("tcp", "127.0.0.1").(*net.TCPConn)
	for range inFlightLimit {
		write(t, failed, frame(query("park.example", 1, 0)))
	}
	r.until("it is parked", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.parked["park"]) == inFlightLimit })
	_ = failed.SetLinger(0)
	failed.Close()
	time.Sleep(20 * time.Millisecond)
	if used := processTime(t, 500*time.Millisecond); used > 150*time.Millisecond {
		t.Errorf("the loops used %v of half a second with nothing to do", used)
	}
	r.release("park", inFlightLimit)
}

func TestTCPManyConnections(t *testing.T) {
	r := newRig(t, "")
	var wg sync.WaitGroup
	errs := make(chan error, 300)
	for i := range 300 {
		wg.Go(func() {
			host := []string{"127.0.0.1", "[::1]"}[i%2]
			c := &dns.Client{Net: "tcp", Timeout: 10 * time.Second}
			conn, err := c.Dial(fmt.Sprintf("%s:%d", host, r.port))
			if err != nil {
				errs <- err
				return
			}
			defer conn.Close()
			for range 5 {
				m, _, err := c.ExchangeWithConn(new(dns.Msg).SetQuestion("a.example.", dns.TypeA), conn)
				if err != nil || len(m.Answer) != 1 {
					errs <- fmt.Errorf("%v %v", err, m)
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
	r.until("all connections are forgotten", func() bool { return r.connections() == 0 })
}

func TestTCPStream(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	c := r.dial("tcp", "127.0.0.1")
	write(t, c, frame(query("stream.example", 1, 0), query("after.example", 2, 0)))
	for range 20 {
		if m := read(t, c); m.Id != 1 {
			t.Fatalf("%v", m)
		}
	}
	if m := read(t, c); m.Id != 2 {
		t.Errorf("%v", m)
	}
	cut := new(dns.Msg).SetQuestion("stream.example.", dns.TypeTXT)
	packet, err := cut.Pack()
	if err != nil {
		t.Fatal(err)
	}
	write(t, c, frame(packet))
	read(t, c)
	read(t, c)
	ended(t, c) // a client must not take half a zone for a whole one
}

// TestTCPConnectionsOfOneClient has a client near its limit: one more connection is served, the next is closed, and others'
// are served as before.
func TestTCPConnectionsOfOneClient(t *testing.T) {
	r := startRig(t, freePort(t), Options{Loops: 1}, "127.0.0.1")
	w, here := r.s.workers[0], netip.MustParseAddr("127.0.0.1")
	open := func() (n, clients int) {
		_ = w.RunOn(t.Context(), func(*chain.Worker) { n, clients = w.connsOf[here], len(w.connsOf) })
		return n, clients
	}
	_ = w.RunOn(t.Context(), func(*chain.Worker) { w.connsOf[here] = connsPerClient - 1 })
	served := func(c net.Conn) {
		t.Helper()
		write(t, c, frame(query("a.example", 1, 0)))
		read(t, c)
	}
	last := r.dial("tcp", "127.0.0.1")
	served(last)
	ended(t, r.dial("tcp", "127.0.0.1"))
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	other, err := d.Dial("tcp", last.RemoteAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	_ = other.SetDeadline(time.Now().Add(5 * time.Second))
	served(other)
	last.Close()
	r.until("the connection is forgotten", func() bool { n, _ := open(); return n == connsPerClient-1 })
	served(r.dial("tcp", "127.0.0.1"))
	other.Close()
	r.until("the other client is forgotten", func() bool { _, clients := open(); return clients == 1 })
}
