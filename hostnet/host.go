// Package hostnet holds what the node agent changes in its host's network: an interface with addresses, and rules that
// bring the pods' DNS queries to the agent for as long as it answers, and not a moment longer.
//
// Order is everything here. Sockets are bound first, then come addresses, then rules; the other way round at the end. The
// rules have a lease that begins empty, and only the answer to the agent's own probe, on its way out, renews it: no code
// does. In NFTables mode the rules stand in a table that the kernel removes with the agent's socket. So a hang ends the
// lease, a death ends the rules, and either time the cluster's servers answer again, by the kernel alone.
//
// Reading order: config.go, host.go, ruleset.go (the rules), fallback.go, watch.go (repairs), leftover.go (of dead
// agents), iptables.go (the other mode), filter.go (hosts that filter), then nft.go, link.go and netlink.go, which are the
// messages to the kernel. docs/node.md says all of it from the operator's side.
package hostnet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/metrics"
)

const (
	aliasMark    = "godwit" // begins the alias of every interface that an agent made
	longestAlias = 255      // octets, for the kernel
)

// Host is the agent's hold on its host. Its methods may be called from any goroutine.
type Host struct {
	cfg   Config
	route links
	nft   nfTables
	ipt   *iptables // nil where there are no programs
	proc  string    // where /proc is

	repairs map[string]*metrics.Counter
	lapses  *metrics.Counter
	lapsed  atomic.Uint64
	changer atomic.Pointer[string] // the program that changed the node's rules last

	ifaceMu sync.Mutex // of the interface and what follows
	alias   string     // what the interface's should be
	onLink  bool       // the interface is to be kept

	ruleMu   sync.Mutex // of the rules and what follows
	owner    transport  // the socket that the agent's own table lives by; nil: no table
	ruled    bool       // the rules are to be kept
	stage    ipStage    // how much of them, in both modes
	fallback []netip.Addr

	takesFallback bool // the kernel does; set by Open

	filtersSaid map[string]bool // filters that a warning was given of
}

// Open finds out what can be done and prepares it; it changes nothing. NFTables becomes IPTables where the kernel cannot
// have a table that its socket owns: the log and the metric godwit_node_mode say so. Close the Host with Leave or Down.
func Open(cfg Config) (*Host, error) {
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("the node's network: %w", err)
	}
	route, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	var nft transport = absent{}
	if t, err := dial(unix.NETLINK_NETFILTER); err == nil {
		nft = t
	} else if !errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, errors.Join(err, route.close())
	}
	h := newHost(cfg, route, nft)
	if err := h.probeKernel(); err != nil {
		return nil, errors.Join(err, h.closeSockets())
	}
	h.exportMetrics()
	return h, nil
}

func newHost(cfg Config, route, nft transport) *Host {
	return &Host{cfg: cfg, route: links{route}, nft: nfTables{nft}, proc: "/proc", alias: aliasMark, fallback: cfg.Fallback, filtersSaid: map[string]bool{}}
}

// errNoAdmin is what an operator has to know when the kernel refuses everything.
var errNoAdmin = errors.New(`the network of the node may not be changed: add NET_ADMIN to securityContext.capabilities.add of the container and set hostNetwork: true, or run with -setupinterface=false -setupiptables=false`)

