package hostnet

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Whatever another program does to what the agent set up is undone, and counted.
func TestRepairs(t *testing.T) {
	if !node(t) {
		return
	}
	lab(t)
	s := spec(NFTables)
	s.Fallback = serverIP[:1]
	a := up(t, s)
	for _, damage := range []struct{ what, by string }{
		{repairLink, "ip link set nodelocaldns down"},
		{repairLink, "ip link del nodelocaldns"},
		{repairAddress, "ip addr del 10.96.0.10/32 dev nodelocaldns"},
		{repairAddress, "ip addr del fd96::10/128 dev nodelocaldns"},
		{repairAddress, `printf 'addr del %s dev nodelocaldns\n' 169.254.20.10/32 10.96.0.10/32 fd96::10/128 | ip -batch -`},
		{repairFallback, "nft delete table inet godwit_fallback"},
		{repairFallback, "nft flush chain inet godwit_fallback pre"},
		{repairFallback, "nft add rule inet godwit_fallback pre drop"},
	} {
		before := repairs(t, a, damage.what)
		run(t, damage.by)
		waitFor(t, "repair of "+damage.by, slack, func() bool { return repairs(t, a, damage.what) > before })
		for _, ip := range s.Addresses {
			eventually(t, "pod", "udp", ip, "agent", byLease)
		}
	}
	if got := a.tell("alias"); got != "godwit" {
		t.Errorf("the interface has the alias %q", got)
	}
	// The addresses are renewed: they live longer than their lifetime.
	run(t, "ip addr change 10.96.0.10/32 dev nodelocaldns valid_lft 7 preferred_lft 0")
	time.Sleep(8 * time.Second)
	eventually(t, "pod", "udp", serviceIP[0], "agent", 0)
}

func TestRepairsIPTables(t *testing.T) {
	if !node(t) {
		return
	}
	lab(t)
	useBackend(t, "nft")
	s := spec(IPTables)
	s.Fallback = serverIP[:1]
	a := up(t, s)
	for _, by := range []string{"iptables-nft -t raw -F", "ip6tables-nft -t raw -F PREROUTING", "iptables-nft -F INPUT"} {
		before := repairs(t, a, repairRules)
		run(t, by)
		waitFor(t, "repair of "+by, legacyLook+slack, // looks are paid for by pauses
			func() bool { return repairs(t, a, repairRules) > before })
		for _, ip := range s.Addresses {
			eventually(t, "pod", "udp", ip, "agent", byLease)
		}
	}
	before := repairs(t, a, repairFallback)
	run(t, "nft delete table inet godwit_fallback")
	waitFor(t, "repair of the fallback", legacyLook+slack, func() bool { return repairs(t, a, repairFallback) > before })
}

// Of iptables-legacy's changes the kernel tells nobody: they are looked for.
func TestRepairsLegacy(t *testing.T) {
	if !node(t) {
		return
	}
	lab(t)
	useBackend(t, "legacy")
	a := up(t, spec(IPTables))
	before := repairs(t, a, repairRules)
	run(t, "iptables-legacy -t raw -F")
	waitFor(t, "repair", legacyLook+slack, func() bool { return repairs(t, a, repairRules) > before })
	eventually(t, "pod", "udp", serviceIP[0], "agent", byLease)
}

