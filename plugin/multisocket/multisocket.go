// Package multisocket says how many sockets an address is served by.
//
//	multisocket [NUM]
package multisocket

import (
	"fmt"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
)

// Spec is the multisocket directive.
var Spec = chain.Spec{Name: "multisocket", Usage: "multisocket [NUM]", New: setup}

// maxSockets is the largest number that is accepted.
const maxSockets = 1024

func setup(s *chain.Setup) error {
	if len(s.Lines) > 1 {
		return corefile.Errorf(s.Lines[1].Name.Pos, "multisocket can be used only once in a server block")
	}
	l := &s.Lines[0]
	if err := corefile.ArgCount(l, 0, 1, "[NUM]"); err != nil {
		return err
	}
	if l.Block != nil {
		return corefile.Errorf(l.Name.Pos, "multisocket takes no block")
	}
	if len(l.Args) == 0 {
		return nil
	}
	n, err := corefile.ParseInt(l.Args[0], 1, maxSockets)
	if err != nil {
		return err
	}
	s.Block.Sockets = n
	if n != s.Env.Loops {
		s.Warn(corefile.Warning{Pos: l.Args[0].Pos, Text: fmt.Sprintf(
			"multisocket %d: an address has one socket for each event loop, %d here; the CPU limit of the process decides", n, s.Env.Loops)})
	}
	return nil
}
