package loop

import (
	"net"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/wire"
)

// Spec is the loop directive.
var Spec = chain.Spec{Name: "loop", Usage: "loop [exit]", New: setup}

func setup(s *chain.Setup) error {
	if len(s.Lines) > 1 {
		return corefile.Errorf(s.Lines[1].Name.Pos, "loop may stand once in a block; it stands at %v too", s.Lines[0].Name.Pos)
	}
	line := &s.Lines[0]
	if err := corefile.ArgCount(line, 0, 1, "[exit]"); err != nil {
		return err
	}
	if line.Block != nil {
		return &corefile.Error{Pos: line.Name.Pos, Text: "loop takes no block", Hint: "write: loop [exit]"}
	}
	exit := len(line.Args) == 1
	if exit && line.Args[0].Text != "exit" {
		return &corefile.Error{Pos: line.Args[0].Pos, Text: "loop does not take " + line.Args[0].Text, Hint: "write: loop [exit]"}
	}
	key := s.Block.Keys[0]
	name, err := wire.ParseName(key.Zone)
	if err != nil {
		return corefile.Errorf(key.Pos, "%q: %v", key.Zone, err)
	}
	w := &watch{loop: &Loop{}, env: s.Env, zone: name, zoneText: key.Zone, address: address(s.Block), exit: exit}
	s.Handler(w.loop)
	s.OnBuilt(func() error {
		w.forwards = forwarder(s.Block)
		return nil
	})
	if key.Transport == corefile.TransportDNS { // nothing else answers a plain query
		s.Go(w.run)
	}
	return nil
}

// address is where the block listens. An empty host is this machine.
func address(b *chain.Block) string {
	host := ""
	if len(b.Bind) > 0 {
		host = b.Bind[0].Addr
	}
	return net.JoinHostPort(host, b.Keys[0].Port)
}

// forwarder gives a function that finds the handler of the block that forwards a name; it gives nil when none does.
func forwarder(b *chain.Block) func(name wire.Name) chain.Forwarder {
	return func(name wire.Name) chain.Forwarder {
		var found chain.Forwarder
		b.Chain().Handlers(func(_ string, h chain.Handler) bool {
			if f, ok := h.(chain.Forwarder); ok && f.Forwards(name) {
				found = f
			}
			return found == nil
		})
		return found
	}
}
