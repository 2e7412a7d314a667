package hostnet

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/metrics"
)

// Mode is how queries of the node's pods are brought to the agent.
type Mode uint8

// Modes. Each does what those after it do, but for Nothing.
const (
	NFTables  Mode = iota // a table of the agent's own, by netlink: needs no program, Linux 5.12
	IPTables              // node-cache's rules with a lease, by the iptables programs
	Addresses             // the interface and its addresses, no rules: nothing else answers there, or another program has rules
	Nothing               // another program brings queries: Cilium's local redirect
)

var modeNames = [...]string{"nftables", "iptables", "addresses", "nothing"}

// String is the mode's name in logs, metrics and flags.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("mode %d", m)
}

// ParseMode reads a name that String gives.
func ParseMode(s string) (Mode, error) {
	if i := slices.Index(modeNames[:], s); i >= 0 {
		return Mode(i), nil
	}
	return 0, fmt.Errorf("%q is none of %v", s, modeNames)
}

// Config says what the agent wants of its host. Open copies it; slices are not kept.
type Config struct {
	Interface string // name of the interface, whatever its type; empty: "nodelocaldns", which CNI plugins know to skip
	ID        string // this agent's: 8 hexadecimal digits, new with each start
	Mode      Mode

	// Addresses are put on the interface and are what the lease is about, IPv4 and IPv6. All are served on Port.
	Addresses  []netip.Addr
	Port       uint16 // of DNS, UDP and TCP; 0: 53
	HealthPort uint16 // connections to it on Addresses are not tracked, as in node-cache; 0: none

	// ProbePort4 and ProbePort6 are the UDP ports that the agent's lease probe is sent from, bound before Open. With rules
	// each family of Addresses needs its own.
	ProbePort4, ProbePort6 uint16

	// Fallback are the cluster's DNS servers for queries to Alone while the lease does not hold, a Service's address or
	// those of its pods; empty: none.
	Fallback []netip.Addr
	// Alone are those of Addresses that no Service has, so that nobody else answers there; nil: the link-local ones.
	Alone []netip.Addr

	Lifetime time.Duration // of addresses, whole seconds, renewed every third of it; 0: 15 s
	Lease    time.Duration // how long an answer to the probe counts; 0: 1.5 s. iptables counts whole seconds, rounded down
	Conns    time.Duration // how long a silent TCP connection stays the agent's; 0: 60 s

	// Check is the time between two looks at the rules, for changes that the kernel did not tell of; 0: a minute. Where
	// there are tables of iptables-legacy, of whose changes it never tells, it is 10 s at most.
	Check time.Duration
	// Failed is told of each look after which something is not as it should be: of the interface, or of the rules. It is
	// called by Run's goroutines. nil: nobody is.
	Failed func(rules bool, err error)

	ManageInterface bool // -setupinterface: make the interface, put the addresses there
	ManageRules     bool // -setupiptables: in NFTables and IPTables mode

	Log     *slog.Logger      // nil: nothing is logged
	Metrics *metrics.Registry // nil: nothing is exported
}

// Defaults of Config.
const (
	defaultInterface = "nodelocaldns"
	defaultPort      = 53
	defaultLifetime  = 15 * time.Second
	defaultLease     = 1500 * time.Millisecond
	defaultConns     = time.Minute
	defaultCheck     = time.Minute
	shortestLifetime = 3 * time.Second
	shortestLease    = 100 * time.Millisecond
)

func (c *Config) setDefaults() {
	def(&c.Interface, defaultInterface)
	def(&c.Port, defaultPort)
	def(&c.Lifetime, defaultLifetime)
	def(&c.Lease, defaultLease)
	def(&c.Conns, defaultConns)
	def(&c.Check, defaultCheck)
	if c.Failed == nil {
		c.Failed = func(bool, error) {}
	}
	def(&c.Log, slog.New(slog.DiscardHandler))
	def(&c.Metrics, metrics.New(0))
	c.Addresses, c.Fallback, c.Alone = slices.Clone(c.Addresses), slices.Clone(c.Fallback), slices.Clone(c.Alone)
	if c.Alone == nil {
		for _, ip := range c.Addresses {
			if ip.IsLinkLocalUnicast() {
				c.Alone = append(c.Alone, ip)
			}
		}
	}
}

func def[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

func (c *Config) rules() bool { return c.ManageRules && c.Mode <= IPTables }

func (c *Config) ownInterface() bool { return c.ManageInterface && c.Mode <= Addresses }

func (c *Config) probePort(f family) uint16 {
	if f.proto == unix.NFPROTO_IPV4 {
		return c.ProbePort4
	}
	return c.ProbePort6
}

func validID(id string) bool { return regexp.MustCompile(`^[0-9a-f]{8}$`).MatchString(id) }

func (c *Config) check() error {
	switch {
	case c.Mode > Nothing:
		return fmt.Errorf("there is no %v", c.Mode)
	case !validID(c.ID):
		return fmt.Errorf("the agent's id %q is not of 8 hexadecimal digits", c.ID)
	case len(c.Interface) >= unix.IFNAMSIZ:
		return fmt.Errorf("interface name %q: at most %d characters", c.Interface, unix.IFNAMSIZ-1)
	case c.Lifetime < shortestLifetime || c.Lifetime%time.Second != 0:
		return fmt.Errorf("lifetime of addresses %v: whole seconds, at least %v", c.Lifetime, shortestLifetime)
	case c.Lease < shortestLease || c.Mode == IPTables && c.Lease < time.Second:
		return fmt.Errorf("lease %v: at least %v, with iptables 1s", c.Lease, shortestLease)
	case c.Conns < time.Second:
		return fmt.Errorf("time of silent connections %v: at least 1s", c.Conns)
	case len(c.Addresses) == 0 && (c.rules() || c.ownInterface()):
		return errors.New("no local addresses are given")
	}
	for _, ip := range c.Addresses {
		if !ip.IsValid() || ip.Is4In6() || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLoopback() || ip.Is6() && ip.IsLinkLocalUnicast() {
			return fmt.Errorf("local address %v: an address that pods can reach without naming an interface is needed", ip)
		}
	}
	for _, f := range bothFamilies() {
		if c.rules() && len(ofFamily(c.Addresses, f)) > 0 && c.probePort(f) == 0 {
			return fmt.Errorf("no probe port for the local addresses of IPv%s: without a probe there is no lease", f.suffix)
		}
	}
	for _, ip := range c.Alone {
		if !slices.Contains(c.Addresses, ip) {
			return fmt.Errorf("address %v is to fall back but is no local address", ip)
		}
	}
	return c.checkFallback(c.Fallback)
}

func (c *Config) checkFallback(targets []netip.Addr) error {
	for _, ip := range targets {
		if !ip.IsValid() || ip.Is4In6() || ip.Zone() != "" || slices.Contains(c.Addresses, ip) {
			return fmt.Errorf("fallback address %v: one of a cluster DNS server is needed, not one that this agent answers", ip)
		}
	}
	return nil
}
