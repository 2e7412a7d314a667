package server

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
)

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestPublishKeepsSockets(t *testing.T) {
	r := newRig(t, "127.0.0.1", "127.0.0.2")
	kept := r.dial("tcp", "127.0.0.1")
	write(t, kept, frame(query("a.example", 1, 0)))
	read(t, kept)
	gone := r.dial("tcp", "127.0.0.2")
	write(t, gone, frame(query("park.example", 2, 0)))
	r.until("it is parked", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.parked["park"]) == 1 })
	before := r.s.listeners[r.spec("127.0.0.1").Key()]
	u := r.dial("udp", "127.0.0.1")
	write(t, u, query("park2.example", 3, 0))
	r.until("it is parked", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.parked["park2"]) == 1 })

	if err := r.publish(r.spec("127.0.0.1"), r.spec("127.0.0.3")); err != nil {
		t.Fatal(err)
	}
	if r.s.listeners[r.spec("127.0.0.1").Key()] != before {
		t.Error("the listener that stays was opened again")
	}
	r.release("park", 1) // a connection of a listener that is gone still gets its answer, and then its end
	if m := read(t, gone); m.Id != 2 {
		t.Errorf("%v", m)
	}
	ended(t, gone)
	r.release("park2", 1)
	b := make([]byte, 512)
	if n, err := u.Read(b); err != nil || b[1] != 3 {
		t.Errorf("%v %x", err, b[:n])
	}
	write(t, kept, frame(query("a.example", 4, 0)))
	if m := read(t, kept); m.Id != 4 {
		t.Errorf("%v", m)
	}
	for _, host := range []string{"127.0.0.1", "127.0.0.3"} {
		if m := ask(t, r.dial("udp", host), "a.example", 0); len(m.Answer) != 1 {
			t.Errorf("%v", m)
		}
	}
	if _, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.2:%d", r.port), time.Second); err == nil {
		t.Error("the old address still answers")
	}
}

func TestBoundBesideWildcard(t *testing.T) {
	r := newRig(t, "", "127.0.0.1")
	for _, host := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
		if m := ask(t, r.dial("udp", host), "a.example", 0); len(m.Answer) != 1 {
			t.Errorf("%v", m)
		}
	}
}

func TestPortInUseIsAnErrorWithAPlace(t *testing.T) {
	share := func(network string) net.ListenConfig {
		return net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		}}
	}
	for _, network := range []string{"udp", "tcp"} {
		for _, shared := range []bool{false, true} {
			for _, held := range []string{"127.0.0.1", "0.0.0.0"} {
				r := newRig(t, "127.0.0.5")
				addr := fmt.Sprintf("%s:%d", held, r.port)
				if held == "0.0.0.0" { // which we hold a part of, so only another port can be held whole
					r.port = freePort(t)
					addr = fmt.Sprintf("%s:%d", held, r.port)
				}
				var lc net.ListenConfig
				if shared {
					lc = share(network)
				}
				var holder interface{ Close() error }
				var err error
				if network == "udp" {
					holder, err = lc.ListenPacket(context.Background(), "udp4", addr)
				} else {
					holder, err = lc.Listen(context.Background(), "tcp4", addr)
				}
				if err != nil {
					t.Fatal(err)
				}
				before := descriptors(t)
				spec, free := r.spec("127.0.0.1"), r.spec("127.0.0.6")
				free.Addr = fmt.Sprintf("127.0.0.6:%d", freePort(t))
				spec.Pos = corefile.Pos{Source: &corefile.Source{Name: "Corefile"}, Line: 3, Col: 2}
				_, err = r.s.Bind([]ListenSpec{free, spec})
				if err == nil || !strings.Contains(err.Error(), "another process holds the port") || !strings.Contains(err.Error(), "Corefile:3:2") {
					t.Errorf("%s held by %s, shared %v: %v", network, addr, shared, err)
				}
				if after := descriptors(t); after != before {
					t.Errorf("%d descriptors, %d before", after, before)
				}
				holder.Close()
				if opened, err := r.s.Bind([]ListenSpec{spec}); err != nil {
					t.Errorf("the port is free again: %v", err)
				} else {
					r.s.Discard(opened)
				}
				r.stop()
			}
		}
	}
}

func TestAddressesThatAreNotOurs(t *testing.T) {
	r := newRig(t)
	for addr, want := range map[string]string{"203.0.113.77": "no interface", "nonsense.invalid": ""} {
		if _, err := r.s.Bind([]ListenSpec{r.spec(addr)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestInFlightAndQuiet(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	config := r.s.listeners[r.spec("127.0.0.1").Key()].table.Load().Config
	c := r.dial("udp", "127.0.0.1")
	ask(t, c, "a.example", 0)
	if q := r.s.Quiet(); q > time.Second {
		t.Errorf("quiet for %v", q)
	}
	time.Sleep(50 * time.Millisecond)
	if q := r.s.Quiet(); q < 30*time.Millisecond {
		t.Errorf("quiet for %v", q)
	}
	write(t, c, query("park.example", 1, 0))
	r.until("it is in flight", func() bool { return r.s.InFlight(context.Background(), config) == 1 })
	if n := r.s.InFlight(context.Background(), &chain.Config{}); n != 0 {
		t.Errorf("%d in flight of another configuration", n)
	}
	r.release("park", 1)
	r.until("it is through", func() bool { return r.s.InFlight(context.Background(), config) == 0 })
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	r.s.InFlight(gone, config)
}

func TestStopClosesEverything(t *testing.T) {
	before := descriptors(t)
	r := newRig(t, "", "127.0.0.1")
	c := r.dial("tcp", "127.0.0.1")
	write(t, c, frame(query("park.example", 1, 0)))
	ask(t, r.dial("udp", "::1"), "a.example", 0)
	r.stop()
	ended(t, c)
	c.Close()
	r.until("the descriptors are closed", func() bool { return descriptors(t) <= before+1 }) // the test's own UDP socket
}

func TestRouting(t *testing.T) {
	r := newRig(t)
	table := &Table{}
	add := func(zone, view string, pass bool) {
		var b chain.Builder
		b.Add("rig", r)
		c := b.Chain().WithZone(zone)
		c.View = view
		if view != "" {
			c.Filters = []func(*chain.Query) bool{func(*chain.Query) bool { return pass }}
		}
		table.Add(mustName(zone), c)
	}
	add(".", "", true)
	add("example.org.", "no", false)
	add("example.org.", "yes", true)
	add("example.org.", "", true)
	add("sub.example.org.", "no", false)
	for _, c := range []struct {
		name, typ  string
		zone, view string
	}{
		{"a.example.org.", "A", "example.org.", "yes"},
		{"example.org.", "A", "example.org.", "yes"},
		{"x.sub.example.org.", "A", "example.org.", "yes"},
		{"notexample.org.", "A", ".", ""},
		{"org.", "A", ".", ""},
		{".", "A", ".", ""},
	} {
		q := r.s.workers[0].Get()
		q.SetQuestion(mustName(c.name), mustType(c.typ))
		if got := table.Route(q); got == nil || got.Zone != c.zone || got.View != c.view {
			t.Errorf("%s %s goes to %+v", c.name, c.typ, got)
		}
	}
}
