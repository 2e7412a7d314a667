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

	name, data []byte // scratch
}

// keep is what wire.Transcribe calls for a record that stays.
func (r *reversal) keep(_ wire.Section, rec *wire.Record) wire.Action {
	r.record(rec)
	return wire.Keep
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
	for i := len(r.undo) - 1; i >= 0; i-- { // few replies have any
		if u, ok := r.undo[i].(optionUndo); ok {
			q.Reply.Options = u.options(q.Reply.Options)
			q.SetOptions(u.options(slices.Clone(q.EDNS.Options)))
		}
	}
	return chain.Answered
}

// rewriter changes names.
type rewriter interface {
	// rewrite appends the changed name to dst, and reports whether it changed. An error fails the reply.
	rewrite(dst []byte, n wire.Name) ([]byte, bool, error)
}

// changed gives a changed name, which is valid until the next; nil when it stays as it is.
func (r *reversal) changed(w rewriter, n wire.Name) wire.Name {
	out, ok, err := w.rewrite(r.name[:0], n)
	if err != nil {
		r.err = err
	}
	if err != nil || !ok {
		return nil
	}
	r.name = out
	return out
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
	at, end, ok := r.target(rec)
	if !ok {
		return
	}
	if n := r.changed(u.rewriter, wire.Name(r.data[at:end])); n != nil {
		size := len(r.data)
		r.data = append(append(append(r.data, r.data[:at]...), n...), r.data[end:size]...)
		rec.SetData(r.data[size:])
	}
}

// target reads a record's data and finds the name that it refers to, for the types that rules know.
func (r *reversal) target(rec *wire.Record) (at, end int, ok bool) {
	switch rec.Type {
	case wire.TypeSRV, wire.TypeMX, wire.TypeCNAME, wire.TypeNS, wire.TypeDNAME, wire.TypeNAPTR, wire.TypeSOA, wire.TypePTR:
	default:
		return 0, 0, false
	}
	data, err := rec.Data(r.data[:0])
	if err != nil {
		return 0, 0, false
	}
	r.data = data
	if at, ok = wire.TargetOffset(rec.Type, data); !ok {
		return 0, 0, false
	}
	for end = at; end < len(data); end += 1 + int(data[end]) {
		if data[end] == 0 {
			return at, end + 1, true
		}
	}
	return 0, 0, false
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
