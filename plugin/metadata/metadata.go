// Package metadata lets directives read what others know of a query.
//
//	metadata [ZONES...]
package metadata

import (
	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/wire"
)

// Spec is the metadata directive.
var Spec = chain.Spec{Name: "metadata", Usage: "metadata [ZONES...]", New: setup}

func setup(s *chain.Setup) error {
	l := &s.Lines[0]
	if len(s.Lines) > 1 {
		return corefile.Errorf(s.Lines[1].Name.Pos, "metadata can be used only once in a server block")
	}
	if len(l.Block) > 0 {
		return corefile.Errorf(l.Name.Pos, "metadata has no options; write: %s", s.Spec.Usage)
	}
	zones, warnings := corefile.Zones(l.Args, s.Block.Zones)
	s.Warn(warnings...)
	s.Block.HasMetadata = true
	s.Block.MetadataZones = []wire.Name{}
	for _, z := range zones {
		n, err := wire.ParseName(z)
		if err != nil {
			return corefile.Errorf(l.Name.Pos, "%q: %v", z, err)
		}
		wire.ToLower(n)
		s.Block.MetadataZones = append(s.Block.MetadataZones, n)
	}
	s.Handler(pass{})
	return nil
}

// pass is there to be seen in coredns_plugin_enabled.
type pass struct{}

var _ chain.Handler = pass{}

// Serve lets every query pass.
func (pass) Serve(*chain.Query) chain.Outcome { return chain.Next }
