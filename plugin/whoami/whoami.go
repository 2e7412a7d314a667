// Package whoami answers every question with what the server knows of the client: its address, port and transport.
//
//	whoami
package whoami

import (
	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/wire"
)

// Spec is the whoami directive.
var Spec = chain.Spec{Name: "whoami", Usage: "whoami", New: setup}

func setup(s *chain.Setup) error {
	for i := range s.Lines {
		if err := corefile.ArgCount(&s.Lines[i], 0, 0, s.Spec.Usage); err != nil {
			return err
		}
		if s.Lines[i].Block != nil {
			return corefile.Errorf(s.Lines[i].Name.Pos, "whoami has no options; write it without braces")
		}
	}
	s.Handler(Whoami{})
	return nil
}

// Whoami is the handler.
type Whoami struct{}

var _ chain.Handler = Whoami{}

// Serve answers with an address record and an SRV record in the additional section, and nothing in the answer section.
func (Whoami) Serve(q *chain.Query) chain.Outcome {
	q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA)
	ip := q.Client.Addr()
	t := wire.TypeA
	if ip.Is6() {
		t = wire.TypeAAAA
	}
	var data [16]byte
	var owner [wire.MaxName]byte
	q.Reply.Append(wire.Additional, q.OriginalName(), t, q.Class, 0, addrData(data[:0], q))
	if n := serviceName(owner[:0], q); n != nil {
		port := q.Client.Port()
		// Priority, weight, port and the root as target (RFC 2782), in the class of the question, which may not be IN.
		q.Reply.Append(wire.Additional, n, wire.TypeSRV, q.Class, 0, append(data[:0], 0, 0, 0, 0, byte(port>>8), byte(port), 0))
	}
	return chain.Answered
}

func addrData(dst []byte, q *chain.Query) []byte {
	if ip := q.Client.Addr(); ip.Is6() {
		a := ip.As16()
		return append(dst, a[:]...)
	}
	a := q.Client.Addr().As4()
	return append(dst, a[:]...)
}

// serviceName puts "_udp." or "_tcp." before the name; nil when that makes it too long.
func serviceName(dst wire.Name, q *chain.Query) wire.Name {
	n := q.OriginalName()
	if len(n)+5 > wire.MaxName {
		return nil
	}
	dst = append(dst, 4, '_')
	dst = append(dst, q.Proto.String()...)
	return append(dst, n...)
}
