package wire

import (
	"encoding/binary"
	"slices"
)

// Item is one record of a section, as a Permutation shows it.
type Item struct {
	Type Type
	at   int // where the record begins
	tail int // where its type stands; the owner is before it
	data int // where its data begins
	end  int
}

// Permutation puts the records of a reply's sections into another order. It keeps its tables from one use to the next, so
// that none are allocated per reply; it must not be used by two goroutines at once.
type Permutation struct {
	m     *Reply
	items [3][]Item
	next  [3][]Item // the order wanted
}

// Open reads where m's records stand. The permutation is good until m changes in any other way.
func (p *Permutation) Open(m *Reply) error {
	p.m = m
	for s := range p.items {
		p.items[s] = p.items[s][:0]
	}
	var c Cursor
	if err := c.Open(m.b); err != nil {
		return err
	}
	for s := range p.items {
		for range c.left[s] {
			typ, data, next, ok := skipRecord(m.b, c.off)
			if !ok {
				return ErrShort
			}
			p.items[s] = append(p.items[s], Item{Type: typ, at: c.off, tail: data - 10, data: data, end: next})
			c.off = next
		}
	}
	for s := range p.next {
		p.next[s] = append(p.next[s][:0], p.items[s]...)
	}
	return nil
}

// Items is the order of a section, for the caller to change by moving items about. It is valid until Open.
func (p *Permutation) Items(s Section) []Item { return p.next[s] }

// Data is the data of a record as it stands in the message: names in it may be compressed.
func (p *Permutation) Data(i *Item) []byte { return p.m.b[i.data:i.end] }

// Owner appends the owner's name, decompressed and in its own case, to dst; nil when it does not parse.
func (p *Permutation) Owner(dst []byte, i *Item) Name {
	n, _, err := ReadName(dst, p.m.b, i.at)
	if err != nil {
		return nil
	}
	return n
}

// InPlace brings the records into the wanted order within the message, where only addresses of the same owner and size
// change places: nothing in the message then points to what moves. It reports whether that was enough; if not, nothing
// has changed, and Write has to be used.
func (p *Permutation) InPlace() bool {
	for s := range p.next {
		for i := range p.next[s] {
			if from, to := &p.next[s][i], &p.items[s][i]; from.at != to.at && !p.alike(from, to) {
				return false
			}
		}
	}
	for s := range p.next {
		p.swap(p.items[s], p.next[s])
	}
	return true
}

// alike reports whether the bytes behind the owners of a and b may change places.
func (p *Permutation) alike(a, b *Item) bool {
	size := 4
	if a.Type == TypeAAAA {
		size = 16
	}
	if a.Type != b.Type || a.Type != TypeA && a.Type != TypeAAAA || a.end-a.data != size || b.end-b.data != size {
		return false
	}
	msg := p.m.b
	if a.tail-a.at == 2 && b.tail-b.at == 2 && msg[a.at] == msg[b.at] && msg[a.at+1] == msg[b.at+1] {
		return true // the same pointer
	}
	var first, second [MaxName]byte
	return Equal(p.Owner(first[:0], a), p.Owner(second[:0], b))
}

// swap walks the cycles of the permutation. An item of next that is done is marked by end 0.
func (p *Permutation) swap(items, next []Item) {
	for start := range next {
		if next[start].end == 0 || next[start].at == items[start].at {
			continue
		}
		var kept [26]byte // type, class, TTL, length, and at most an IPv6 address
		n := copy(kept[:], p.m.b[items[start].tail:items[start].end])
		to := start
		for {
			from := next[to]
			next[to].end = 0
			if from.at == items[start].at {
				copy(p.m.b[items[to].tail:], kept[:n])
				break
			}
			copy(p.m.b[items[to].tail:items[to].end], p.m.b[from.tail:from.end])
			// Items are in the order of the message, and next has each of them once.
			to, _ = slices.BinarySearchFunc(items, from.at, func(i Item, at int) int { return i.at - at })
		}
	}
}

// Write writes the message into dst in the wanted order, with names in records expanded. OPT and TSIG are left out.
func (p *Permutation) Write(dst *Reply) error {
	m := p.m
	end := HeaderSize + m.qname
	typ, class := Type(binary.BigEndian.Uint16(m.b[end:])), Class(binary.BigEndian.Uint16(m.b[end+2:]))
	dst.beginAs(m, Name(m.b[HeaderSize:end]), typ, class)
	var r Record
	for s := range p.next {
		for _, i := range p.next[s] {
			if i.Type == TypeOPT || i.Type == TypeTSIG {
				continue
			}
			one := Cursor{msg: m.b, off: i.at, left: [3]uint16{1}}
			if _, _, err := one.Next(&r); err != nil {
				return err
			}
			if err := dst.appendRecord(Section(s), &r); err != nil {
				return err
			}
		}
	}
	return nil
}
