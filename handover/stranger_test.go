package handover

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A stranger is root in the network namespace and can't write the alias.
func TestStrangerGetsNothing(t *testing.T) {
	hello := func(c *conn) {
		_ = c.send(appendHello(nil, newID, newNonce()), -1)
		_, _, _ = c.expect(kindHello)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	for name, play := range map[string]func(c *conn){
		"leaves at once":          func(c *conn) { c.close() },
		"says nothing":            func(*conn) {},
		"begins with a proof":     func(c *conn) { _ = c.say(kindProof) },
		"begins with ready":       func(c *conn) { _ = c.say(kindReady) },
		"no nonce":                func(c *conn) { _ = c.send(appendHello(nil, newID, nil), -1) },
		"odd id":                  func(c *conn) { _ = c.send(appendHello(nil, "../../..", newNonce()), -1) },
		"version 0":               func(c *conn) { _ = c.send([]byte{byte(kindHello), tagVersion, 0, 1, 0}, -1) },
		"field without its end":   func(c *conn) { _ = c.send([]byte{byte(kindHello), tagID, 0xFF, 0xFF, 1}, -1) },
		"half a field":            func(c *conn) { _ = c.send([]byte{byte(kindHello), tagID}, -1) },
		"a field twice":           func(c *conn) { _ = c.send(appendField(appendHello(nil, newID, newNonce()), tagID, newID), -1) },
		"oversized":               func(c *conn) { _ = c.send(make([]byte, maxFrame+1), -1) },
		"only unknown frames":     func(c *conn) { floodUnknown(c) },
		"sends a descriptor":      func(c *conn) { _ = c.send(appendHello(nil, newID, newNonce()), pair[0]) },
		"hello, then silence":     hello,
		"hello, then ready":       func(c *conn) { hello(c); _ = c.say(kindReady) },
		"hello, then a bare word": func(c *conn) { hello(c); _ = c.say(kindProof) },
		"hello, then owned":       func(c *conn) { hello(c); _ = c.say(kindOwned) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			c := stranger(t, r.old.Alias())
			play(c)
			if name != "leaves at once" {
				getsNothing(t, c)
			}
			r.untouched()
			if asked, _, _ := r.side.counts(); asked != 0 {
				t.Error("the listeners were made ready for a stranger")
			}
			taken, err := r.take() // and who may is served
			if err != nil {
				t.Fatal(err)
			}
			taken.Close()
		})
	}
}

// floodUnknown sends what has to be skipped until the other side has had enough.
func floodUnknown(c *conn) {
	for c.send([]byte{200, 77, 0, 1, 0}, -1) == nil {
		time.Sleep(time.Millisecond)
	}
}

func TestStrangerOfAnotherUser(t *testing.T) {
	r := newRig(t, func(o *Old, _ *fakeSide) { o.uid = os.Geteuid() + 1 })
	c := stranger(t, r.old.Alias())
	_ = c.send(appendHello(nil, newID, newNonce()), -1)
	b, _, err := c.receive()
	if err == nil && kind(b[0]) == kindHello {
		t.Error("a process of another user was given a nonce")
	}
	r.untouched()
}

// Whoever can read the alias and not write it is no successor.
func TestWithoutTheRightToWrite(t *testing.T) {
	r := newRig(t, nil)
	if _, err := Take(t.Context(), newID, readOnly{r.side.memoryAlias}, debugLog(io.Discard)); !errors.Is(err, ErrNobody) || !errors.Is(err, unix.EPERM) {
		t.Errorf("%v", err)
	}
	r.untouched()
	if asked, _, _ := r.side.counts(); asked != 0 {
		t.Error("it got the listeners")
	}
}

// A nonce proves something only behind the name of the agent that gave it out: else a process that answers at a dead
// agent's name could let an honest successor write the nonce that it was given itself by the living one.
func TestRelayedNonce(t *testing.T) {
	r := newRig(t, nil)
	dead, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	defer dead.file.Close()
	was := r.old.Alias()
	_ = r.side.SetAlias(aliasText("0000dead", dead.name)) // what a successor reads that started before the living agent
	result := make(chan error, 1)
	go func() {
		_, err := Take(t.Context(), newID, r.side, debugLog(io.Discard))
		result <- err
	}()
	fd, err := dead.accept()
	if err != nil {
		t.Fatal(err)
	}
	victim, err := newConn(fd, true)
	if err != nil {
		t.Fatal(err)
	}
	defer victim.close()
	victim.within(time.Second)
	c := stranger(t, was)
	for _, way := range [][2]*conn{{victim, c}, {c, victim}, {victim, c}} { // hello, hello, proof
		b, _, err := way[0].receive()
		if err != nil {
			t.Fatal(err)
		}
		if err = way[1].send(b, -1); err != nil {
			t.Fatal(err)
		}
	}
	getsNothing(t, c)
	victim.close()
	if err = <-result; !errors.Is(err, ErrNobody) {
		t.Errorf("the successor was told %v", err)
	}
	r.untouched()
	if asked, _, _ := r.side.counts(); asked != 0 {
		t.Error("the stranger got the listeners")
	}
}