func (h *Host) probeKernel() error {
	if !h.cfg.rules() && !h.cfg.ownInterface() {
		return nil
	}
	// An address of interface 0 can't be taken away; who may not even try is told so.
	_, err := h.route.t.talk(addressMessage(unix.RTM_DELADDR, 0, 0, netip.PrefixFrom(netip.IPv4Unspecified(), 32)))
	if errors.Is(err, unix.EPERM) {
		return errNoAdmin
	}
	if !h.cfg.rules() {
		return nil
	}
	if _, err := h.nft.tables(); err != nil {
		h.nft = nfTables{absent{h.nft.t}}
	}
	if err := h.nft.tryFallback(&h.cfg); err == nil {
		h.takesFallback = true
	} else if !errors.Is(err, unix.EPERM) {
		h.cfg.Log.Warn("the kernel does not take the nftables rules of the fallback (Linux 5.2 or newer with nf_tables is needed): while the agent does not answer nobody does at its addresses that no Service has", "addresses", h.cfg.Alone, "error", err)
	}
	h.ipt = findIPTables(h)
	if h.cfg.Mode == IPTables {
		return h.ipt.usable()
	}
	err = h.nft.try(ownRules(&h.cfg))
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EPERM) {
		return errNoAdmin
	}
	if also := h.ipt.usable(); also != nil {
		return fmt.Errorf("the kernel does not take the agent's nftables rules: %w (Linux 5.12 or newer with nf_tables is needed); and instead of them: %w", err, also)
	}
	h.cfg.Mode, h.cfg.Lease = IPTables, max(h.cfg.Lease, time.Second)
	h.cfg.Log.Warn("the kernel does not take the agent's nftables rules, so it uses iptables: after a crash of the agent queries are refused for up to a second", "error", err)
	return nil
}

// Mode is the mode in effect.
func (h *Host) Mode() Mode { return h.cfg.Mode }

func (h *Host) exportMetrics() {
	m := h.cfg.Metrics
	h.repairs = map[string]*metrics.Counter{}
	for _, what := range []string{repairLink, repairAddress, repairRules, repairFallback, repairFilter} {
		h.repairs[what] = m.Counter("godwit_node_repairs_total", "Changes by other programs to what the agent set up on the node, undone.", metrics.L("what", what)...)
	}
	h.lapses = m.Counter("godwit_node_lease_lapses_total", "Times an address's lease was seen to end without being given up.")
	for mode := NFTables; mode <= Nothing; mode++ {
		v := 0.0
		if mode == h.cfg.Mode {
			v = 1
		}
		m.Gauge("godwit_node_mode", "1 for the way in which queries are brought to the agent.", metrics.L("mode", mode.String())...).Set(v)
	}
}

// What godwit_node_repairs_total counts.
const (
	repairLink     = "link"
	repairAddress  = "address"
	repairRules    = "rules"
	repairFallback = "fallback"
	repairFilter   = "filter"
)

// Up makes the interface, puts the addresses on it and sets the rules, in this order. No query is diverted before the
// probe is answered. What is there already and right is left alone.
func (h *Host) Up(ctx context.Context) error {
	if h.cfg.ownInterface() {
		h.ifaceMu.Lock()
		h.onLink = true
		_, err := h.keepLink(true)
		h.ifaceMu.Unlock()
		if err != nil {
			return err
		}
	}
	if !h.cfg.rules() {
		return nil
	}
	h.ruleMu.Lock()
	defer h.ruleMu.Unlock()
	h.ruled = true
	if h.cfg.Mode == NFTables {
		if err := h.ownTable(); err != nil {
			return err
		}
	}
	_, err := h.keepRules(ctx)
	return err
}

// ownTable makes the agent's table, with a socket that does nothing else.
func (h *Host) ownTable() error {
	if h.owner != nil {
		return nil
	}
	owner, err := dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	if err := (nfTables{owner}).commit(ownRules(&h.cfg)); err != nil {
		return errors.Join(fmt.Errorf("making the nftables table %s%s: %w", tablePrefix, h.cfg.ID, err), owner.close())
	}
	h.owner = owner
	return nil
}

func (h *Host) fallbackRules() []fallbackRule {
	return fallbackRules(h.cfg.Alone, h.fallback, h.cfg.Port)
}

// SetFallback replaces Config.Fallback, and the rules at once when they are up. The slice is not kept.
func (h *Host) SetFallback(ctx context.Context, targets []netip.Addr) error {
	if err := h.cfg.checkFallback(targets); err != nil {
		return err
	}
	h.ruleMu.Lock()
	defer h.ruleMu.Unlock()
	h.fallback = slices.Clone(targets)
	if !h.ruled {
		return nil
	}
	_, err := h.keepRules(ctx)
	return err
}