func repairs(t *testing.T, a *agent, what string) int {
	t.Helper()
	n, err := strconv.Atoi(a.tell("repairs " + what))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Hosts that drop by default what comes in, each in its own way: without accept rules pods get no answer.
func TestFiltered(t *testing.T) {
	if !node(t) {
		return
	}
	lab(t)
	const inet = `nft 'table inet filter { chain input { type filter hook input priority 0; %s }; }'`
	for _, way := range []struct{ name, set, unset string }{
		{"iptables-nft policy", "iptables-nft -P INPUT DROP; ip6tables-nft -P INPUT DROP", "iptables-nft -P INPUT ACCEPT; ip6tables-nft -P INPUT ACCEPT"},
		{"iptables-nft last rule", "iptables-nft -A INPUT -j REJECT; ip6tables-nft -A INPUT -j DROP", "iptables-nft -D INPUT -j REJECT; ip6tables-nft -D INPUT -j DROP"},
		{"iptables-legacy policy", "iptables-legacy -P INPUT DROP; ip6tables-legacy -P INPUT DROP; iptables-legacy -P OUTPUT DROP", "iptables-legacy -P INPUT ACCEPT; ip6tables-legacy -P INPUT ACCEPT; iptables-legacy -P OUTPUT ACCEPT"},
		{"iptables-legacy last rule", "iptables-legacy -A INPUT -j DROP; ip6tables-legacy -A INPUT -j REJECT", "iptables-legacy -D INPUT -j DROP; ip6tables-legacy -D INPUT -j REJECT"},
		{"nftables policy", strings.Replace(inet, "%s", "policy drop; icmpv6 type != 1 accept; iif lo accept;", 1), "nft delete table inet filter"},
		{"nftables last rule", strings.Replace(inet, "%s", "policy accept; icmpv6 type != 1 accept; iif lo accept; counter reject;", 1), "nft delete table inet filter"},
		{"nftables output", `nft 'table inet filter { chain out { type filter hook output priority 0; policy drop; oif lo accept; icmpv6 type != 1 accept; }; }'`, "nft delete table inet filter"},
	} {
		icmp := "ip6tables-nft -I INPUT -p icmpv6 -j ACCEPT; ip6tables-legacy -I INPUT -p icmpv6 -j ACCEPT; iptables-nft -I INPUT -i lo -j ACCEPT; ip6tables-nft -I INPUT -i lo -j ACCEPT; iptables-legacy -I INPUT -i lo -j ACCEPT; ip6tables-legacy -I INPUT -i lo -j ACCEPT; iptables-legacy -I OUTPUT -o lo -j ACCEPT; "
		run(t, icmp+way.set)
		a := up(t, spec(NFTables))
		for _, ip := range both() {
			eventually(t, "pod", "tcp", ip, "agent", byLease)
		}
		untracked(t)
		n := rulesOf(t)
		a.must("up") // nothing is doubled
		if again := rulesOf(t); again != n {
			t.Errorf("%s: %d rules became %d", way.name, n, again)
		}
		if strings.HasPrefix(way.name, "nftables") {
			before := repairs(t, a, repairFilter)
			run(t, "nft flush chain inet filter $(nft list table inet filter | awk '/chain/{print $2}')", "nft delete table inet filter", way.set)
			waitFor(t, "accept rules are back", slack, func() bool { return repairs(t, a, repairFilter) > before })
			eventually(t, "pod", "udp", serviceIP[0], "agent", byLease)
		}
		a.must("giveup", "down")
		a.kill()
		run(t, way.unset)
		if left := leftovers(t); left != "" {
			t.Errorf("%s: left behind:\n%s", way.name, left)
		}
		run(t, "iptables-nft -F; ip6tables-nft -F; iptables-legacy -F; ip6tables-legacy -F; conntrack -F 2>/dev/null; true")
	}
}

// The lab's hosts do drop what Filtered names, so that the test above can fail.
func TestFilteredSays(t *testing.T) {
	if !node(t) {
		return
	}
	lab(t)
	run(t, "nft 'table inet filter { chain input { type filter hook input priority 0; policy drop; }; chain fine { type filter hook input priority 1; tcp dport 22 drop; }; }'",
		"iptables-nft -A OUTPUT -j REJECT", "iptables-legacy -P INPUT DROP", "ip6tables-legacy -A INPUT -j DROP", "ip6tables-legacy -A OUTPUT -s fd00::1 -j DROP")
	list, err := Filtered(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range list {
		got = append(got, f.String()+" policy "+strconv.FormatBool(f.Policy)+" output "+strconv.FormatBool(f.Output))
	}
	want := []string{
		"chain input of table inet filter policy true output false",
		"chain OUTPUT of table ip filter policy false output true",
		"chain INPUT of table filter of iptables-legacy (ip) policy true output false",
		"chain INPUT of table filter of iptables-legacy (ip6) policy false output false",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	run(t, "iptables-nft -F", "iptables-legacy -P INPUT ACCEPT", "ip6tables-legacy -F")
	run(t, "nft 'add rule inet filter input udp sport 53 accept'", "nft 'add rule inet filter input icmpv6 type != 1 accept'")
	s := spec(Addresses)
	s.Addresses = []netip.Addr{aloneIP}
	launch(t, s).must("up")
	if got, err := ask(t, "pod", "udp", aloneIP); err == nil {
		t.Errorf("a host that drops lets %q answer", got)
	}
	run(t, "nft delete table inet filter")
	eventually(t, "pod", "udp", aloneIP, "agent", 0)
}
