//go:build linux && !portable

package server

import (
	"math"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/loop"
)

func clientOf(addr string) client {
	b := netip.MustParseAddr(addr).As16()
	var r receiver
	copy(r.addr[0][8:], b[:])
	return r.client(0)
}

func TestClientsOfBothFamilies(t *testing.T) {
	if got := clientOf("::ffff:192.0.2.1"); got != client4(0xc0000201) || !got.is4() {
		t.Errorf("an IPv4 client on a socket of both families is %x", got)
	}
	for _, a := range []string{"::1", "::1:ffff:0:1", "2001:db8::1", "1::ffff:192.0.2.1"} {
		if clientOf(a).is4() {
			t.Errorf("%s counts as IPv4", a)
		}
	}
	if clientOf("2001:db8::1") == clientOf("2001:db8::2") {
		t.Error("two pods of a node are one client")
	}
}

func TestStageCounts(t *testing.T) {
	g := newStage()
	for pass := range 3 {
		g.at, g.clients = g.at+1, 0
		of := map[client]uint16{}
		for i := range stageSize { // the most clients that there can be, some of them from the same seat on
			c := client{uint64(i % 2), uint64(i+pass) * seats}
			of[c] = g.sit(c)
			if i%3 == 0 && g.sit(c) != of[c] {
				t.Fatalf("a client has two seats")
			}
		}
		taken := map[uint16]bool{}
		for c, i := range of {
			if want := 1 + 1/(1+int(c.lo/seats-uint64(pass))%3); g.seats[i].n != want || taken[i] {
				t.Fatalf("pass %d: %v counted %d times, want %d", pass, c, g.seats[i].n, want)
			}
			taken[i] = true
		}
		if g.clients != stageSize {
			t.Errorf("%d clients", g.clients)
		}
	}
	for clients, want := range map[int]int{0: 128, 1: 128, 2: 64, 5: 25, 16: leastShare, 128: leastShare} {
		if got := share(128, clients); got != want {
			t.Errorf("%d clients have %d each, want %d", clients, got, want)
		}
	}
}

// dialFrom connects a loopback address to a port.
func dialFrom(t *testing.T, from string, to net.Addr) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, to.(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// answered reads the IDs of the answers that have come.
func answered(t *testing.T, c *net.UDPConn) (ids []int) {
	t.Helper()
	b := make([]byte, 512)
	for {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)) // an answer is there as soon as it is sent
		if _, err := c.Read(b); err != nil {
			return ids
		}
		ids = append(ids, int(b[0])<<8|int(b[1]))
	}
}

func upTo(from, to int) (list []int) {
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return list
}

func TestStageServesTheNewestOfEach(t *testing.T) {
	for name, c := range map[string]struct {
		much, little, dropped, skip int
	}{
		"unlike":       {much: 120, little: 8, dropped: 56},
		"nothing more": {much: 119, little: 8},
		"alike":        {much: 64, little: 64, skip: unstaged},
		"alone":        {much: 128},
	} {
		t.Run(name, func(t *testing.T) {
			bed := newBed(t, false)
			much := dialFrom(t, "127.0.0.2", bed.client.RemoteAddr())
			little := dialFrom(t, "127.0.0.3", bed.client.RemoteAddr())
			for i := range c.much {
				write(t, much, query("much.example.", uint16(i), 0))
			}
			for i := range c.little {
				write(t, little, query("little.example.", uint16(i), 0))
			}
			bed.u.fair.over = true
			more := c.much+c.little == stageSize
			if again := bed.u.Ready(bed.u.w.Loop, true, false); again != more || bed.u.fair.over {
				t.Errorf("Ready is %v, over is %v", again, bed.u.fair.over)
			}
			if got := answered(t, much); !slices.Equal(got, upTo(c.dropped, c.much)) {
				t.Errorf("who asks much was answered %v", got)
			}
			if got := answered(t, little); !slices.Equal(got, upTo(0, c.little)) {
				t.Errorf("who asks little was answered %v", got)
			}
			if got := bed.u.w.unfair.Value(); got != uint64(c.dropped) {
				t.Errorf("%d counted as dropped", got)
			}
			if bed.u.fair.skip != c.skip {
				t.Errorf("%d turns without a stage", bed.u.fair.skip)
			}
		})
	}
}

// TestOverloadIsAQueueHalfFull checks when a stage begins, and that the buffers of its answers are not used twice.
func TestOverloadIsAQueueHalfFull(t *testing.T) {
	bed := newBed(t, true)
	c := dialFrom(t, "127.0.0.2", bed.client.RemoteAddr())
	turn := func() bool { return bed.u.Ready(bed.u.w.Loop, true, false) }
	for i := range stageSize + 1 {
		write(t, c, query("a.example.", uint16(i), 0))
	}
	if !turn() || bed.u.fair.over {
		t.Fatal("a queue with one datagram is an overload")
	}
	turn()
	answered(t, c)
	for i := 0; !half(bed.u.fd); i++ {
		if i == 100000 {
			t.Fatal("the queue is never full")
		}
		write(t, c, query("a.example.", uint16(i), 0))
	}
	for range 2 * stageSize {
		write(t, c, query("a.example.", 7, 0))
	}
	if !turn() || !bed.u.fair.over {
		t.Fatal("a full queue is no overload")
	}
	answered(t, c)
	if !turn() || bed.u.fair.thin.stages != 1 {
		t.Fatal("no stage")
	}
	if got := answered(t, c); len(got) != stageSize {
		t.Fatalf("%d answers of a stage", len(got))
	}
}

