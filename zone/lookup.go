package zone

import (
	"encoding/binary"

	"github.com/godwit-dns/godwit/wire"
)

// Result is what a lookup found.
type Result uint8

// Results.
const (
	// Success: the answer is there, or the name is an empty non-terminal (then without records in the answer).
	Success Result = iota + 1
	// NoData: the name exists, without records of the type (RFC 2308, 2.2).
	NoData
	// NameError: the name does not exist (RFC 2308, 2.1).
	NameError
	// Delegation: the reply refers to the servers of a zone below (RFC 1034, 4.3.2, 3b).
	Delegation
	// Failure: a DNAME that leads to itself.
	Failure
	// TooLong: a DNAME makes a name that is longer than 255 octets (RFC 6672, 2.2: YXDOMAIN).
	TooLong
	// External: the answer so far ends in an alias whose target has to be asked for; Finish ends the reply then.
	External
)

// maxRecords is more records than any section of a message can hold: 14 octets are the least of a record with data.
const maxRecords = wire.MaxMessage / 14

// Question is what a lookup is for.
type Question struct {
	Name wire.Name // lower case, in the zone
	Type wire.Type
	DO   bool // with DNSSEC records (RFC 3225)
}

// Answer is how a lookup ended, beside the records in the reply. Its slices are valid until the reply changes.
type Answer struct {
	Result   Result
	Target   wire.Name // of External: what to ask for, with the question's type
	Wildcard wire.Name // the owner of the wildcard that the answer was made from; nil without one
}

// look is one lookup.
type look struct {
	*Zone
	Question
	reply *wire.Reply
}

// Lookup appends the answer to a reply that was begun for the question. The results are CoreDNS's, step by step:
//
//  1. SOA and NS of the apex;
//  2. where neither cuts nor wildcards have to be looked for, the name itself;
//  3. from the apex down, each name that exists on the way: DNAME (RFC 6672), then a cut;
//  4. the name itself: an alias, records, or NODATA;
//  5. the deepest wildcard on the way, unless an empty non-terminal is closer (RFC 4592, 3.3.1);
//  6. NODATA for an empty non-terminal, else NXDOMAIN.
func (z *Zone) Lookup(q Question, reply *wire.Reply) Answer {
	l := look{z, q, reply}
	if len(q.Name) == len(z.origin) {
		switch q.Type {
		case wire.TypeSOA:
			l.appendSOA(wire.Answer)
			l.appendNS(wire.Authority)
			return Answer{Result: Success}
		case wire.TypeNS:
			l.appendNS(wire.Answer)
			l.appendGlue(z.origin, z.apex)
			return Answer{Result: Success}
		}
	}
	if l.cuts {
		return l.descend()
	}
	node := l.names.look(l.Name)
	var sets []byte
	if node >= 0 {
		sets = l.names.setsAt(node + len(l.Name))
	}
	switch {
	case len(sets) > 0:
		return l.exact(node, sets)
	case l.wild:
		return l.descend()
	}
	return l.missing(node >= 0)
}

// descend walks the names from the apex down to the question's.
func (l *look) descend() Answer {
	var at [maxLabels]uint8
	var buf [wire.MaxName + 1]byte
	below := labelsOf(&at, l.Name) - l.origin.Labels()
	at[below] = uint8(len(l.Name) - len(l.origin))
	found, wild := -1, -1
	var encloser wire.Name // the parent of the wildcard that applies, of whatever wild is
	for i := below; i >= 0; i-- {
		name := l.Name[at[i]:]
		if found = l.find(name); found < 0 {
			if w := Wildcard(&buf, name); w != nil {
				if n := l.names.look(w); n >= 0 {
					if wild, encloser = n, name.Parent(); l.empty(n) {
						wild = -1
					}
				}
			}
			continue
		}
		if dname := l.get(found, wire.TypeDNAME); dname != nil && i > 0 {
			return l.substitute(found, dname)
		}
		if l.refer(found, name) {
			return Answer{Result: Delegation}
		}
	}
	switch {
	case found >= 0:
		return l.exact(found, l.names.sets(found))
	case encloser != nil && !l.closerEmpty(encloser):
		return l.synthesize(wild)
	}
	return l.missing(l.isEmptyNonTerminal(l.Name))
}

// closerEmpty reports whether an empty non-terminal stands between the wildcard's parent and the name.
func (l *look) closerEmpty(encloser wire.Name) bool {
	for n := l.Name.Parent(); len(n) > len(encloser); n = n.Parent() {
		if l.isEmptyNonTerminal(n) {
			return true
		}
	}
	return false
}

// exact answers for a name that has records, which are in sets.
func (l *look) exact(node int, sets []byte) Answer {
	if l.Type != wire.TypeCNAME {
		if alias := pick(sets, wire.TypeCNAME); alias != nil {
			l.appendSet(wire.Answer, l.Name, wire.TypeCNAME, alias)
			return l.follow(node, alias)
		}
	}
	records := pick(sets, l.Type)
	if records == nil {
		return l.noData(node)
	}
	l.appendSet(wire.Answer, l.Name, l.Type, records)
	l.appendSigs(wire.Answer, l.Name, node, l.Type)
	l.appendNS(wire.Authority)
	l.appendAddresses()
	return Answer{Result: Success}
}

