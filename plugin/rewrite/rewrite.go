// Package rewrite changes queries before other directives see them, and changes the replies back.
//
//	rewrite [continue|stop] name [exact|prefix|suffix|substring|regex] STRING STRING [answer auto|name|value ...]
//	rewrite [continue|stop] type FROM TO
//	rewrite [continue|stop] class FROM TO
//	rewrite [continue|stop] ttl [MATCH] STRING [SECONDS|MIN-MAX]
//	rewrite [continue|stop] rcode [MATCH] STRING FROM TO
//	rewrite [continue|stop] cname [MATCH] STRING STRING
//	rewrite [continue|stop] edns0 local|nsid|subnet append|replace|set|unset [ARGUMENT...] [revert]
//
// RFC 6891 has the options of EDNS, RFC 7871 the client subnet, RFC 5001 the name server's identifier.
package rewrite

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// Rewrite is the handler: all lines of a block.
type Rewrite struct {
	log   *slog.Logger
	lines []line
	state *chain.Slot[state]
	loops []work // by loop, so that nothing is allocated for each query
}

var (
	_ chain.Handler = (*Rewrite)(nil)
	_ chain.Replier = (*Rewrite)(nil)
	_ chain.Resumer = (*Rewrite)(nil)
)

// line is one rule and whether it ends the list when it applies.
type line struct {
	rule
	stop bool
}

// rule changes queries.
type rule interface {
	// apply changes the query if the rule is for it, notes what is to be done to the reply, and reports whether it was.
	apply(q *chain.Query, s *state) (bool, error)
}

// state is what a query remembers for its reply.
type state struct {
	undo   []undo  // in the order of the rules; done in reverse
	fixed  [4]undo // backing of undo for the usual few rules
	active bool    // the reply is this directive's to write again
	alias  *alias  // while the new target of a CNAME record is asked for
	work   *work   // of the query's loop
}

// later notes what is to be done to the reply.
func (s *state) later(u ...undo) {
	if s.undo == nil {
		s.undo = s.fixed[:0]
	}
	s.undo = append(s.undo, u...)
}

// text is the query's name in presentation form, lower case. It is valid until the name changes.
func (s *state) text(q *chain.Query) []byte {
	if len(s.work.text) == 0 {
		s.work.text = q.Name().AppendText(s.work.text)
	}
	return s.work.text
}

// setName gives the query another name.
func (s *state) setName(q *chain.Query, n wire.Name) {
	q.SetName(n)
	s.work.text = s.work.text[:0]
}

// work is what a loop needs while it has a query in hand.
type work struct {
	text     []byte // the query's name, empty when it is to be written first
	reversal reversal
	keep     func(wire.Section, *wire.Record) wire.Action // the reversal's method, bound once
}

// Serve applies the rules.
func (w *Rewrite) Serve(q *chain.Query) chain.Outcome {
	s := w.state.Of(q)
	s.work = &w.loops[q.Shard()]
	s.work.text = s.work.text[:0]
	var before [wire.MaxName]byte
	entered, typ, class := wire.Name(before[:copy(before[:], q.Name())]), q.Type, q.Class
	for i := range w.lines {
		l := &w.lines[i]
		applied, err := l.apply(q, s)
		if err != nil {
			q.SetName(entered)
			q.Type, q.Class = typ, class
			return q.Fail(wire.ServFail, err)
		}
		if applied && l.stop {
			s.active = true
			break
		}
	}
	s.active = s.active || len(s.undo) > 0
	return chain.Next
}

// rename gives the query a new name in presentation form.
func (s *state) rename(q *chain.Query, name string) error {
	var buf [wire.MaxName + 1]byte
	n, err := wire.AppendName(buf[:0], name)
	if err != nil || name == "" {
		return fmt.Errorf("invalid name after rewrite: %s", name)
	}
	s.setName(q, n)
	return nil
}

// Reply changes the reply back. A failure becomes a reply here, so that it is changed back too; its error goes on.
func (w *Rewrite) Reply(q *chain.Query, below chain.Outcome) chain.Outcome {
	s := w.state.Of(q)
	if !s.active {
		return below
	}
	switch below {
	case chain.Failed:
		options, own := q.Reply.Options, q.Reply.OwnOPT
		q.Reply.Begin(&q.Request, q.Rcode, 0)
		q.Reply.Options, q.Reply.OwnOPT = options, own
	case chain.Answered:
		if s.alias = findAlias(q, s); s.alias != nil {
			return q.Ask(s.alias.to, q.Type)
		}
	default:
		return below
	}
	return restore(q, s)
}

// restore writes the reply again under the client's own question, with everything undone that the rules did.
func restore(q *chain.Query, s *state) chain.Outcome {
	r := s.reversal(q)
	return r.finish(q, q.RestoreQuestion(s.work.keep))
}

// reversal is the loop's, made ready for the query's reply.
func (s *state) reversal(q *chain.Query) *reversal {
	r := &s.work.reversal
	r.undo, r.rcode, r.records, r.alias, r.err = s.undo, q.Reply.Rcode, 0, nil, nil
	return r
}

// Resume takes what the server answers for the new target of an alias: it comes in place of what followed the alias.
func (w *Rewrite) Resume(q *chain.Query, ev chain.Event) chain.Outcome {
	s := w.state.Of(q)
	if ev.Outcome != chain.Answered && ev.Outcome != chain.Failed {
		w.log.Error("plugin/rewrite: no answer for the new target of an alias", "target", s.alias.to.String())
		return restore(q, s)
	}
	r := s.reversal(q)
	old := slices.Clone(q.Reply.Bytes())
	aliases := 0
	err := q.RestoreQuestion(func(sec wire.Section, rec *wire.Record) wire.Action {
		if sec != wire.Answer || rec.Type != wire.TypeCNAME || aliases > s.alias.index {
			return wire.Drop
		}
		if aliases == s.alias.index {
			r.alias = s.alias
		}
		r.record(rec)
		r.alias = nil
		aliases++
		return wire.Keep
	})
	if err == nil && ev.Outcome == chain.Answered {
		err = wire.Transcribe(&q.Reply, ev.Child.Reply.Bytes(), func(sec wire.Section, _ *wire.Record) wire.Action {
			if sec == wire.Answer {
				return wire.Keep
			}
			return wire.Drop
		})
		q.Reply.SetFlags(ev.Child.Reply.Flags()&wire.FlagTC, wire.FlagTC)
	}
	if err == nil {
		err = wire.Transcribe(&q.Reply, old, func(sec wire.Section, rec *wire.Record) wire.Action {
			if sec == wire.Answer {
				return wire.Drop
			}
			r.record(rec)
			return wire.Keep
		})
	}
	return r.finish(q, err)
}
