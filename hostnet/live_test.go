package hostnet

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// both are the local addresses of most tests: the Service's of both families and one that no Service has.
func both() []netip.Addr { return []netip.Addr{aloneIP, serviceIP[0], serviceIP[1]} }

func spec(mode Mode) agentSpec {
	return agentSpec{ID: "00c0ffee", Mode: mode, Addresses: both(), HealthPort: 8080, Probe: 40053}
}

// times are what docs/node.md promises.
const (
	byOwner = 100 * time.Millisecond // after a death, when the kernel removes the table
	byLease = 2 * time.Second        // after a hang, and after a death with iptables
)

func TestLeaseNFTables(t *testing.T) {
	if node(t) {
		lab(t)
		leaseHolds(t, spec(NFTables), byOwner)
	}
}

func TestLeaseIPTablesNFT(t *testing.T) {
	if node(t) {
		lab(t)
		useBackend(t, "nft")
		leaseHolds(t, spec(IPTables), byLease)
	}
}

func TestLeaseIPTablesLegacy(t *testing.T) {
	if node(t) {
		lab(t)
		useBackend(t, "legacy")
		leaseHolds(t, spec(IPTables), byLease)
	}
}

// useBackend has a chain of kubelet's in one backend of iptables, which makes agents use it.
func useBackend(t *testing.T, backend string) {
	t.Helper()
	run(t, "iptables-"+backend+" -t mangle -N KUBE-KUBELET-CANARY", "ip6tables-"+backend+" -t mangle -N KUBE-KUBELET-CANARY")
}

func leaseHolds(t *testing.T, s agentSpec, death time.Duration) {
	everywhere := func(word string, within time.Duration) {
		t.Helper()
		for _, ip := range serviceIP {
			for _, where := range []string{"pod", ""} {
				for _, network := range []string{"udp", "tcp"} {
					eventually(t, where, network, ip, word, within)
				}
			}
		}
	}
	everywhere("server", 5*time.Second) // neighbours have to be found first
	a := launch(t, s)
	a.must("probe off", "adopt", "up")
	everywhere("server", time.Second) // the lease begins with an answer to the probe, not with the rules
	a.must("probe on")
	everywhere("agent", byLease)
	untracked(t)
	time.Sleep(time.Second) // for the watcher to see that it holds

	a.must("probe off")
	time.Sleep(byLease)
	everywhere("server", 0)
	waitFor(t, "a lapse of each address is counted", slack, func() bool {
		n, err := strconv.Atoi(a.tell("lapses"))
		return err == nil && n >= len(both())
	})
	a.must("probe on")
	everywhere("agent", byLease)

	a.cmd.Process.Signal(syscall.SIGSTOP)
	eventually(t, "pod", "udp", serviceIP[0], "server", byLease)
	everywhere("server", byLease)
	a.cmd.Process.Signal(syscall.SIGCONT)
	everywhere("agent", byLease)

	a.kill()
	if tables := run(t, "nft list tables"); s.Mode == NFTables && strings.Contains(tables, "godwit_"+s.ID) {
		t.Errorf("the table is still there after the agent's death:\n%s", tables)
	}
	eventually(t, "pod", "udp", serviceIP[0], "server", death)
	everywhere("server", byLease)

	s.ID = "0badcafe"
	b := launch(t, s)
	b.must("adopt", "up")
	everywhere("agent", byLease)
	b.must("giveup")
	everywhere("server", 0)
	b.must("down")
	if left := leftovers(t); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
	everywhere("server", 0)
}

// untracked holds the agent's traffic against the kernel's table of connections. A lapse on a busy machine spoils one look,
// not three.
func untracked(t *testing.T) {
	t.Helper()
	var found []string
	for range 3 {
		if found = tracked(t); len(found) == 0 {
			return
		}
		time.Sleep(time.Second)
	}
	t.Errorf("the agent's traffic is tracked:\n%s", strings.Join(found, "\n"))
}

// tracked asks the agent in every way, and gives what went wrong and what the kernel remembers.
func tracked(t *testing.T) (found []string) {
	t.Helper()
	run(t, "conntrack -F 2>/dev/null; conntrack -F -f ipv6 2>/dev/null; true")
	for _, ip := range both() {
		for _, where := range []string{"pod", ""} {
			for _, network := range []string{"udp", "tcp"} {
				if got, err := ask(t, where, network, ip); err != nil || !strings.HasPrefix(got, "agent") {
					found = append(found, fmt.Sprintf("%s to %s from %q: %q, %v", network, ip, where, got, err))
				}
			}
		}
	}
	out, err := exec.Command("sh", "-c", "conntrack -L 2>/dev/null; conntrack -L -f ipv6 2>/dev/null").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "dport=53 ") || strings.Contains(line, "sport=53 ") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}