// synthesize answers from the wildcard with number wild (RFC 4592, 3.3); -1 is one without records of its own.
func (l *look) synthesize(wild int) Answer {
	if wild < 0 {
		l.appendSOA(wire.Authority)
		return Answer{Result: NoData}
	}
	owner := l.names.name(wild)
	if l.Type != wire.TypeCNAME {
		if alias := l.get(wild, wire.TypeCNAME); alias != nil {
			l.appendSet(wire.Answer, l.Name, wire.TypeCNAME, alias)
			a := l.follow(wild, alias)
			a.Wildcard = owner
			return a
		}
	}
	records := l.get(wild, l.Type)
	if records == nil {
		a := l.noData(wild)
		a.Wildcard = owner
		return a
	}
	l.appendSet(wire.Answer, l.Name, l.Type, records)
	l.appendSigs(wire.Answer, l.Name, wild, l.Type)
	l.appendNS(wire.Authority)
	if l.DO && l.signed { // RFC 4035, 3.1.3.3: no name closer than the wildcard exists
		l.appendNSEC(l.floor(l.Name))
	}
	l.appendAddresses()
	return Answer{Result: Success, Wildcard: owner}
}

func (l *look) noData(node int) Answer {
	l.appendSOA(wire.Authority)
	if l.DO {
		l.appendNSEC(node)
	}
	return Answer{Result: NoData}
}

// missing answers for a name that has no records and no wildcard; between says that it is an empty non-terminal.
func (l *look) missing(between bool) Answer {
	result := NameError
	if between {
		result = Success
	}
	l.appendSOA(wire.Authority)
	if !l.DO || !l.signed {
		return Answer{Result: result}
	}
	before := l.floor(l.Name)
	l.appendNSEC(before)
	if result != NameError || before < 0 {
		return Answer{Result: result}
	}
	var buf [wire.MaxName + 1]byte // RFC 4035, 3.1.3.2: no wildcard could have matched either
	if encloser := l.closestEncloser(); encloser != nil {
		buf[0], buf[1] = 1, '*'
		wildcard := wire.Name(buf[:2+copy(buf[2:], encloser)])
		if w := l.floor(wildcard); w >= 0 && w != before {
			l.appendNSEC(w)
		}
	}
	return Answer{Result: result}
}

func (l *look) closestEncloser() wire.Name {
	for n := l.Name; len(n) >= len(l.origin); n = n.Parent() {
		if l.find(n) >= 0 {
			return n
		}
		if len(n) <= 1 {
			break
		}
	}
	return nil
}

// refer appends a referral when name has NS records below the apex. A DS query at the cut itself is the parent's to
// answer (RFC 4035, 3.1.4.1).
func (l *look) refer(node int, name wire.Name) bool {
	ns := l.get(node, wire.TypeNS)
	if ns == nil || l.Type == wire.TypeDS && wire.Equal(name, l.Name) {
		return false
	}
	l.referral(node, name, ns)
	return true
}

func (l *look) referral(node int, name wire.Name, ns set) {
	l.appendSet(wire.Authority, name, wire.TypeNS, ns)
	if l.DO {
		l.appendSet(wire.Authority, name, wire.TypeDS, l.get(node, wire.TypeDS))
		l.appendSigs(wire.Authority, name, node, wire.TypeDS)
	}
	l.appendGlue(name, ns)
}

func (l *look) appendSet(s wire.Section, owner wire.Name, t wire.Type, records set) {
	for len(records) > 0 && l.reply.Count(s) < maxRecords {
		ttl, class, data, rest := records.next()
		l.reply.Append(s, owner, t, class, ttl, data)
		records = rest
	}
}

// appendSigs appends the signatures over one type, when they are wanted.
func (l *look) appendSigs(s wire.Section, owner wire.Name, node int, covered wire.Type) {
	if !l.DO {
		return
	}
	for sigs := l.get(node, wire.TypeRRSIG); len(sigs) > 0 && l.reply.Count(s) < maxRecords; {
		ttl, class, data, rest := sigs.next()
		if wire.Type(binary.BigEndian.Uint16(data)) == covered {
			l.reply.Append(s, owner, wire.TypeRRSIG, class, ttl, data)
		}
		sigs = rest
	}
}

func (l *look) appendSOA(s wire.Section) {
	if l.soaAbove.Len() > 0 {
		l.reply.AppendAbove(s, &l.soaAbove)
	} else {
		l.appendSet(s, l.soaOwner, wire.TypeSOA, l.soa)
	}
	if l.DO {
		l.appendSet(s, l.soaOwner, wire.TypeRRSIG, l.soaSigs)
	}
}

func (l *look) appendNS(s wire.Section) {
	if l.nsAbove.Len() > 0 {
		l.reply.AppendAbove(s, &l.nsAbove)
	} else {
		l.appendSet(s, l.origin, wire.TypeNS, l.apex)
	}
	if l.DO {
		l.appendSet(s, l.origin, wire.TypeRRSIG, l.nsSigs)
	}
}

func (l *look) appendNSEC(node int) {
	if node < 0 {
		return
	}
	owner := l.names.name(node)
	l.appendSet(wire.Authority, owner, wire.TypeNSEC, l.get(node, wire.TypeNSEC))
	l.appendSigs(wire.Authority, owner, node, wire.TypeNSEC)
}
