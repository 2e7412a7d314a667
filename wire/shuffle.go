package wire

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// Addresses are the records of an answer section that holds nothing but addresses of one type, owner and time to live: the
// answer of a Service. Only their data differ. They refer to the message and are valid until it changes in any other way.
type Addresses struct {
	b      []byte // the whole section
	stride int    // octets of a record
}

// AddressHead is how many octets such a record has before its data.
const AddressHead = ownHead

// Addresses gives the answer section's records, none when it is of another kind.
func (m *Reply) Addresses() Addresses {
	start := HeaderSize + m.qname + 4
	if m.stride > 0 {
		return Addresses{m.b[start : start+m.Count(Answer)*m.stride], m.stride}
	}
	return addressesAt(m.b, start, m.Count(Answer))
}

// addressesAt looks whether count addresses stand at start of a message.
func addressesAt(msg []byte, start, count int) Addresses {
	if count == 0 || start+ownHead > len(msg) || msg[start] < 0xC0 {
		return Addresses{}
	}
	size := addressSize(Type(binary.BigEndian.Uint16(msg[start+2:])))
	stride := ownHead + size
	if size == 0 || start+count*stride > len(msg) || Class(binary.BigEndian.Uint16(msg[start+4:])) != ClassIN ||
		int(binary.BigEndian.Uint16(msg[start+10:])) != size {
		return Addresses{}
	}
	b := msg[start : start+count*stride]
	for at := stride; at < len(b); at += stride {
		if [ownHead]byte(b[at:]) != [ownHead]byte(b) {
			return Addresses{}
		}
	}
	return Addresses{b, stride}
}

// AddressesOf gives the answer section's records of a finished message whose question ends at octet start.
func AddressesOf(msg []byte, start int) Addresses {
	return addressesAt(msg, start, int(binary.BigEndian.Uint16(msg[6:])))
}

// AddressesIn gives records that were looked at before, in a copy of them.
func AddressesIn(section []byte) Addresses {
	return Addresses{section, ownHead + int(section[ownHead-1])}
}

// Octets are their octets. They refer to the message.
func (a Addresses) Octets() []byte { return a.b }

// Len is their number.
func (a Addresses) Len() int {
	if a.stride == 0 {
		return 0
	}
	return len(a.b) / a.stride
}

// Within is how many of them, at most, a message of limit octets can hold.
func (a Addresses) Within(limit int) int {
	if a.stride == 0 {
		return 0
	}
	return min(a.Len(), limit/a.stride)
}

// Random is a generator of numbers for order, never for what nobody may guess (wyrand). A step of it costs less than the
// call of a larger one. Any value will do to begin with.
type Random uint64

func (r *Random) next() uint64 {
	*r += 0xA0761D6478BD642F
	hi, lo := bits.Mul64(uint64(*r), uint64(*r)^0xE7037ED1A0B428DB)
	return hi ^ lo
}

// draws is how many places one random number gives: what is left of it after one is good for the next. A message has at
// most 4096 records of 16 octets, so that a place is at most 2^48 in 2^64 likelier than another.
const draws = 4

// Shuffle puts the first n of them into a random order, each drawn from all that are left (Fisher and Yates).
func (a Addresses) Shuffle(r *Random, n int) {
	b, stride, left := a.b, a.stride, uint64(a.Len())
	n = min(n, int(left)-1)
	for at := ownHead; n > 0; {
		x := r.next()
		for range min(draws, n) {
			var j uint64
			j, x = bits.Mul64(x, left)
			swap(b, at, at+int(j)*stride, stride)
			at += stride
			left--
		}
		n -= draws
	}
}

// swap has the addresses at two places change them.
func swap(b []byte, at, to, stride int) {
	if stride == ownHead+4 {
		p, q := b[at:at+4], b[to:to+4]
		v, w := binary.LittleEndian.Uint32(p), binary.LittleEndian.Uint32(q)
		binary.LittleEndian.PutUint32(p, w)
		binary.LittleEndian.PutUint32(q, v)
	} else {
		p, q := (*[16]byte)(b[at:]), (*[16]byte)(b[to:])
		*p, *q = *q, *p
	}
}

// Deck deals addresses from a list, again and again. It belongs to one goroutine.
type Deck struct {
	section     []byte // all records, one behind the other, in an order that each deal changes a little
	stride, all int    // octets of a record; how many there are
}

// anew is how many places of a deal are drawn from all addresses, whatever was dealt before: what a random number gives beside the
// beginning. The others are for a client that reached none of them.
const anew = draws - 1

// NewDeck makes a deck of a copy of addresses.
func NewDeck(a Addresses, r *Random) *Deck {
	a.b = bytes.Clone(a.b)
	a.Shuffle(r, a.Len())
	return &Deck{a.b, a.stride, a.Len()}
}

// Size is how many octets its records have.
func (d *Deck) Size() int { return len(d.section) }

// Append appends n records to out, as many as there are addresses or fewer. It begins at any place of the deck, draws what is
// at the first places anew, and goes around: every address is as likely as another to be sent, and at any place. That is
// a copy, where a shuffle of the rest would cost several times as much.
func (d *Deck) Append(out []byte, r *Random, n int) []byte {
	start, x := bits.Mul64(r.next(), uint64(d.all))
	for i := range min(anew, d.all) {
		var j uint64
		j, x = bits.Mul64(x, uint64(d.all-i))
		swap(d.section, d.data(int(start)+i), d.data(int(start)+i+int(j)), d.stride)
	}
	first := d.section[int(start)*d.stride:]
	first = first[:min(len(first), n*d.stride)]
	out = append(out, first...)
	return append(out, d.section[:n*d.stride-len(first)]...)
}

// data gives where the data of a record are, counted around.
func (d *Deck) data(record int) int {
	if record >= d.all {
		record -= d.all
	}
	return record*d.stride + ownHead
}
