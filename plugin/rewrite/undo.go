package rewrite

import (
	"fmt"
	"slices"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// undo is one thing that is done to a reply.
type undo interface {
	// record changes one record. It is called with nil, once, for a reply that has none.
	record(r *reversal, rec *wire.Record)
}

// optionUndo is done to the EDNS options, both those of the reply and those of the client that are echoed.
type optionUndo interface {
	undo
	// options gives the list to send. It may change the one it gets.
	options(list []byte) []byte
}

// reversal is the rewriting of one reply.
type reversal struct {
	undo    []undo
	rcode   wire.Rcode
	records int
	alias   *alias // the alias whose record this is
	err     error
}

func (r *reversal) record(rec *wire.Record) {
	r.records++
	for i := len(r.undo) - 1; i >= 0; i-- {
		r.undo[i].record(r, rec)
	}
}

// finish does what concerns the whole message.
func (r *reversal) finish(q *chain.Query, err error) chain.Outcome {
	if err == nil && r.records == 0 {
		r.record(nil)
	}
	if err == nil {
		err = r.err
	}
	if err != nil {
		return q.Fail(wire.ServFail, fmt.Errorf("cannot rewrite the reply: %w", err))
	}
	if r.rcode != q.Reply.Rcode {
		q.Reply.SetRcode(r.rcode)
	}
	for i := len(r.undo) - 1; i >= 0; i-- {
		if u, ok := r.undo[i].(optionUndo); ok {
			q.Reply.Options = u.options(q.Reply.Options)
			q.SetOptions(u.options(slices.Clone(q.EDNS.Options)))
		}
	}
	return chain.Answered
}

// rewriter changes a name in presentation form.
type rewriter interface{ rewrite(name string) string }

// names gives a changed name in wire form; nil when it stays as it is, or can't be a name, which fails the reply.
func (r *reversal) changed(w rewriter, n wire.Name) wire.Name {
	old := n.String()
	text := w.rewrite(old)
	if text == old {
		return nil
	}
	n, err := wire.ParseName(text)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%q becomes %q, which is no domain name", old, text)
	}
	return n
}

// owners rewrites the owners of records.
type owners struct{ rewriter }

func (u *owners) record(r *reversal, rec *wire.Record) {
	if rec == nil {
		return
	}
	if n := r.changed(u.rewriter, rec.Owner()); n != nil {
		rec.SetOwner(n)
	}
}

// values rewrites the names that records refer to.
type values struct{ rewriter }

func (u *values) record(r *reversal, rec *wire.Record) {
	if rec == nil {
		return
	}
	data, at, end, ok := target(rec)
	if !ok {
		return
	}
	if n := r.changed(u.rewriter, wire.Name(data[at:end])); n != nil {
		rec.SetData(slices.Concat(data[:at], n, data[end:]))
	}
}

// target finds the name that a record refers to, for the types that rules know: its data, and where the name stands.
func target(rec *wire.Record) (data []byte, at, end int, ok bool) {
	switch rec.Type {
	case wire.TypeSRV, wire.TypeMX, wire.TypeCNAME, wire.TypeNS, wire.TypeDNAME, wire.TypeNAPTR, wire.TypeSOA, wire.TypePTR:
	default:
		return nil, 0, 0, false
	}
	data, err := rec.Data(nil)
	if err != nil {
		return nil, 0, 0, false
	}
	if at, ok = wire.TargetOffset(rec.Type, data); !ok {
		return nil, 0, 0, false
	}
	for end = at; end < len(data); end += 1 + int(data[end]) {
		if data[end] == 0 {
			return data, at, end + 1, true
		}
	}
	return nil, 0, 0, false
}

// ttls bounds TTLs.
type ttls struct{ min, max uint32 }

func (u *ttls) record(_ *reversal, rec *wire.Record) {
	if rec != nil {
		rec.TTL = min(max(rec.TTL, u.min), u.max)
	}
}

// codes changes one response code into another.
type codes struct{ from, to wire.Rcode }

func (u *codes) record(r *reversal, _ *wire.Record) {
	if r.rcode == u.from {
		r.rcode = u.to
	}
}