// GiveUp is the first step of a planned exit: the lease ends now and nothing renews it, so new queries and connections go to
// the cluster's servers. In NFTables mode connections that the agent has stay its own. Addresses, and the fallback that
// serves some of them now, are still kept by Run.
func (h *Host) GiveUp(ctx context.Context) error {
	h.ruleMu.Lock()
	defer h.ruleMu.Unlock()
	if !h.ruled || h.stage == ipEnding {
		return nil
	}
	h.stage = ipEnding
	if h.cfg.Mode == IPTables {
		_, err := h.ipt.ensure(ctx, h.ipRules(h.stage))
		return err
	}
	if h.owner == nil { // Up has failed before
		return nil
	}
	own := nfTables{h.owner}
	if err := own.commit(endLease(&h.cfg)); err != nil {
		return fmt.Errorf("ending the lease of the nftables table: %w", err)
	}
	if err := own.commit(emptyLease(&h.cfg)); err != nil {
		return fmt.Errorf("ending the lease of the nftables table: %w", err)
	}
	return nil
}

// Leave is the end after a handover: only what carries this agent's id goes, nothing that its successor uses. The Host is
// closed.
func (h *Host) Leave() error {
	h.ifaceMu.Lock()
	h.onLink = false
	h.ifaceMu.Unlock()
	h.ruleMu.Lock()
	defer h.ruleMu.Unlock()
	h.ruled = false
	var err error
	if h.cfg.rules() && h.cfg.Mode == IPTables {
		err = h.ipt.removeOwn(context.Background())
	}
	return errors.Join(err, h.closeOwner(), h.closeSockets())
}

// Down is the end of an agent without a successor: rules, then addresses, then the interface go. With keep
// (-skipteardown) all stays that does not divert queries to an agent that is gone: interface, addresses (now for good),
// fallback, accept rules, and in IPTables mode the rules, whose lease has ended. While another agent lives on this node Down
// is Leave. The Host is closed.
func (h *Host) Down(ctx context.Context, keep bool) error {
	given := h.GiveUp(ctx)
	others, err := h.others()
	if err != nil || len(others) > 0 {
		return errors.Join(given, err, h.Leave())
	}
	h.ruleMu.Lock()
	h.ruled = false
	err = h.closeOwner()
	if h.cfg.rules() && !keep {
		err = errors.Join(err, h.removeRules(ctx))
	}
	h.ruleMu.Unlock()
	h.ifaceMu.Lock()
	if h.onLink {
		err = errors.Join(err, h.removeLink(keep))
	}
	h.onLink = false
	h.ifaceMu.Unlock()
	return errors.Join(given, err, h.closeSockets())
}

func (h *Host) closeOwner() error {
	if h.owner == nil {
		return nil
	}
	err := h.owner.close()
	h.owner = nil
	return err
}

func (h *Host) closeSockets() error { return errors.Join(h.route.t.close(), h.nft.t.close()) }

// Lapses is how often an address's lease was seen to end without being given up.
func (h *Host) Lapses() uint64 { return h.lapsed.Load() }

// Alias reads the interface's alias, where agents that live leave word for their successors; empty when there is no
// interface.
func (h *Host) Alias() (string, error) {
	l, err := h.route.find(h.cfg.Interface)
	if err != nil || l == nil {
		return "", err
	}
	return l.alias, nil
}

// SetAlias writes the interface's alias, and Run writes it again to an interface that it had to make anew. It takes
// NET_ADMIN in the host, which is what makes it proof. It begins with "godwit", by which an interface of ours is known; at
// most 255 octets.
func (h *Host) SetAlias(alias string) error {
	if !strings.HasPrefix(alias, aliasMark) || len(alias) > longestAlias {
		return fmt.Errorf("alias %q does not begin with %s, or has more than %d octets", alias, aliasMark, longestAlias)
	}
	h.ifaceMu.Lock()
	defer h.ifaceMu.Unlock()
	l, err := h.route.find(h.cfg.Interface)
	if err != nil {
		return err
	}
	if l == nil {
		return fmt.Errorf("there is no interface %s", h.cfg.Interface)
	}
	if err := h.route.setAlias(l.index, alias); err != nil {
		return fmt.Errorf("writing the alias of %s: %w", h.cfg.Interface, err)
	}
	h.alias = alias
	return nil
}
