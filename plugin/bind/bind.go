// Package bind says which addresses a server block listens on.
//
//	bind ADDRESS|IFACE... {
//	    except ADDRESS|IFACE...
//	}
package bind

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
)

// Spec is the bind directive.
var Spec = chain.Spec{
	Name: "bind",
	Usage: `bind ADDRESS|IFACE... {
    except ADDRESS|IFACE...
}`,
	Options: func() corefile.Options { return options(new([]corefile.Word)) },
	New:     setup,
}

// setup adds up the addresses of all lines. Interfaces have the addresses that they have now: a reload looks again.
func setup(s *chain.Setup) error {
	interfaces, err := net.Interfaces()
	if err != nil {
		s.Warn(corefile.Warning{Pos: s.Pos(), Text: fmt.Sprintf("bind cannot list interfaces, so only addresses can be bound to: %v", err)})
	}
	s.Block.Bind = []chain.Bound{}
	for i := range s.Lines {
		l := &s.Lines[i]
		if err := corefile.ArgCount(l, 1, -1, "ADDRESS|IFACE..."); err != nil {
			return err
		}
		var except []corefile.Word
		warnings, err := options(&except).Read(l)
		s.Warn(warnings...)
		if err != nil {
			return err
		}
		bound, err := resolve(l.Args, interfaces)
		if err != nil {
			return err
		}
		left, err := resolve(except, interfaces)
		if err != nil {
			return err
		}
		s.Block.Bind = append(s.Block.Bind, slices.DeleteFunc(bound, func(b chain.Bound) bool {
			return slices.ContainsFunc(left, func(e chain.Bound) bool { return e.Addr == b.Addr })
		})...)
	}
	if len(s.Block.Bind) == 0 {
		s.Warn(corefile.Warning{Pos: s.Pos(), Text: "bind leaves no address: nothing is served for this block"})
	}
	return nil
}

func options(except *[]corefile.Word) corefile.Options {
	return corefile.Options{{Name: "except", Usage: "ADDRESS|IFACE...", Min: 1, Max: -1, Read: func(l *corefile.Line) error {
		*except = l.Args
		return nil
	}}}
}

// resolve gives the addresses of words, those of an interface in the order the system lists them.
func resolve(words []corefile.Word, interfaces []net.Interface) (all []chain.Bound, err error) {
	for _, w := range words {
		i := slices.IndexFunc(interfaces, func(i net.Interface) bool { return i.Name == w.Text })
		if i >= 0 {
			addrs, err := interfaces[i].Addrs()
			if err != nil {
				return nil, corefile.Errorf(w.Pos, "the addresses of interface %s: %v", w.Text, err)
			}
			for _, a := range addresses(addrs, w.Text) {
				all = append(all, chain.Bound{Addr: a, Pos: w.Pos})
			}
			continue
		}
		if a, err := netip.ParseAddr(w.Text); err != nil || a.Zone() != "" {
			e := corefile.Errorf(w.Pos, "%q is neither an address nor an interface of this host", w.Text)
			if near := corefile.Nearest(w.Text, names(interfaces)); near != "" {
				e.Hint = "did you mean " + near + "?"
			}
			return nil, e
		}
		all = append(all, chain.Bound{Addr: w.Text, Pos: w.Pos})
	}
	return all, nil
}

// addresses gives an interface's addresses; link-local ones of IPv6 need its name (RFC 4007, 11).
func addresses(addrs []net.Addr, name string) (all []string) {
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, _ := netip.AddrFromSlice(n.IP)
		if ip = ip.Unmap(); ip.Is6() && (ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast()) {
			ip = ip.WithZone(name)
		}
		all = append(all, ip.String())
	}
	return all
}

func names(interfaces []net.Interface) (all []string) {
	for _, i := range interfaces {
		all = append(all, i.Name)
	}
	return all
}
