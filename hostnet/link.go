package hostnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// link is a network interface as the kernel describes it.
type link struct {
	index  uint32
	kind   string // of a virtual interface: "dummy", "bridge"; empty for a network card
	alias  string
	up     bool
	master bool // it is a port of another interface
}

// address is an address of an interface.
type address struct {
	addr  netip.Prefix
	scope byte
}

// linkKinds are the types tried, in this order. A dummy is what node-cache makes. A bridge without ports needs no card
// and no process either, and CNI plugins that look for the node's cards leave bridges out; ifb behaves like a dummy but its
// module brings two interfaces of its own along.
var linkKinds = [...]string{"dummy", "bridge", "ifb"}

// links is rtnetlink: interfaces and their addresses.
type links struct{ t transport }

func ifinfo(index, flags, change uint32) []byte {
	b := make([]byte, 4, unix.SizeofIfInfomsg)
	return slices.Concat(b, native32(index), native32(flags), native32(change))
}

// find looks an interface up; nil when there is none of that name.
func (l links) find(name string) (*link, error) {
	answers, err := l.t.talk(message{unix.RTM_GETLINK, unix.NLM_F_ACK, append(ifinfo(0, 0, 0), str(unix.IFLA_IFNAME, name)...)})
	if errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for interface %s: %w", name, err)
	}
	for _, a := range answers {
		if found, ok := readLink(a); ok {
			return &found.link, nil
		}
	}
	return nil, nil
}

// namedLink is a link with its name, as notices tell it.
type namedLink struct {
	link
	name string
}

func readLink(m message) (found namedLink, ok bool) {
	if m.kind != unix.RTM_NEWLINK && m.kind != unix.RTM_DELLINK || len(m.body) < unix.SizeofIfInfomsg {
		return found, false
	}
	all := attrs(m.body[unix.SizeofIfInfomsg:])
	found.name = text(all[unix.IFLA_IFNAME])
	found.index = binary.NativeEndian.Uint32(m.body[4:])
	found.up = binary.NativeEndian.Uint32(m.body[8:])&unix.IFF_UP != 0
	found.kind = text(attrs(all[unix.IFLA_LINKINFO])[unix.IFLA_INFO_KIND])
	found.alias = text(all[unix.IFLA_IFALIAS])
	found.master = all[unix.IFLA_MASTER] != nil
	return found, true
}

// create makes an interface of the first type that the kernel has, and says which.
func (l links) create(name string) (kind string, err error) {
	for _, kind = range linkKinds {
		_, err = l.t.talk(message{unix.RTM_NEWLINK, unix.NLM_F_ACK | unix.NLM_F_CREATE | unix.NLM_F_EXCL, slices.Concat(
			ifinfo(0, 0, 0), str(unix.IFLA_IFNAME, name),
			nest(unix.IFLA_LINKINFO, str(unix.IFLA_INFO_KIND, kind)))})
		if !errors.Is(err, unix.EOPNOTSUPP) {
			break
		}
	}
	if err != nil {
		return "", fmt.Errorf("making interface %s: %w", name, err)
	}
	return kind, nil
}

// raise brings an interface up. It is told first to make no IPv6 link-local address: nobody asks one.
func (l links) raise(index uint32) error {
	const noAddress = 1 // IN6_ADDR_GEN_MODE_NONE
	_, err := l.t.talk(message{unix.RTM_NEWLINK, unix.NLM_F_ACK, append(ifinfo(index, 0, 0),
		nest(unix.IFLA_AF_SPEC, nest(unix.AF_INET6, attr(unix.IFLA_INET6_ADDR_GEN_MODE, []byte{noAddress})))...)})
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("keeping an interface from making addresses: %w", err) // other than: no IPv6 here
	}
	if _, err := l.t.talk(message{unix.RTM_NEWLINK, unix.NLM_F_ACK, ifinfo(index, unix.IFF_UP, unix.IFF_UP)}); err != nil {
		return fmt.Errorf("bringing an interface up: %w", err)
	}
	return nil
}

