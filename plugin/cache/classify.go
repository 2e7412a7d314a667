package cache

import (
	"encoding/binary"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// kind is what a reply is to a cache.
type kind uint8

const (
	positive    kind = iota + 1 // NOERROR with something to say
	delegation                  // NOERROR with NS records only
	noData                      // NOERROR, denied by an SOA (RFC 2308, 2.2)
	nameError                   // NXDOMAIN (RFC 2308, 2.1)
	serverError                 // SERVFAIL, NOTIMP (RFC 2308, 7.1)
	otherError                  // never stored
	meta                        // NOTIFY and transfers: never stored
)

// verdict is a reply seen through a cache's eyes.
type verdict struct {
	kind    kind
	soa     bool   // the authority section has an SOA
	answers bool   // the answer section holds what was asked for
	min     uint32 // smallest TTL of all records
	records int
}

// classify reads a reply once. Wall is for the validity of signatures, asked only where the reply is of a validator.
func classify(q *chain.Query, wall func() time.Time) verdict {
	msg := q.Reply.Bytes()
	v := verdict{min: ^uint32(0)}
	var c wire.Cursor
	var r wire.Record
	if c.Open(msg) != nil {
		return verdict{kind: otherError}
	}
	signed := q.Reply.OwnOPT && q.Reply.OwnFlags&0x8000 != 0
	expired, ns, direct, aliases := false, 0, false, false
	for {
		s, ok, err := c.Next(&r)
		if err != nil {
			return verdict{kind: otherError}
		}
		if !ok {
			break
		}
		v.records++
		v.min = min(v.min, r.TTL)
		switch {
		case s == wire.Answer && r.Type == wire.TypeCNAME:
			aliases = true
		case s == wire.Answer && r.Type == q.Type && !direct:
			direct = wire.Equal(r.Owner(), q.Name())
		case s == wire.Authority && r.Type == wire.TypeSOA:
			v.soa = true
		case s == wire.Authority && r.Type == wire.TypeNS:
			ns++
		}
		if signed && r.Type == wire.TypeRRSIG {
			expired = expired || !valid(r.RawData(), wall())
		}
	}
	n := q.Reply.Count(wire.Answer)
	v.answers = q.Reply.Rcode == wire.NoError && n > 0 &&
		(direct && !aliases || (aliases || q.Type == wire.TypeANY) && answersQuestion(msg, q))
	v.kind = kindOf(q, v, n, ns, expired)
	return v
}

func kindOf(q *chain.Query, v verdict, answers, ns int, expired bool) kind {
	rcode := q.Reply.Rcode
	switch {
	case q.Opcode() == wire.OpNotify || q.Type == wire.TypeAXFR || q.Type == wire.TypeIXFR:
		return meta
	case expired:
		return otherError
	case answers > 0 && rcode == wire.NoError && v.soa && !v.answers:
		return noData // an alias whose end has no such type, denied by the SOA (RFC 2308, 2.2.1)
	case answers > 0 && rcode == wire.NoError:
		return positive
	case answers > 0 && rcode == wire.NXDomain:
		return otherError
	case v.soa && rcode == wire.NoError:
		return noData
	case rcode == wire.NXDomain:
		return nameError
	case rcode == wire.ServFail || rcode == wire.NotImp:
		return serverError
	case ns > 0 && rcode == wire.NoError:
		return delegation
	case rcode == wire.NoError:
		return positive
	}
	return otherError
}

// storable reports whether a reply may be stored at all: not cut, not an error of its own kind, and denials only with
// the SOA that says for how long (RFC 2308, 5).
func storable(q *chain.Query, v verdict) bool {
	switch {
	case q.Reply.Flags()&wire.FlagTC != 0 || v.kind == otherError || v.kind == meta:
		return false
	case v.kind == nameError && !v.soa:
		return false
	case v.kind == positive && !v.soa && q.Reply.Count(wire.Answer) > 0 && !v.answers:
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

// valid reports whether a signature's period holds now; its times are serial numbers (RFC 4034, 3.1.5).
func valid(rrsig []byte, now time.Time) bool {
	if len(rrsig) < 18 {
		return false
	}
	t := uint32(now.Unix())
	expires, begins := binary.BigEndian.Uint32(rrsig[8:]), binary.BigEndian.Uint32(rrsig[12:])
	return int32(t-begins) >= 0 && int32(expires-t) >= 0
}
