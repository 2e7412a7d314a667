// Package minimal leaves out of positive replies what the question did not ask for.
//
//	minimal
package minimal

import (
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/wire"
)

// Spec is the minimal directive.
var Spec = chain.Spec{Name: "minimal", Usage: "minimal", New: setup}

func setup(s *chain.Setup) error {
	if err := corefile.ArgCount(&s.Lines[0], 0, 0, ""); err != nil {
		return err
	}
	if s.Lines[0].Block != nil {
		return corefile.Errorf(s.Pos(), "minimal takes no block")
	}
	s.Handler(&Minimal{wall: s.Env.Wall})
	return nil
}

// Minimal is the handler.
type Minimal struct{ wall func() time.Time }

var (
	_ chain.Handler = (*Minimal)(nil)
	_ chain.Replier = (*Minimal)(nil)
)

// Serve lets every query pass.
func (*Minimal) Serve(*chain.Query) chain.Outcome { return chain.Next }

// Reply cuts a positive reply down to its answer section. Denials need their SOA and delegations their NS records, so
// these stay as they are; so do failures, also those that wrote a reply.
func (m *Minimal) Reply(q *chain.Query, below chain.Outcome) chain.Outcome {
	if below != chain.Answered || q.Err != nil {
		return below
	}
	unix := uint32(0)
	if q.Reply.OwnOPT && q.Reply.OwnFlags&0x8000 != 0 { // signatures matter to validators only
		unix = uint32(m.wall().Unix())
	}
	if q.Reply.Kind(unix) != wire.KindAnswer {
		return below
	}
	return m.cut(q)
}

func (m *Minimal) cut(q *chain.Query) chain.Outcome {
	q.Reply.OwnOPT, q.Reply.OwnFlags, q.Reply.Options = false, 0, q.Reply.Options[:0]
	if q.Reply.Count(wire.Authority)+q.Reply.Count(wire.Additional) == 0 {
		return chain.Answered
	}
	if err := q.Edit(answersOnly); err != nil {
		return q.Fail(wire.ServFail, err)
	}
	return chain.Answered
}

func answersOnly(s wire.Section, _ *wire.Record) wire.Action {
	if s == wire.Answer {
		return wire.Keep
	}
	return wire.Drop
}