func (l links) setAlias(index uint32, alias string) error {
	_, err := l.t.talk(message{unix.RTM_NEWLINK, unix.NLM_F_ACK, append(ifinfo(index, 0, 0), attr(unix.IFLA_IFALIAS, []byte(alias))...)})
	return err
}

// remove deletes an interface; one that is gone already is no error.
func (l links) remove(index uint32) error {
	_, err := l.t.talk(message{unix.RTM_DELLINK, unix.NLM_F_ACK, ifinfo(index, 0, 0)})
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// addressScope is of IPv4: the kernel takes no address of it as the source of what leaves for the world, and Cilium, which
// leaves addresses of the scopes link and host out, knows it for one of the node's.
const addressScope = unix.RT_SCOPE_SITE

// ours reports whether the address is as put sets it: whole, and of IPv4 of no use beyond the node.
func (x address) ours() bool {
	return x.addr.IsSingleIP() && (x.addr.Addr().Is6() || x.scope == addressScope)
}

// addresses lists what an interface has.
func (l links) addresses(index uint32) (list []address, err error) {
	answers, err := l.t.talk(message{unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfAddrmsg)})
	if err != nil {
		return nil, fmt.Errorf("reading the addresses of the node: %w", err)
	}
	for _, a := range answers {
		if on, found, ok := readAddress(a); ok && on == index {
			list = append(list, found)
		}
	}
	return list, nil
}

// readAddress reads an RTM_NEWADDR or RTM_DELADDR.
func readAddress(m message) (index uint32, found address, ok bool) {
	if m.kind != unix.RTM_NEWADDR && m.kind != unix.RTM_DELADDR || len(m.body) < unix.SizeofIfAddrmsg {
		return 0, found, false
	}
	all := attrs(m.body[unix.SizeofIfAddrmsg:])
	value := all[unix.IFA_LOCAL]
	if value == nil {
		value = all[unix.IFA_ADDRESS]
	}
	ip, ok := netip.AddrFromSlice(value)
	if !ok {
		return 0, found, false
	}
	found = address{addr: netip.PrefixFrom(ip, int(m.body[1])), scope: m.body[3]}
	return binary.NativeEndian.Uint32(m.body[4:]), found, true
}

func addressMessage(kind, flags uint16, index uint32, p netip.Prefix, parts ...[]byte) message {
	family, scope := byte(unix.AF_INET), byte(addressScope)
	if p.Addr().Is6() {
		family, scope = unix.AF_INET6, 0 // the kernel reads an IPv6 address's scope off the address
	}
	body := slices.Concat([]byte{family, byte(p.Bits()), 0, scope}, native32(index),
		attr(unix.IFA_LOCAL, p.Addr().AsSlice()), attr(unix.IFA_ADDRESS, p.Addr().AsSlice()))
	return message{kind, flags | unix.NLM_F_ACK, append(body, slices.Concat(parts...)...)}
}

// put sets an address for a lifetime in whole seconds, or for ever when it is zero. It is deprecated from the start, so
// that no process of the node takes it as the source of what it sends elsewhere.
func (l links) put(index uint32, ip netip.Addr, lifetime time.Duration) error {
	valid := ^uint32(0)
	if lifetime > 0 {
		valid = uint32(lifetime / time.Second)
	}
	_, err := l.t.talk(addressMessage(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, netip.PrefixFrom(ip, ip.BitLen()),
		attr(unix.IFA_FLAGS, native32(unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE)),
		attr(unix.IFA_CACHEINFO, native32(0), native32(valid), native32(0), native32(0))))
	if err == nil {
		return nil
	}
	if ip.Is6() && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP)) {
		return fmt.Errorf("putting %s on the interface: %w: IPv6 is off there; set sysctl net.ipv6.conf.default.disable_ipv6=0 on the node or leave the address out", ip, err)
	}
	return fmt.Errorf("putting %s on the interface: %w", ip, err)
}

// drop takes an address away; one that is gone already is no error.
func (l links) drop(index uint32, p netip.Prefix) error {
	_, err := l.t.talk(addressMessage(unix.RTM_DELADDR, 0, index, p))
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("taking %s off the interface: %w", p.Addr(), err)
	}
	return nil
}