// A process that answers at a dead agent's name can neither feed a cache nor lend sockets.
func TestImpostor(t *testing.T) {
	pair := sockets(t)
	for name, play := range map[string]func(c *conn, alias *memoryAlias){
		"claims a proof":    func(c *conn, _ *memoryAlias) { _ = c.say(kindProof) },
		"sends a listener":  func(c *conn, _ *memoryAlias) { _ = c.send(listenerFrame(pair[0]), pair[0].FD) },
		"sends a cache":     func(c *conn, _ *memoryAlias) { _ = c.send(append(appendCacheHead(nil), 1), -1) },
		"refuses":           func(c *conn, _ *memoryAlias) { c.refuse(errors.New("go away")) },
		"leaves":            func(c *conn, _ *memoryAlias) { c.close() },
		"oversized":         func(c *conn, _ *memoryAlias) { _ = c.send(make([]byte, maxFrame+1), -1) },
		"many descriptors":  func(c *conn, _ *memoryAlias) { sendTwo(c, pair) },
		"unknown with file": func(c *conn, _ *memoryAlias) { _ = c.send([]byte{99}, pair[0].FD) },
	} {
		t.Run(name, func(t *testing.T) {
			l, err := listen()
			if err != nil {
				t.Fatal(err)
			}
			defer l.file.Close()
			alias := &memoryAlias{text: aliasText(oldID, l.name)}
			before := openFiles(t)
			played := make(chan struct{})
			go func() {
				defer close(played)
				c, err := nextThatSpeaks(l)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.close()
				_, _, _ = c.expect(kindHello)
				_ = c.send(appendHello(nil, oldID, newNonce()), -1)
				_, _, _ = c.expect(kindProof)
				play(c, alias)
				discardPackets(c)
			}()
			if _, err = Take(t.Context(), newID, alias, debugLog(io.Discard)); !errors.Is(err, ErrNobody) {
				t.Errorf("%v", err)
			}
			<-played
			if after := openFiles(t); after != before {
				t.Errorf("%d files were open, now %d: a descriptor was kept", before, after)
			}
		})
	}
}

func listenerFrame(l Listener) []byte {
	b := appendField([]byte{byte(kindListener)}, tagKey, l.Key)
	b = appendField(b, tagNetwork, l.Network)
	return appendField(b, tagAddress, l.Addr.String())
}

func sendTwo(c *conn, pair []Listener) {
	_ = c.raw.Write(func(s uintptr) bool {
		_ = unix.Sendmsg(int(s), listenerFrame(pair[0]), unix.UnixRights(pair[0].FD, pair[1].FD), nil, unix.MSG_NOSIGNAL)
		return true
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// What a proven agent sends is still held against what it says.
func TestListenersAreVerified(t *testing.T) {
	pair := sockets(t)
	udp, tcp := pair[0], pair[1]
	connected, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(connected)
	if err = unix.Bind(connected, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(connected)
	if err != nil {
		t.Fatal(err)
	}
	silent := netip.AddrPortFrom(udp.Addr.Addr(), uint16(sa.(*unix.SockaddrInet4).Port))
	for name, l := range map[string]Listener{
		"TCP for UDP":        {Network: "udp", Addr: tcp.Addr, FD: tcp.FD},
		"unknown network":    {Network: "sctp", Addr: udp.Addr, FD: udp.FD},
		"another address":    {Network: "udp", Addr: netip.AddrPortFrom(udp.Addr.Addr(), udp.Addr.Port()+1), FD: udp.FD},
		"does not listen":    {Network: "tcp", Addr: silent, FD: connected},
		"no socket at all":   {Network: "udp", Addr: udp.Addr, FD: 0},
		"not open":           {Network: "udp", Addr: udp.Addr, FD: 1 << 20},
		"UDP for TCP":        {Network: "tcp", Addr: udp.Addr, FD: udp.FD},
		"no network, no key": {Addr: udp.Addr, FD: udp.FD},
	} {
		if l.verify() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err = errors.Join(udp.verify(), tcp.verify()); err != nil {
		t.Error(err)
	}
}
