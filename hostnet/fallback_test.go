package hostnet

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Addresses that no Service has go to the cluster's servers while no agent answers, through whatever kube-proxy has for the
// Service.
func TestFallbackNFTables(t *testing.T) {
	if node(t) {
		labWith(t, "nftables")
		fallback(t, NFTables, byOwner)
	}
}

func TestFallbackBesideIPTablesNFT(t *testing.T) {
	if node(t) {
		labWith(t, "iptables-nft")
		fallback(t, NFTables, byOwner)
	}
}

func TestFallbackBesideIPTablesLegacy(t *testing.T) {
	if node(t) {
		labWith(t, "iptables-legacy")
		fallback(t, NFTables, byOwner)
	}
}

func TestFallbackIPTablesNFT(t *testing.T) {
	if node(t) {
		labWith(t, "iptables-nft")
		useBackend(t, "nft")
		fallback(t, IPTables, byLease)
	}
}

func TestFallbackIPTablesLegacy(t *testing.T) {
	if node(t) {
		labWith(t, "iptables-legacy")
		useBackend(t, "legacy")
		fallback(t, IPTables, byLease)
	}
}

// alone are the addresses that no Service has.
func alone() []netip.Addr { return []netip.Addr{aloneIP, alone6IP} }

func fallbackSpec(mode Mode) agentSpec {
	s := spec(mode)
	s.Addresses = append(alone(), serviceIP[:]...)
	s.Alone, s.Fallback = alone(), upstreamIP[:]
	return s
}

// answered waits until everybody who asks an address that no Service has is answered so.
func answered(t *testing.T, word string, within time.Duration) {
	t.Helper()
	for _, ip := range alone() {
		for _, where := range []string{"pod", ""} {
			for _, network := range []string{"udp", "tcp"} {
				eventually(t, where, network, ip, word, within)
			}
		}
	}
}

func fallback(t *testing.T, mode Mode, death time.Duration) {
	checksums(t)
	s := fallbackSpec(mode)
	a := launch(t, s)
	a.must("probe off", "adopt", "up")
	answered(t, "server", time.Second)
	large(t)
	a.must("probe on")
	answered(t, "agent", byLease)

	a.cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(byLease)
	answered(t, "server", 0)
	a.cmd.Process.Signal(syscall.SIGCONT)
	answered(t, "agent", byLease)

	var taken []net.Conn
	for _, where := range []string{"pod", ""} {
		taken = append(taken, connect(t, where, "agent"))
	}
	a.kill()
	eventually(t, "pod", "udp", aloneIP, "server", death)
	time.Sleep(byLease) // in iptables mode the queries are the agent's until then
	for _, c := range taken {
		if got, err := exchange(c, "tcp", slack); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("on a connection of the dead agent: %q, %v; the client has to be told that it is over", got, err)
		}
	}
	answered(t, "server", 0)
	run(t, "ip addr flush dev nodelocaldns") // as when their lifetime is over
	answered(t, "server", 0)
	run(t, "ip link del nodelocaldns")
	answered(t, "server", 0)

	s.ID = "0badcafe"
	var b *agent
	if mode == NFTables {
		kept := connect(t, "pod", "server")
		b = up(t, s)
		if got, err := exchange(kept, "tcp", slack); err != nil || !strings.HasPrefix(got, "server") {
			t.Errorf("on a connection that the server has: %q, %v", got, err)
		}
		kept.Close()
	} else {
		b = up(t, s)
	}
	answered(t, "agent", byLease) // though conntrack and the fallback remember the clients
	b.must("giveup")
	answered(t, "server", 0)
	run(t, "nft delete table inet godwit_fallback")
	answered(t, "server", time.Second) // it is kept to the end
	b.must("down")
	if left := leftovers(t); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// connect opens a connection to an address that no Service has, and uses it.
func connect(t *testing.T, where, word string) net.Conn {
	t.Helper()
	c, err := open(t, where, "tcp", aloneIP, slack)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if got, err := exchange(c, "tcp", slack); err != nil || !strings.HasPrefix(got, word) {
		t.Fatalf("on a connection from %q: %q, %v, not %s", where, got, err, word)
	}
	return c
}

// large sends and gets many segments.
func large(t *testing.T) {
	t.Helper()
	sent := bytes.Repeat([]byte{1}, 60000)
	for _, ip := range alone() {
		for _, where := range []string{"pod", ""} {
			c, err := open(t, where, "tcp", ip, slack)
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(slack))
			if err := writeFrame(c, sent); err != nil {
				t.Error(err)
			}
			if got, err := readFrame(c); err != nil || !strings.HasSuffix(string(got), "server") || len(got) < len(sent) {
				t.Errorf("%d octets to %s from %q come back as %d: %v", len(sent), ip, where, len(got), err)
			}
			c.Close()
		}
	}
}

