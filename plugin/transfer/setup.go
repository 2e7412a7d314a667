package transfer

import (
	"net"
	"net/netip"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/wire"
)

// Spec is the transfer directive.
var Spec = chain.Spec{
	Name:    "transfer",
	Usage:   "transfer [ZONE...]",
	Options: func() corefile.Options { return new(policy).rows() },
	New:     setup,
}

func (p *policy) rows() corefile.Options {
	return corefile.Options{
		{Name: "to", Usage: "ADDRESS...", Min: 1, Max: -1, Read: func(l *corefile.Line) error {
			for _, w := range l.Args {
				if err := p.to(w); err != nil {
					return err
				}
			}
			return nil
		}},
		{Name: "source", Usage: "IP", Min: 1, Max: 1, Read: func(l *corefile.Line) error {
			if p.source.IsValid() {
				return corefile.Errorf(l.Name.Pos, "source stands twice")
			}
			addr, err := netip.ParseAddr(l.Args[0].Text)
			if err != nil || addr.Zone() != "" {
				return corefile.Errorf(l.Args[0].Pos, "%q is no IP address to send from", l.Args[0].Text)
			}
			p.source = addr
			return nil
		}},
	}
}

// to reads one secondary: *, IP or IP:PORT.
func (p *policy) to(w corefile.Word) error {
	if w.Text == "*" {
		p.any = true
		return nil
	}
	host, port, err := net.SplitHostPort(w.Text)
	if err != nil {
		host = w.Text
	}
	if port == "" {
		port = "53"
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		e := corefile.Errorf(w.Pos, "%q is no IP address", w.Text)
		e.Hint = "write IP, IP:PORT or *"
		return e
	}
	p.from = append(p.from, addr.Unmap().WithZone(""))
	p.notify = append(p.notify, net.JoinHostPort(host, port))
	return nil
}

func setup(s *chain.Setup) error {
	t := &Transfer{log: s.Env.Log, running: make(chan struct{}, maxRunning)}
	for i := range s.Lines {
		l := &s.Lines[i]
		p := new(policy)
		if _, err := p.rows().Read(l); err != nil {
			return err
		}
		if !p.any && len(p.from) == 0 {
			e := corefile.Errorf(l.Name.Pos, "transfer names nobody to give its zones to")
			e.Hint = "write: to ADDRESS..., or to *"
			return e
		}
		zones, skipped := corefile.Zones(l.Args, s.Block.Zones)
		s.Warn(skipped...)
		for _, text := range zones {
			n, err := wire.ParseName(text)
			if err != nil {
				return corefile.Errorf(l.Name.Pos, "transfer: %q is no zone: %v", text, err)
			}
			wire.ToLower(n)
			if _, taken := t.zones.Get(n); !taken { // the first line that names a zone has it
				t.zones.Set(n, p)
			}
		}
	}
	s.Handler(t)
	s.OnBuilt(func() error {
		s.Block.Chain().Handlers(func(_ string, h chain.Handler) bool {
			if source, ok := h.(chain.Transferer); ok {
				t.sources = append(t.sources, source)
			}
			return true
		})
		return nil
	})
	return nil
}
