// Package bufsize bounds the size of UDP replies that clients may ask for (RFC 6891, 6.2.3).
//
//	bufsize [SIZE]
package bufsize

import (
	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
)

// Spec is the bufsize directive.
var Spec = chain.Spec{Name: "bufsize", Usage: "bufsize [SIZE]", New: setup}

// defaultSize fits an Ethernet frame over IPv6 whatever tunnels it (RFC 9715, 3).
const defaultSize = 1232

// setup reads the first line; CoreDNS looks at no other either.
func setup(s *chain.Setup) error {
	l := &s.Lines[0]
	if err := corefile.ArgCount(l, 0, 1, "[SIZE]"); err != nil {
		return err
	}
	if l.Block != nil {
		s.Warn(corefile.Warning{Pos: l.Name.Pos, Text: "bufsize has no options: its block is left out"})
	}
	size := defaultSize
	if len(l.Args) == 1 {
		var err error
		if size, err = corefile.ParseInt(l.Args[0], 512, 4096); err != nil {
			return err
		}
	}
	s.Handler(Bufsize(size))
	return nil
}

// Bufsize is the handler: the largest size in octets.
type Bufsize uint16

var (
	_ chain.Handler  = Bufsize(0)
	_ chain.Repeater = Bufsize(0)
)

// Serve lowers the size that the query asks for. The reply repeats the lower one.
func (b Bufsize) Serve(q *chain.Query) chain.Outcome {
	if q.EDNS.Present && q.EDNS.Size > uint16(b) {
		q.EDNS.Size = uint16(b)
	}
	return chain.Next
}

// Repeat has nothing to add: the size follows from the query.
func (Bufsize) Repeat(*chain.Query, *chain.Repeat) bool { return true }