// checksums has the lab's links make and look at checksums, which between namespaces they would leave out.
func checksums(t *testing.T) {
	t.Helper()
	for _, at := range []struct{ where, link string }{{"", "vpod"}, {"", "vserver"}, {"pod", "eth0"}, {"server", "eth0"}} {
		inside(t, at.where, func() {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			for _, command := range []uint32{unix.ETHTOOL_STXCSUM, unix.ETHTOOL_SRXCSUM} {
				value := [2]uint32{command, 0}
				var request struct {
					name [unix.IFNAMSIZ]byte
					data unsafe.Pointer
					rest [16]byte
				}
				copy(request.name[:], at.link)
				request.data = unsafe.Pointer(&value)
				if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
					t.Fatalf("checksums of %s: %v", at.link, errno)
				}
			}
		})
	}
}

// A port that is used again gets answers from the address that it asks now.
func TestFallbackPortIsUsedAgain(t *testing.T) {
	if !node(t) {
		return
	}
	lab(t)
	other := netip.MustParseAddr("169.254.20.11")
	s := fallbackSpec(NFTables)
	s.Addresses, s.Alone = append(s.Addresses, other), append(s.Alone, other)
	launch(t, s).must("probe off", "up")
	eventually(t, "pod", "udp", aloneIP, "server", slack)
	for _, network := range []string{"udp", "tcp"} {
		for i, ip := range []netip.Addr{aloneIP, other, upstreamIP[0], aloneIP, serviceIP[0], other} {
			c := from(t, network, 45000, ip)
			if got, err := exchange(c, network, slack); err != nil || !strings.HasPrefix(got, "server") {
				t.Errorf("%s query %d, to %s: %q, %v", network, i, ip, got, err)
			}
			if c, ok := c.(*net.TCPConn); ok {
				c.SetLinger(0) // no TIME_WAIT
			}
			c.Close()
		}
	}
}

// Queries are spread over several servers; a connection stays with one.
func TestFallbackSpreads(t *testing.T) {
	if !node(t) {
		return
	}
	lab(t)
	second := netip.MustParseAddr("10.2.0.4")
	run(t, "ip -n server addr add 10.2.0.4/24 dev eth0")
	inside(t, "server", func() { serveHere(t, "second", second) })
	s := spec(NFTables)
	s.Fallback = []netip.Addr{serverIP[0], second}
	launch(t, s).must("probe off", "up")
	seen := map[string]int{}
	for i := range 60 {
		c := from(t, "tcp", uint16(20000+i), aloneIP)
		for range 3 {
			got, err := exchange(c, "tcp", slack)
			if err != nil {
				t.Fatal(err)
			}
			seen[got]++
		}
		c.Close()
		if _, err := ask(t, "pod", "udp", aloneIP); err != nil {
			t.Error(err)
		}
	}
	if len(seen) != 2 || seen["server"] < 30 || seen["second"] < 30 {
		t.Errorf("answers are of %v", seen)
	}
}

// A pod and a server on one bridge: where bridges call iptables, as Kubernetes asks, answers pass the rules too.
func TestFallbackBridge(t *testing.T) {
	if !node(t) {
		return
	}
	lab(t)
	run(t, "sysctl -qw net.bridge.bridge-nf-call-iptables=1",
		"ip link add cni0 type bridge", "ip addr add 10.3.0.1/24 dev cni0", "ip link set cni0 up")
	for i, name := range []string{"near", "beside"} {
		run(t, "ip netns add "+name, "ip link add v"+name+" type veth peer name eth0 netns "+name, "ip link set v"+name+" master cni0 up",
			"ip -n "+name+" addr add 10.3.0."+string(rune('2'+i))+"/24 dev eth0", "ip -n "+name+" link set eth0 up", "ip -n "+name+" route add default via 10.3.0.1")
	}
	inside(t, "beside", func() { serveHere(t, "beside", netip.MustParseAddr("10.3.0.3")) })
	service := netip.MustParseAddr("10.96.0.98")
	run(t, "nft add rule inet kubeproxy services ip daddr 10.96.0.98 dnat ip to 10.3.0.3")
	s := fallbackSpec(NFTables)
	s.Fallback = []netip.Addr{service}
	a := launch(t, s)
	a.must("probe off", "up")
	for _, network := range []string{"udp", "tcp"} {
		eventually(t, "near", network, service, "beside", slack)
		eventually(t, "near", network, aloneIP, "beside", 0)
	}
}

// serveHere answers in this namespace until the test's end.
func serveHere(t *testing.T, word string, at ...netip.Addr) {
	t.Helper()
	sockets, err := serve(at, word)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, s := range sockets {
			s.Close()
		}
	})
}

// A kernel that does not take the fallback's rules has an agent without.
func TestFallbackRefused(t *testing.T) {
	cfg := fallbackSpec(NFTables).config(nil)
	cfg.setDefaults()
	h := newHost(cfg, &recorder{}, nil)
	h.nft = nfTables{&canned{refusal: unix.EOPNOTSUPP}}
	h.proc = t.TempDir()
	if err := h.probeKernel(); err != nil || h.takesFallback {
		t.Errorf("takes the fallback: %v, %v", h.takesFallback, err)
	}
}
