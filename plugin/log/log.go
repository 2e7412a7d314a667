// Package log writes a line for each query.
//
//	log [NAMES...] [FORMAT] {
//	    class CLASSES...
//	}
package log

import (
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// Class is what a reply meant for the client.
type Class uint8

// Classes, as bits of a set.
const (
	Success Class = 1 << iota
	Denial        // the name, or the type at the name, does not exist
	Error         // everything else
	all     = Success | Denial | Error
)

// String gives the word for a single class.
func (c Class) String() string {
	switch c {
	case Success:
		return "success"
	case Denial:
		return "denial"
	}
	return "error"
}

// Log is the handler.
type Log struct {
	env     *chain.Env
	rules   []rule
	scratch []scratch // one for each loop
}

// rule says how queries below a name are logged. The first one that matches a query's name is its only one.
type rule struct {
	scope   wire.Name // nil matches nothing
	classes Class
	format  []field
	text    string // the format as written
}

// scratch is a loop's place to make a line in, on cache lines of its own.
type scratch struct {
	entry
	_ [64]byte
}

var (
	_ chain.Handler  = (*Log)(nil)
	_ chain.Replier  = (*Log)(nil)
	_ chain.Repeater = (*Log)(nil)
)

// Serve lets every query pass.
func (*Log) Serve(*chain.Query) chain.Outcome { return chain.Next }

// Reply logs the query by its rule.
func (l *Log) Reply(q *chain.Query, below chain.Outcome) chain.Outcome {
	if r := l.rule(q); r != nil {
		l.log(q, below, r)
	}
	return below
}

// rule gives the rule of a query, nil when it has none.
func (l *Log) rule(q *chain.Query) *rule {
	name := q.OriginalName()
	for i := range l.rules {
		if r := &l.rules[i]; r.scope != nil && name.Under(r.scope) {
			return r
		}
	}
	return nil
}

// Repeat lets answers be given again that are not logged. Those with signatures may be in another class when these expire.
func (l *Log) Repeat(q *chain.Query, _ *chain.Repeat) bool {
	r := l.rule(q)
	return r == nil || !q.DO() && r.classes&classOf(kindOf(q, chain.Answered, l.env.Wall)) == 0
}

func (l *Log) log(q *chain.Query, below chain.Outcome, r *rule) {
	e := &l.scratch[q.Shard()].entry
	e.q, e.out, e.elapsed = q, below, l.env.Clock()-q.Start
	e.kind = kindOf(q, below, l.env.Wall)
	e.class = classOf(e.kind)
	if r.classes&e.class == 0 {
		return
	}
	b := append(e.line[:0], "[INFO] "...)
	for i := range r.format {
		b = r.format[i].append(b, e)
	}
	b = append(b, '\n')
	e.line = b
	l.env.Print(q.Shard(), b)
}

// kindOf sorts the end of a query. A failure is sorted as the reply that will be made of it.
func kindOf(q *chain.Query, out chain.Outcome, wall func() time.Time) wire.Kind {
	switch out {
	case chain.Answered:
		if q.Reply.OwnOPT && q.Reply.OwnFlags&0x8000 != 0 { // signatures matter to validators only
			return q.Reply.Kind(uint32(wall().Unix()))
		}
		return q.Reply.Kind(0)
	case chain.Streamed:
		return wire.KindMeta
	case chain.Failed:
		switch {
		case q.Opcode() == wire.OpNotify || q.Type == wire.TypeAXFR || q.Type == wire.TypeIXFR:
			return wire.KindMeta
		case q.Rcode == wire.ServFail || q.Rcode == wire.NotImp:
			return wire.KindServerError
		case q.Rcode == wire.NXDomain:
			return wire.KindNXDomain
		}
	}
	return wire.KindOther
}

func classOf(k wire.Kind) Class {
	switch k {
	case wire.KindAnswer, wire.KindDelegation:
		return Success
	case wire.KindNXDomain, wire.KindNoData:
		return Denial
	}
	return Error
}

// typeName is the value of the metadata log/type.
func typeName(k wire.Kind) string {
	switch k {
	case wire.KindAnswer:
		return "NOERROR"
	case wire.KindNXDomain:
		return "NXDOMAIN"
	case wire.KindServerError:
		return "SERVERERROR"
	case wire.KindNoData:
		return "NODATA"
	case wire.KindDelegation:
		return "DELEGATION"
	case wire.KindMeta:
		return "META"
	}
	return "OTHERERROR"
}
