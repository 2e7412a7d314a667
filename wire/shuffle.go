package wire

import (
	"encoding/binary"
	"math/bits"
	"slices"
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
			if to := at + int(j)*stride; stride == ownHead+4 {
				p, q := b[at:at+4], b[to:to+4]
				v, w := binary.LittleEndian.Uint32(p), binary.LittleEndian.Uint32(q)
				binary.LittleEndian.PutUint32(p, w)
				binary.LittleEndian.PutUint32(q, v)
			} else {
				p, q := (*[16]byte)(b[at:]), (*[16]byte)(b[to:])
				*p, *q = *q, *p
			}
			at += stride
			left--
		}
		n -= draws
	}
}

// MaxDeck is how many octets of addresses a Deck can draw from.
const MaxDeck = 1 << 14

// Deck draws addresses from a list, in random order. It holds a table and must not be used by two goroutines at once.
type Deck struct {
	Random Random
	left   [MaxDeck + 4]byte // the addresses that have not been drawn
}

// Append appends n records to out: head, which is what they have in common, with addresses drawn from data. It is what
// Shuffle makes of all of them when only n are sent, without a look at the others. There are at least n addresses in data,
// of the size that head ends with, 4 or 16.
func (d *Deck) Append(out, head, data []byte, n int) []byte {
	size := int(head[ownHead-1])
	left := uint64(copy(d.left[:MaxDeck], data) / size)
	if size != 4 {
		for range n {
			j, _ := bits.Mul64(d.Random.next(), left)
			left--
			out = append(append(out, head[:ownHead]...), d.left[int(j)*size:][:size]...)
			copy(d.left[int(j)*size:][:size], d.left[int(left)*size:])
		}
		return out
	}
	first, last := binary.LittleEndian.Uint64(head), uint64(binary.LittleEndian.Uint32(head[8:]))
	at := len(out)
	out = slices.Grow(out, n*(ownHead+4))[:at+n*(ownHead+4)]
	to := out[at:]
	for ; len(to) >= draws*(ownHead+4); to = to[draws*(ownHead+4):] {
		four := (*[draws * (ownHead + 4)]byte)(to)
		a, x := d.draw4(d.Random.next(), left)
		b, x := d.draw4(x, left-1)
		c, x := d.draw4(x, left-2)
		e, _ := d.draw4(x, left-3)
		left -= draws
		put4(four[:], first, last, a)
		put4(four[16:], first, last, b)
		put4(four[32:], first, last, c)
		put4(four[48:], first, last, e)
	}
	for ; len(to) >= ownHead+4; to = to[ownHead+4:] {
		a, _ := d.draw4(d.Random.next(), left)
		left--
		put4(to, first, last, a)
	}
	return out
}

// draw4 draws one of the addresses that are left and puts the last in its place. What is left of x is good for more draws.
func (d *Deck) draw4(x, left uint64) (address uint32, rest uint64) {
	j, rest := bits.Mul64(x, left)
	at, end := j*4&(MaxDeck-1), (left-1)*4&(MaxDeck-1) // both are below: this shows the compiler
	address = binary.LittleEndian.Uint32(d.left[at : at+4])
	binary.LittleEndian.PutUint32(d.left[at:at+4], binary.LittleEndian.Uint32(d.left[end:end+4]))
	return address, rest
}
