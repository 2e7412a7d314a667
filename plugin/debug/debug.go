// Package debug turns on lines of level DEBUG in the log, and lets a handler's panic end the process.
//
//	debug
package debug

import (
	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
)

// Spec is the debug directive.
var Spec = chain.Spec{Name: "debug", Usage: "debug", New: setup}

func setup(s *chain.Setup) error {
	for i := range s.Lines {
		if err := corefile.ArgCount(&s.Lines[i], 0, 0, ""); err != nil {
			return err
		}
		if s.Lines[i].Block != nil {
			return corefile.Errorf(s.Lines[i].Name.Pos, "debug takes no block")
		}
	}
	s.Block.Debug = true
	return nil
}
