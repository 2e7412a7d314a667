// Package hosts answers from a file in the format of /etc/hosts and from lines of the Corefile.
//
//	hosts [FILE [ZONES...]] {
//	    [INLINE]
//	    ttl SECONDS
//	    no_reverse
//	    reload DURATION
//	    fallthrough [ZONES...]
//	    fallthrough_unsupported
//	}
//
// RFC 952 and hosts(5) have the format; RFC 4592 the wildcards; RFC 3596, 2.5 the reverse names of IPv6.
package hosts

import (
	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
	"github.com/godwit-dns/godwit/zone"
)

// Hosts is the handler. It answers from the file first and then from the Corefile's lines.
type Hosts struct {
	zones      zone.List
	fall       zone.List
	fallOthers bool   // fallthrough_unsupported: types other than A, AAAA and PTR fall through
	ttl        uint32 // seconds
	inline     *table
	file       chain.Published[table]
	last       chain.Last[table]
}

var (
	_ chain.Handler  = (*Hosts)(nil)
	_ chain.Repeater = (*Hosts)(nil)
)

// maxRecords is more address records than a message can hold: 16 octets each are the least.
const maxRecords = wire.MaxMessage / 16

// Serve answers for the names in its zones, and for every address that a name was given to.
func (h *Hosts) Serve(q *chain.Query) chain.Outcome {
	name := q.Name()
	if !h.concerned(q) {
		return chain.Next
	}
	file := h.last.Load(q, &h.file)
	switch q.Type {
	case wire.TypePTR:
		return h.pointer(q, file)
	case wire.TypeA, wire.TypeAAAA:
		if h.address(q, file) {
			return chain.Answered
		}
	default:
		if h.fallOthers && h.fall.Has(name) {
			return chain.Next
		}
	}
	if !file.has(name) && !h.inline.has(name) {
		if h.fall.Has(name) {
			return chain.Next
		}
		// There is no SOA to deny the name with.
		return q.Fail(wire.ServFail, nil)
	}
	q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA)
	return chain.Answered
}

// concerned reports whether the query's name is one to look for.
func (h *Hosts) concerned(q *chain.Query) bool {
	return q.Type == wire.TypePTR || h.zones.Has(q.Name())
}

// Repeat lets answers be given again while the file's content is the same.
func (h *Hosts) Repeat(q *chain.Query, r *chain.Repeat) bool {
	if h.concerned(q) {
		r.Guards = append(r.Guards, h.last.Guard(q, &h.file))
	}
	return true
}

// address answers with the addresses of the family that was asked for, and reports whether there are any.
func (h *Hosts) address(q *chain.Query, file *table) bool {
	size := 4
	if q.Type == wire.TypeAAAA {
		size = 16
	}
	a, b := file.addresses(q.Name(), size), h.inline.addresses(q.Name(), size)
	if len(a)+len(b) == 0 {
		return false
	}
	q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA)
	q.Reply.AppendOwnData(wire.Answer, q.Type, h.ttl, a[:min(len(a), maxRecords*size)], size)
	q.Reply.AppendOwnData(wire.Answer, q.Type, h.ttl, b[:min(len(b), maxRecords*size)], size)
	return true
}

// pointer answers with the names of an address. An address without a name is never this directive's to deny.
func (h *Hosts) pointer(q *chain.Query, file *table) chain.Outcome {
	addr, ok := reversed(q.Name())
	if !ok {
		return chain.Next
	}
	a, b := file.reverse[addr], h.inline.reverse[addr]
	if len(a)+len(b) == 0 {
		return chain.Next
	}
	q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA)
	for _, i := range a[:min(len(a), maxRecords)] {
		q.Reply.AppendName(wire.Answer, q.Name(), wire.TypePTR, h.ttl, file.names.Name(int(i)))
	}
	for _, i := range b[:min(len(b), maxRecords)] {
		q.Reply.AppendName(wire.Answer, q.Name(), wire.TypePTR, h.ttl, h.inline.names.Name(int(i)))
	}
	return chain.Answered
}
