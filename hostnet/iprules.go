package hostnet

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// ipStage is how much of the rules stands.
type ipStage uint8

const (
	ipWhole  ipStage = iota
	ipEnding         // the lease is given up: nothing is diverted, answers on their way still leave
)

// ipListName is the list of xt_recent that is the lease; one for each family, for its entries are masked by the first one's.
func ipListName(f family) string { return "godwit" + f.suffix }

// ipList names the list in a rule. Without the mask, which is the default, the rule could not be deleted: iptables-save
// writes it, and what iptables reads from that is not what it was given.
func ipList(f family) string {
	if f.proto == unix.NFPROTO_IPV4 {
		return "--name " + ipListName(f) + " --mask 255.255.255.255"
	}
	return "--name " + ipListName(f) + " --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
}

// ipRules are the rules of iptables mode: node-cache's twelve for each address, of which those about queries hold while the
// lease does, and those of the probe. What carries the agent's id is its own, all else is shared with a successor.
func (h *Host) ipRules(stage ipStage) (list []ipRule) {
	for _, f := range bothFamilies() {
		for _, ip := range h.cfg.Addresses {
			if uint32(ip.BitLen()) == 8*f.size {
				list = append(list, h.ipAddressRules(f, ip, stage)...)
			}
		}
		for _, chain := range []string{"INPUT", "OUTPUT"} {
			list = append(list, ipAccepts(&h.cfg, f, "filter", chain)...)
		}
	}
	return list
}

func (h *Host) ipAddressRules(f family, ip netip.Addr, stage ipStage) (list []ipRule) {
	add := func(chain, what, id, format string, args ...any) {
		list = append(list, ipRule{f, "raw", chain, fmt.Sprintf(format, args...), what, id})
	}
	const untracked = "skip conntrack"
	port, health, probe := h.cfg.Port, h.cfg.HealthPort, h.cfg.probePort(f)
	leased := fmt.Sprintf("-m recent --rcheck --seconds %d %s --rdest", h.cfg.Lease/time.Second, ipList(f))
	if stage == ipWhole {
		add("OUTPUT", "lease", h.cfg.ID, "-s %s -d %[1]s -p udp --sport %d --dport %d -m recent --set %s --rsource", ip, port, probe, ipList(f))
		add("OUTPUT", "probe", h.cfg.ID, "-s %s -d %[1]s -p udp --sport %d --dport %d -j NOTRACK", ip, probe, port)
		for _, proto := range []string{"udp", "tcp"} {
			add("PREROUTING", untracked, "", "-d %s -p %s --dport %d %s -j NOTRACK", ip, proto, port, leased)
			add("OUTPUT", untracked, "", "-d %s -p %s --dport %d %s -j NOTRACK", ip, proto, port, leased)
		}
	}
	for _, proto := range []string{"udp", "tcp"} {
		add("OUTPUT", untracked, "", "-s %s -p %s --sport %d -j NOTRACK", ip, proto, port)
	}
	if health != 0 {
		add("OUTPUT", untracked, "", "-d %s -p tcp --dport %d -j NOTRACK", ip, health)
		add("OUTPUT", untracked, "", "-s %s -p tcp --sport %d -j NOTRACK", ip, health)
	}
	return list
}

// ipAccepts are node-cache's accept rules for one chain.
func ipAccepts(cfg *Config, f family, table, chain string) (list []ipRule) {
	address, port := "-d", "--dport"
	if chain == "OUTPUT" {
		address, port = "-s", "--sport"
	}
	for _, ip := range cfg.Addresses {
		for _, proto := range []string{"udp", "tcp"} {
			if uint32(ip.BitLen()) == 8*f.size {
				list = append(list, ipRule{f, table, chain, fmt.Sprintf("%s %s -p %s %s %d -j ACCEPT", address, ip, proto, port, cfg.Port), "allow DNS traffic", ""})
			}
		}
	}
	return list
}
