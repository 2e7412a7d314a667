package hostnet

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// up launches an agent and waits until pods are answered by it.
func up(t *testing.T, s agentSpec) *agent {
	t.Helper()
	a := launch(t, s)
	a.must("adopt", "up")
	for _, ip := range s.Addresses {
		eventually(t, "pod", "udp", ip, "agent "+s.ID, byLease)
	}
	return a
}

// A connection belongs to whoever took its SYN, the agent or a server behind kube-proxy.
func TestConnectionsSurvive(t *testing.T) {
	if !node(t) {
		return
	}
	lab(t)
	begin := func(where string, ip netip.Addr, word string) (again func()) {
		t.Helper()
		c, err := open(t, where, "tcp", ip, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		again = func() {
			t.Helper()
			if got, err := exchange(c, "tcp", 2*time.Second); err != nil || !strings.HasPrefix(got, word) {
				t.Errorf("on the connection of %q to %s: %q, %v, not %s", where, ip, got, err, word)
			}
		}
		again()
		return again
	}
	eventually(t, "pod", "tcp", serviceIP[1], "server", 5*time.Second)
	var servers, agents []func()
	for _, ip := range serviceIP {
		servers = append(servers, begin("pod", ip, "server"))
	}
	a := up(t, spec(NFTables))
	for _, ip := range serviceIP {
		agents = append(agents, begin("pod", ip, "agent"), begin("", ip, "agent"))
	}
	all := func() {
		t.Helper()
		for _, again := range append(servers, agents...) {
			again()
		}
	}
	all()
	a.must("probe off")
	eventually(t, "pod", "udp", serviceIP[0], "server", byLease)
	eventually(t, "pod", "udp", serviceIP[1], "server", byLease)
	all()
	a.must("probe on")
	eventually(t, "pod", "udp", serviceIP[0], "agent", byLease)
	all()
	a.must("giveup")
	eventually(t, "pod", "tcp", serviceIP[0], "server", 0)
	time.Sleep(time.Second) // the probe goes on; nothing may renew
	eventually(t, "pod", "tcp", serviceIP[0], "server", 0)
	all()
}

// Nobody else can change the agent's table, and nft flush ruleset passes over it.
func TestOwner(t *testing.T) {
	if !node(t) {
		return
	}
	lab(t)
	s := spec(NFTables)
	s.Addresses = []netip.Addr{aloneIP}
	a := up(t, s)
	for _, c := range []string{"delete table inet godwit_00c0ffee", "flush table inet godwit_00c0ffee", "add element inet godwit_00c0ffee local4 { 10.0.0.1 }"} {
		if out := run(t, "nft '"+c+"' 2>&1 || true"); !strings.Contains(out, "Operation not permitted") {
			t.Errorf("nft %s: %s", c, out)
		}
	}
	run(t, "nft flush ruleset")
	if !strings.Contains(run(t, "nft list tables"), "godwit_00c0ffee") {
		t.Error("flush ruleset took the agent's table away")
	}
	eventually(t, "pod", "udp", aloneIP, "agent", 0)
	a.must("leave")
	if left := run(t, "nft list ruleset"); strings.Contains(left, "godwit_00c0ffee") {
		t.Errorf("the table is still there after leaving:\n%s", left)
	}
}

func TestNoAdmin(t *testing.T) {
	if !node(t) {
		return
	}
	for _, mode := range []Mode{NFTables, IPTables, Addresses} {
		s := spec(mode)
		s.NoAdmin = true
		h := begin(t, s).line()
		if !strings.Contains(h, "NET_ADMIN") || !strings.Contains(h, "hostNetwork") {
			t.Errorf("%v: without NET_ADMIN: %q", mode, h)
		}
	}
}

// Two agents at once: a handover.
func TestSuccessorNFTables(t *testing.T) {
	if node(t) {
		lab(t)
		successor(t, NFTables)
	}
}

func TestSuccessorIPTables(t *testing.T) {
	if node(t) {
		lab(t)
		useBackend(t, "legacy")
		successor(t, IPTables)
	}
}

func successor(t *testing.T, mode Mode) {
	s := spec(mode)
	s.Fallback = serverIP[:1]
	a := up(t, s)
	socket := fmt.Sprintf("@godwit-test-%d", time.Now().UnixNano())
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	a.must("setalias godwit/1 " + s.ID + " " + strings.TrimPrefix(socket, "@"))

	s.ID, s.Probe, s.Fallback = "0badcafe", 40054, []netip.Addr{serverIP[0], podIP[0]}
	b := launch(t, s)
	b.must("adopt", "up")
	if got := b.tell("alias"); !strings.HasPrefix(got, "godwit/1 00c0ffee ") {
		t.Errorf("the new agent finds the alias %q", got)
	}
	b.must("setalias godwit/1 0badcafe " + strings.TrimPrefix(socket, "@"))
	stop := make(chan struct{})
	failed := make(chan error, 1)
	go func() { // pods go on asking; with SO_REUSEPORT either answers
		var first error
		for {
			select {
			case <-stop:
				failed <- first
				return
			default:
			}
			if got, err := askFor(t, "pod", "udp", serviceIP[0], slack); first == nil && (err != nil || !strings.HasPrefix(got, "agent")) {
				first = fmt.Errorf("%q, %v", got, err)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	time.Sleep(time.Second) // the new lease has begun
	b.must("up")
	before := repairs(t, a, repairFallback) + repairs(t, a, repairRules)
	time.Sleep(time.Second)
	if n := repairs(t, a, repairFallback) + repairs(t, a, repairRules) - before; n > 0 {
		t.Errorf("the old agent has undone %d of the new one's changes", n)
	}
	a.must("leave")
	time.Sleep(time.Second)
	close(stop)
	if err := <-failed; err != nil {
		t.Errorf("during the handover: %v", err)
	}
	a.kill()
	left := leftovers(t)
	if strings.Contains(left, "00c0ffee") || !strings.Contains(left, "nodelocaldns") || !strings.Contains(left, "10.96.0.10") {
		t.Errorf("after the handover:\n%s", left)
	}
	for _, ip := range s.Addresses {
		eventually(t, "pod", "udp", ip, "agent 0badcafe", byLease)
	}
	l.Close()
	b.must("giveup", "down")
	if left := leftovers(t); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// A port that had a connection to the agent a moment ago is free for one to another server.
func TestPortIsUsedAgain(t *testing.T) {
	if !node(t) {
		return
	}
	lab(t)
	eventually(t, "pod", "tcp", serviceIP[0], "server", 5*time.Second)
	a := up(t, spec(NFTables))
	ask := func(word string) {
		t.Helper()
		c := from(t, "tcp", 45000, serviceIP[0])
		if got, err := exchange(c, "tcp", time.Second); err != nil || !strings.HasPrefix(got, word) {
			t.Errorf("from the port: %q, %v, not %s", got, err, word)
		}
		c.(*net.TCPConn).SetLinger(0) // no TIME_WAIT
		c.Close()
	}
	ask("agent")
	a.must("giveup")
	ask("server")
	ask("server")
}

// from connects the pod from a port of its.
func from(t *testing.T, network string, port uint16, to netip.Addr) (c net.Conn) {
	t.Helper()
	inside(t, "pod", func() {
		d := net.Dialer{Control: reuse, Timeout: time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(podIP[0], port))}
		if network == "udp" {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(podIP[0], port))
		}
		var err error
		if c, err = d.Dial(network, netip.AddrPortFrom(to, 53).String()); err != nil {
			t.Fatal(err)
		}
	})
	return c
}

func reuse(_, _ string, c syscall.RawConn) (err error) {
	also := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	if err == nil {
		err = also
	}
	return err
}
