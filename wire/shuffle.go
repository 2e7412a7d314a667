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

// Deck deals addresses from a list. It is never changed.
type Deck struct {
	head  []byte
	data  []byte
	steps [32]uint16
}

// NewDeck makes a deck of addresses, at least two, whose octets lie one behind the other in data and never change; head is
// what the records have in common. Both are kept.
func NewDeck(head, data []byte, r *Random) *Deck {
	d := &Deck{head: head, data: data}
	all := uint64(len(data) / int(head[ownHead-1]))
	for i := range d.steps {
		for d.steps[i] == 0 {
			step, _ := bits.Mul64(r.next(), min(all, 1<<16)-1)
			if step++; coprime(step, all) {
				d.steps[i] = uint16(step)
			}
		}
	}
	return d
}

func coprime(a, b uint64) bool {
	for b > 0 {
		a, b = b, a%b
	}
	return a == 1
}

// Append appends n records to out, as many as there are addresses or fewer. It begins at any of them, and goes on by one of
// its steps, which lead to each before they lead to one again: every address is as likely as another to be sent, and at any
// place. That takes half the time of Shuffle, and no look at those that are not sent.
func (d *Deck) Append(out []byte, r *Random, n int) []byte {
	size, data := int(d.head[ownHead-1]), d.data
	x := r.next()
	start, x := bits.Mul64(x, uint64(len(data)/size))
	step, at := size*int(d.steps[x>>59]), size*int(start)
	if size != 4 {
		for range n {
			out = append(append(out, d.head[:ownHead]...), data[at:at+size]...)
			at = after(at, step, len(data))
		}
		return out
	}
	first, last := binary.LittleEndian.Uint64(d.head), uint64(binary.LittleEndian.Uint32(d.head[8:]))
	end := len(out)
	out = slices.Grow(out, n*(ownHead+4))[:end+n*(ownHead+4)]
	to := out[end:]
	for ; len(to) >= 4*(ownHead+4); to = to[4*(ownHead+4):] {
		four := (*[4 * (ownHead + 4)]byte)(to)
		put4(four[:], first, last, binary.LittleEndian.Uint32(data[at:at+4]))
		at = after(at, step, len(data))
		put4(four[16:], first, last, binary.LittleEndian.Uint32(data[at:at+4]))
		at = after(at, step, len(data))
		put4(four[32:], first, last, binary.LittleEndian.Uint32(data[at:at+4]))
		at = after(at, step, len(data))
		put4(four[48:], first, last, binary.LittleEndian.Uint32(data[at:at+4]))
		at = after(at, step, len(data))
	}
	for ; len(to) >= ownHead+4; to = to[ownHead+4:] {
		put4(to, first, last, binary.LittleEndian.Uint32(data[at:at+4]))
		at = after(at, step, len(data))
	}
	return out
}

// after goes a step around.
func after(at, step, end int) int {
	if at += step; at >= end {
		at -= end
	}
	return at
}
