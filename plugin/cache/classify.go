package cache

import (
	"encoding/binary"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// verdict is a reply seen through a cache's eyes.
type verdict struct {
	kind    wire.Kind
	soa     bool   // the authority section has an SOA
	answers bool   // the answer section holds what was asked for
	min     uint32 // smallest TTL of all records
	records int
}

// classify reads a reply. Unix is the time that signatures are held against.
func classify(q *chain.Query, unix uint32) verdict {
	msg := q.Reply.Bytes()
	v := verdict{kind: q.Reply.Kind(unix)}
	v.min, _, v.records = q.Reply.TTLs()
	if q.Current { // will not be stored, so only its TTLs matter
		return v
	}
	var c wire.Cursor
	var r wire.Record
	if c.Open(msg) != nil {
		return verdict{kind: wire.KindOther}
	}
	direct, aliases := false, false
	for {
		s, ok, err := c.Next(&r)
		if err != nil {
			return verdict{kind: wire.KindOther}
		}
		if !ok {
			break
		}
		switch {
		case s == wire.Answer && r.Type == wire.TypeCNAME:
			aliases = true
		case s == wire.Answer && r.Type == q.Type && !direct:
			direct = classFits(q, r.Class) && wire.Equal(r.Owner(), q.Name())
		case s == wire.Authority && r.Type == wire.TypeSOA:
			v.soa = true
		}
	}
	v.answers = q.Reply.Rcode == wire.NoError && q.Reply.Count(wire.Answer) > 0 &&
		(direct && !aliases || (aliases || q.Type == wire.TypeANY) && answersQuestion(msg, q))
	if v.kind == wire.KindAnswer && v.soa && !v.answers && q.Reply.Count(wire.Answer) > 0 {
		v.kind = wire.KindNoData // an alias whose end has no such type, denied by the SOA (RFC 2308, 2.2.1)
	}
	return v
}

// storable reports whether a reply may be stored at all: not cut, not an error of its own kind, and denials only with
// the SOA that says for how long (RFC 2308, 5).
func storable(q *chain.Query, v verdict) bool {
	switch {
	case q.Reply.Flags()&wire.FlagTC != 0 || v.kind == wire.KindOther || v.kind == wire.KindMeta:
		return false
	case v.kind == wire.KindNXDomain && !v.soa:
		return false
	case v.kind == wire.KindAnswer && !v.soa && q.Reply.Count(wire.Answer) > 0 && !v.answers:
		return false // a chain of aliases that ends nowhere: NODATA in disguise
	}
	return true
}

// answersQuestion follows the aliases of the answer section from the question's name and reports whether the type asked
// for is at their end. A name with two different targets, or a circle, answers nothing (RFC 2181, 10.1).
func answersQuestion(msg []byte, q *chain.Query) bool {
	var buf [2][wire.MaxName]byte
	name := wire.Name(append(buf[0][:0], q.Name()...))
	if q.Type == wire.TypeANY {
		return holds(msg, q, name, true)
	}
	hops := int(binary.BigEndian.Uint16(msg[6:]))
	for hop := 0; ; hop++ {
		target, ok := alias(msg, q, name, buf[(hop+1)%2][:0])
		switch {
		case !ok || hop > hops:
			return false
		case q.Type == wire.TypeCNAME:
			return target != nil
		case target == nil:
			return holds(msg, q, name, false)
		}
		name = target
	}
}

// alias gives the one target of owner's CNAME records, written to dst; nil without any, false with several.
func alias(msg []byte, q *chain.Query, owner wire.Name, dst wire.Name) (target wire.Name, ok bool) {
	var c wire.Cursor
	var r wire.Record
	var other [wire.MaxName]byte
	_ = c.Open(msg) // classify has opened it before
	for {
		s, more, err := c.Next(&r)
		if err != nil || !more || s != wire.Answer {
			return target, true
		}
		if r.Type != wire.TypeCNAME || !classFits(q, r.Class) || !wire.Equal(r.Owner(), owner) {
			continue
		}
		data, err := r.Data(other[:0])
		if err != nil {
			return nil, false
		}
		if target != nil && !wire.Equal(target, data) {
			return nil, false
		}
		target = append(dst[:0], data...)
	}
}

// holds reports whether the answer section has a record of the type asked for, or any, at owner.
func holds(msg []byte, q *chain.Query, owner wire.Name, any bool) bool {
	var c wire.Cursor
	var r wire.Record
	_ = c.Open(msg)
	for {
		s, more, err := c.Next(&r)
		if err != nil || !more || s != wire.Answer {
			return false
		}
		if (any || r.Type == q.Type) && classFits(q, r.Class) && wire.Equal(r.Owner(), owner) {
			return true
		}
	}
}

func classFits(q *chain.Query, c wire.Class) bool { return q.Class == wire.ClassANY || q.Class == c }