// half reports whether a socket's queue is half full.
func half(fd int) bool {
	crowded, _ := queue(fd)
	return crowded
}

// patient is a thinner of a socket with a clock of its own.
func patient(t *testing.T) (th *thinner, now *time.Duration) {
	bed := newBed(t, false)
	old := bed.u.w.Loop
	now = new(time.Duration)
	l, err := loop.New(0, func() time.Duration { return *now })
	if err != nil {
		t.Fatal(err)
	}
	bed.u.w.Loop = l
	t.Cleanup(func() {
		l.Close()
		bed.u.w.Loop = old
	})
	bed.u.fair.thin.s = bed.u
	return &bed.u.fair.thin, now
}

// stagesOf has clients above a share of a quarter of theirs, a millisecond apart.
func (t *thinner) stagesOf(now *time.Duration, n int, clients ...client) {
	for range n {
		*now += time.Millisecond
		t.s.w.Loop.Tick()
		t.stages++
		for _, c := range clients {
			t.above(&seat{client: c, n: 100}, 25, 0, *now)
		}
	}
}

func TestThinAfterEightStages(t *testing.T) {
	th, now := patient(t)
	a, b := client4(1), client4(2)
	th.stagesOf(now, thinAfter-1, a)
	th.stagesOf(now, 1) // once within its share
	th.stagesOf(now, thinAfter-1, a, b)
	*now += thinGap // no overload for a while
	th.stagesOf(now, thinAfter-1, a)
	if len(th.clients) != 0 || filterLen(t, th.s.fd) != 0 {
		t.Fatalf("thinned: %v", th.clients)
	}
	th.stagesOf(now, 1, a, b)
	is := func(when string, c client, part float64) {
		t.Helper()
		if len(th.clients) != 1 || th.clients[0].client != c || math.Abs(float64(th.clients[0].pass)/math.MaxUint32-part) > 0.01 {
			t.Fatalf("%s: %v", when, th.clients)
		}
		if filterLen(t, th.s.fd) == 0 {
			t.Fatalf("%s: no filter", when)
		}
	}
	is("at first", a, 0.25)
	th.stagesOf(now, thinAfter, a)
	is("when that is not enough", a, 0.25*0.25)
	wait := func(d time.Duration) {
		*now += d
		th.s.w.Loop.Tick()
		th.s.w.Loop.Turn(false)
	}
	for _, after := range []time.Duration{tryAfter, 2 * tryAfter, 4 * tryAfter} {
		th.stagesOf(now, 1, a)
		is("after it was above its share", a, 0.25*0.25)
		if th.clients[0].try || filterLen(t, th.s.fd) == 0 {
			t.Fatal("no filter although it is above its share")
		}
		begin := *now
		for !th.clients[0].try && *now-begin < time.Minute {
			wait(50 * time.Millisecond)
		}
		if passed := *now - begin; passed < after || passed > after+tryAfter+100*time.Millisecond || filterLen(t, th.s.fd) != 0 {
			t.Fatalf("tried after %v, want %v", passed, after)
		}
	}
	for range 20 {
		wait(tryAfter + 10*time.Millisecond)
	}
	if len(th.clients) != 0 || filterLen(t, th.s.fd) != 0 || th.timer.Running() {
		t.Fatalf("in the end: %v", th.clients)
	}
	if got := th.s.w.thinned.Value(); got != 1 {
		t.Errorf("%d clients counted", got)
	}
}

func TestThinBounds(t *testing.T) {
	th, now := patient(t)
	var many []client
	for i := range 2 * maxBlamed {
		many = append(many, client4(uint32(i)))
	}
	th.stagesOf(now, 10*thinAfter, many...)
	if len(th.clients) != maxThinned || len(th.blamed) != maxBlamed {
		t.Errorf("%d thinned, %d blamed", len(th.clients), len(th.blamed))
	}
	long := make([]client, maxThinned) // the longest program
	for i := range long {
		long[i] = client{uint64(i + 1), 1}
	}
	th.clear()
	th.blamed = nil
	if filterLen(t, th.s.fd) != 0 || th.timer.Running() {
		t.Fatal("the filter stays")
	}
	th.stagesOf(now, thinAfter, long...)
	if len(th.clients) != maxThinned || filterLen(t, th.s.fd) != maxThinned*14+1 {
		t.Errorf("%d thinned, %d instructions", len(th.clients), filterLen(t, th.s.fd))
	}
}

// TestPauseTakesTheFilterAway checks that, and that the sockets of a successor have none either.
func TestPauseTakesTheFilterAway(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	fds := func() (list []*udpSocket) {
		for _, l := range r.s.listeners {
			for i := range l.udp {
				list = append(list, l.udp[i]...)
			}
		}
		return list
	}()
	thin := func() {
		for _, u := range fds {
			_ = u.w.RunOn(t.Context(), func(*chain.Worker) {
				th := &u.fair.thin
				th.s, th.clients = u, []thinned{{client: client4(1), at: time.Hour}}
				th.attach()
			})
			if filterLen(t, u.fd) == 0 {
				t.Fatal("no filter")
			}
		}
	}
	thin()
	r.s.Pause()
	for _, u := range fds {
		if filterLen(t, u.fd) != 0 {
			t.Error("a filter stays after Pause")
		}
	}
	r.s.Continue()
	thin()
	inherited, err := r.s.Export()
	if err != nil {
		t.Fatal(err)
	}
	next := startRig(t, r.port, Options{Loops: 2, Inherited: inherited}, "127.0.0.1")
	for _, u := range fds {
		if filterLen(t, u.fd) != 0 {
			t.Error("a filter is inherited")
		}
	}
	next.stop()
}
