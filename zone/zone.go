// Package zone holds authoritative data (RFC 1034, 4.2) as packed, immutable tables: it parses master files, looks
// names up with CoreDNS's exact results and gives whole zones away.
//
// A Zone never changes. Whoever reloads builds another one and publishes it with one atomic store. Lookups append to a
// wire.Reply and allocate nothing.
package zone

import (
	"encoding/binary"
	"iter"

	"github.com/godwit-dns/godwit/wire"
)

// Zone is the data of one zone. Its zero value is no zone: use Parse.
type Zone struct {
	origin wire.Name
	serial uint32
	count  int

	// The apex's SOA and NS records and their signatures stand apart from the apex's other records, as lookups need.
	soaOwner                   wire.Name
	soa, soaSigs, apex, nsSigs set
	soaAbove, nsAbove          wire.Above // the two as replies have them; empty where they can't stand so

	names  table
	signed bool // there are NSEC records, or signatures of some
	cuts   bool // there are DNAMEs, or NS records below the apex: a name that exists may not be this zone's to answer
	wild   bool // there are wildcards
}

// set is the records of one owner and type: TTL, class, length of data, data, one behind the other.
type set []byte

const recordHead = 8

// next takes the first record off a set that is not empty.
func (s set) next() (ttl uint32, class wire.Class, data []byte, rest set) {
	n := recordHead + int(binary.BigEndian.Uint16(s[6:]))
	return binary.BigEndian.Uint32(s), wire.Class(binary.BigEndian.Uint16(s[4:])), s[recordHead:n], s[n:]
}

// add appends a record.
func (s set) add(ttl uint32, class wire.Class, data []byte) set {
	s = binary.BigEndian.AppendUint32(s, ttl)
	s = binary.BigEndian.AppendUint16(s, uint16(class))
	s = binary.BigEndian.AppendUint16(s, uint16(len(data)))
	return append(s, data...)
}

// setHead is what stands before a set in the table: its type and its length in octets.
const setHead = 6

// empty reports whether name i is an empty non-terminal (RFC 4592, 2.2.2).
func (z *Zone) empty(i int) bool { return len(z.names.sets(i)) == 0 }

// get gives the set of a type at name i; nil when there is none.
func (z *Zone) get(i int, t wire.Type) set { return pick(z.names.sets(i), t) }

// pick gives the set of a type out of a name's; nil when there is none.
func pick(sets []byte, t wire.Type) set {
	for b := sets; len(b) > 0; {
		n := setHead + int(binary.BigEndian.Uint32(b[2:]))
		if wire.Type(binary.BigEndian.Uint16(b)) == t {
			return set(b[setHead:n])
		}
		b = b[n:]
	}
	return nil
}

// find gives the number of a name that has records; -1 when there is none.
func (z *Zone) find(n wire.Name) int {
	if i := z.names.look(n); i >= 0 && !z.empty(i) {
		return i
	}
	return -1
}

// isEmptyNonTerminal reports whether n has no records while names below it do.
func (z *Zone) isEmptyNonTerminal(n wire.Name) bool {
	i := z.names.look(n)
	return i >= 0 && z.empty(i)
}

// Origin is the zone's name. It must not be changed.
func (z *Zone) Origin() wire.Name { return z.origin }

// Serial is the SOA's serial number (RFC 1982).
func (z *Zone) Serial() uint32 { return z.serial }

// Len is the number of records.
func (z *Zone) Len() int { return z.count }

// Record is one record outside a message. Data is in wire form with names uncompressed; the slices refer to the zone.
type Record struct {
	Owner wire.Name
	Type  wire.Type
	Class wire.Class
	TTL   uint32
	Data  []byte
}

// SOA gives the zone's SOA record.
func (z *Zone) SOA() Record {
	ttl, class, data, _ := z.soa.next()
	return Record{z.soaOwner, wire.TypeSOA, class, ttl, data}
}

// Records gives every record in the order of a transfer (RFC 5936, 2.2): the SOA first, then its signatures, the apex's
// NS records and theirs, then all other records in canonical order of their owners, and the SOA again.
func (z *Zone) Records() iter.Seq[Record] {
	return func(yield func(Record) bool) {
		if !yield(z.SOA()) || !all(z.soaOwner, wire.TypeRRSIG, z.soaSigs, yield) ||
			!all(z.origin, wire.TypeNS, z.apex, yield) || !all(z.origin, wire.TypeRRSIG, z.nsSigs, yield) {
			return
		}
		for _, at := range z.names.at {
			owner := z.names.name(int(at))
			for b := z.names.sets(int(at)); len(b) > 0; {
				n := setHead + int(binary.BigEndian.Uint32(b[2:]))
				if !all(owner, wire.Type(binary.BigEndian.Uint16(b)), set(b[setHead:n]), yield) {
					return
				}
				b = b[n:]
			}
		}
		yield(z.SOA())
	}
}

func all(owner wire.Name, t wire.Type, s set, yield func(Record) bool) bool {
	for len(s) > 0 {
		ttl, class, data, rest := s.next()
		if !yield(Record{owner, t, class, ttl, data}) {
			return false
		}
		s = rest
	}
	return true
}
