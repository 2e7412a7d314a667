package hostnet

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// nodeCacheRules sets what node-cache sets for an address, by its own words.
func nodeCacheRules(t *testing.T, backend string, ip netip.Addr) {
	t.Helper()
	program := "iptables-" + backend
	if ip.Is6() {
		program = "ip6tables-" + backend
	}
	const skip, allow = `-m comment --comment "NodeLocal DNS Cache: skip conntrack"`, `-m comment --comment "NodeLocal DNS Cache: allow DNS traffic"`
	for _, proto := range []string{"tcp", "udp"} {
		for _, r := range []string{
			"raw -I PREROUTING -p %s -d %s --dport 53 -j NOTRACK " + skip,
			"filter -I INPUT -p %s -d %s --dport 53 -j ACCEPT " + allow,
			"raw -I OUTPUT -p %s -s %s --sport 53 -j NOTRACK " + skip,
			"filter -I OUTPUT -p %s -s %s --sport 53 -j ACCEPT " + allow,
			"raw -I OUTPUT -p %s -d %s --dport 53 -j NOTRACK " + skip,
		} {
			run(t, program+" -t "+fmt.Sprintf(r, proto, ip))
		}
	}
	run(t, fmt.Sprintf("%s -t raw -I OUTPUT -p tcp -d %s --dport 8080 -j NOTRACK %s", program, ip, skip),
		fmt.Sprintf("%s -t raw -I OUTPUT -p tcp -s %s --sport 8080 -j NOTRACK %s", program, ip, skip))
}

func nodeCacheLeft(t *testing.T) int {
	t.Helper()
	return strings.Count(run(t, "iptables-nft-save; ip6tables-nft-save; iptables-legacy-save; ip6tables-legacy-save"), "NodeLocal DNS Cache")
}

func TestNodeCacheLeftoversNFTables(t *testing.T) {
	if node(t) {
		nodeCacheLeftovers(t, NFTables)
	}
}

func TestNodeCacheLeftoversIPTables(t *testing.T) {
	if node(t) {
		nodeCacheLeftovers(t, IPTables)
	}
}

// nodeCacheLeftovers has node-cache's rules in both backends, twice, and its addresses for good, one of them no longer
// wanted.
func nodeCacheLeftovers(t *testing.T, mode Mode) {
	lab(t)
	eventually(t, "pod", "udp", serviceIP[0], "server", 5*time.Second)
	stale := netip.MustParseAddr("169.254.25.10")
	for _, backend := range []string{"nft", "legacy"} {
		for range 2 {
			for _, ip := range []netip.Addr{serviceIP[0], serviceIP[1], stale} {
				nodeCacheRules(t, backend, ip)
			}
		}
		// Other programs' rules stay.
		run(t, "iptables-"+backend+` -t raw -A PREROUTING -s 192.0.2.1 -m comment --comment "NodeLocal" -j ACCEPT`)
	}
	if n := nodeCacheLeft(t); n != 2*2*3*12 {
		t.Fatalf("node-cache has %d rules", n)
	}
	run(t, "ip link add nodelocaldns type bridge", "ip link set nodelocaldns up alias godwit",
		"ip addr add 10.96.0.10/32 dev nodelocaldns", "ip addr add 169.254.25.10/32 dev nodelocaldns")

	a := launch(t, spec(mode))
	a.must("probe off", "adopt", "up")
	if n := nodeCacheLeft(t); n != 0 {
		t.Errorf("%d rules of node-cache are left", n)
	}
	for _, ip := range serviceIP {
		eventually(t, "pod", "udp", ip, "server", 0)
	}
	addresses := run(t, "ip -o addr show dev nodelocaldns")
	if strings.Contains(addresses, "169.254.25.10") || !strings.Contains(addresses, "10.96.0.10/32 scope site") || !strings.Contains(addresses, "inet6 fd96::10/128 scope global nodad deprecated dynamic") || strings.Count(addresses, "valid_lft forever") != strings.Count(addresses, "fe80:") {
		t.Errorf("addresses:\n%s", addresses)
	}
	a.must("probe on")
	for _, ip := range serviceIP {
		eventually(t, "pod", "udp", ip, "agent", byLease)
	}
	before := rulesOf(t)
	a.kill()
	s := spec(mode)
	s.ID = "0badcafe"
	b := launch(t, s)
	b.must("adopt", "up", "adopt", "up")
	if after := rulesOf(t); after != before {
		t.Errorf("%d rules and addresses became %d:\n%s", before, after, leftovers(t))
	}
	b.must("down")
	if left := leftovers(t); strings.Count(left, "\n") != 2 { // the other program's
		t.Errorf("left behind:\n%s", left)
	}
}

// rulesOf counts everything of ours on the node.
func rulesOf(t *testing.T) int {
	t.Helper()
	return strings.Count(run(t, "nft -t list ruleset; iptables-legacy-save; ip6tables-legacy-save; ip -o addr show dev nodelocaldns"), "\n")
}

// What an agent in one mode leaves is no trouble in the other.
func TestModeChanges(t *testing.T) {
	if !node(t) {
		return
	}
	lab(t)
	eventually(t, "pod", "udp", serviceIP[1], "server", 5*time.Second)
	for i, step := range []struct {
		mode    Mode
		backend string
	}{{IPTables, "legacy"}, {NFTables, ""}, {IPTables, "nft"}, {NFTables, ""}, {IPTables, "nft"}} {
		if step.backend == "nft" && i == 2 {
			useBackend(t, "nft")
		}
		s := spec(step.mode)
		s.ID, s.Fallback = fmt.Sprintf("%08x", i), serverIP[:1]
		a := up(t, s)
		left := leftovers(t)
		if strings.Contains(left, iptablesMark) != (step.mode == IPTables) || !strings.Contains(left, fallbackTable) {
			t.Errorf("step %d, in mode %v there is:\n%s", i, step.mode, left)
		}
		a.kill()
		for _, ip := range s.Addresses[:2] {
			eventually(t, "pod", "udp", ip, "server", byLease)
		}
	}
	s := spec(NFTables)
	launch(t, s).must("adopt", "up", "down")
	if left := leftovers(t); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

func TestKeep(t *testing.T) {
	if !node(t) {
		return
	}
	lab(t)
	for _, mode := range []Mode{NFTables, IPTables} {
		s := spec(mode)
		s.Fallback = serverIP[:1]
		a := up(t, s)
		a.must("giveup", "down keep")
		a.kill()
		for _, ip := range s.Addresses {
			eventually(t, "pod", "udp", ip, "server", 0)
		}
		if got := strings.Count(run(t, "ip -o addr show dev nodelocaldns"), "valid_lft forever"); got != 3 {
			t.Errorf("%v: %d addresses stay for good, not 3", mode, got)
		}
	}
	launch(t, spec(NFTables)).must("adopt", "up", "down")
	if left := leftovers(t); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// An interface that no agent made is not touched.
func TestForeignInterface(t *testing.T) {
	if !node(t) {
		return
	}
	run(t, "ip link add nodelocaldns type bridge")
	a := launch(t, spec(NFTables))
	for _, c := range []string{"adopt", "up"} {
		if got := a.tell(c); !strings.Contains(got, "was not made by an agent") {
			t.Errorf("%s: %s", c, got)
		}
	}
	a.must("down")
	if out := run(t, "ip -o link show nodelocaldns; ip -o addr show dev nodelocaldns"); strings.Count(out, "\n") != 1 {
		t.Errorf("it has become:\n%s", out)
	}
}
