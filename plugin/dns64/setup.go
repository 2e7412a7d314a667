package dns64

import (
	"net"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
)

// Spec is the dns64 directive.
var Spec = chain.Spec{
	Name:    "dns64",
	Usage:   "dns64 [PREFIX]",
	Options: func() corefile.Options { return new(settings).rows() },
	New:     setup,
}

// wellKnown is 64:ff9b::/96 (RFC 6052, 2.1).
func wellKnown() net.IPNet {
	return net.IPNet{IP: net.IP{1: 0x64, 2: 0xff, 3: 0x9b, 15: 0}, Mask: net.CIDRMask(96, 128)}
}

func setup(s *chain.Setup) error {
	d := &DNS64{settings: settings{prefix: wellKnown()}, wall: s.Env.Wall, translated: newCounters(s.Env)}
	for i := range s.Lines {
		if err := d.read(s, &s.Lines[i]); err != nil {
			return err
		}
	}
	s.Handler(d)
	return nil
}

// read takes one line. Behind a prefix CoreDNS does not see the block, and reads its lines as if each were the directive:
// their arguments are prefixes, their names mean nothing. So that a Corefile means the same here, so do we.
func (o *settings) read(s *chain.Setup, l *corefile.Line) error {
	if err := corefile.ArgCount(l, 0, 1, "[PREFIX]"); err != nil {
		return err
	}
	if len(l.Args) == 0 {
		warnings, err := o.rows().Read(l)
		s.Warn(warnings...)
		return err
	}
	if err := o.readPrefix(l.Args[0]); err != nil {
		return err
	}
	for i := range l.Block {
		option := &l.Block[i]
		if len(option.Args) == 0 && option.Block == nil {
			s.Warn(corefile.Warning{Pos: option.Name.Pos, Text: option.Name.Text +
				" has no effect behind a prefix, as in CoreDNS: write the prefix into the block, as prefix " + l.Args[0].Text})
		}
		if err := o.read(s, option); err != nil {
			return err
		}
	}
	return nil
}

func (o *settings) rows() corefile.Options {
	return corefile.Options{
		{Name: "prefix", Usage: "PREFIX", Min: 1, Max: -1, Read: func(l *corefile.Line) error {
			if err := o.readPrefix(l.Args[0]); err != nil {
				return err
			}
			return o.more(l.Args[1:])
		}},
		o.flag("translate_all", &o.all),
		o.flag("allow_ipv4", &o.ipv4),
	}
}

func (o *settings) flag(name string, dst *bool) corefile.Row {
	return corefile.Row{Name: name, Max: -1, Read: func(l *corefile.Line) error {
		*dst = true
		return o.more(l.Args)
	}}
}

// more reads what follows an option in its line: CoreDNS takes further options there.
func (o *settings) more(words []corefile.Word) error {
	if len(words) == 0 {
		return nil
	}
	_, err := o.rows().Read(&corefile.Line{Block: []corefile.Line{{Name: words[0], Args: words[1:]}}})
	return err
}

// readPrefix takes a network in CIDR notation; bits behind its length are dropped.
func (o *settings) readPrefix(w corefile.Word) error {
	_, network, err := net.ParseCIDR(w.Text)
	if err != nil {
		return corefile.Errorf(w.Pos, "%q is no prefix such as 64:ff9b::/96", w.Text)
	}
	bits, total := network.Mask.Size()
	if total != 128 {
		return corefile.Errorf(w.Pos, "%q is a network of IPv4: the prefix is one of IPv6, such as 64:ff9b::/96", w.Text)
	}
	if bits < 32 || bits > 96 || bits%8 != 0 {
		return corefile.Errorf(w.Pos, "a prefix has 32 to 96 bits in steps of eight, not %d", bits)
	}
	o.prefix = *network
	return nil
}
