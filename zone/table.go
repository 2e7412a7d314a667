package zone

import (
	"encoding/binary"
	"hash/maphash"
	"math"

	"github.com/godwit-dns/godwit/wire"
)

// table is a zone's names in canonical order, empty non-terminals too, each with its sets of records right behind it: a
// lookup reads one slot and one place in the block. A name's number is that place; none is negative.
type table struct {
	block []byte   // for each name: the name in wire form, the length of its sets in 4 octets, the sets
	at    []uint32 // where each begins
	seed  maphash.Seed
	slots []uint64 // open addressing: the upper half of the hash, and 1 + number; 0 is free
}

// sizeLen is what stands between a name and its sets.
const sizeLen = 4

// enter adds a name behind all others, without sets. Only whoever builds the table may call it.
func (t *table) enter(n wire.Name) error {
	if err := t.room(len(n) + sizeLen); err != nil {
		return err
	}
	t.at = append(t.at, uint32(len(t.block)))
	t.block = append(append(t.block, n...), 0, 0, 0, 0)
	return nil
}

// room reports an error when n more octets would be more than numbers can say.
func (t *table) room(n int) error {
	if len(t.block)+n >= math.MaxUint32 {
		return errTooLarge
	}
	return nil
}

// close writes down how long the sets of the name are that was entered last.
func (t *table) close() {
	if len(t.at) > 0 {
		begin := t.afterName(int(t.at[len(t.at)-1]))
		binary.BigEndian.PutUint32(t.block[begin:], uint32(len(t.block)-begin-sizeLen))
	}
}

// index makes the names findable when all have been entered, and gives spare room back.
func (t *table) index() {
	t.block = append([]byte(nil), t.block...)
	t.at = append([]uint32(nil), t.at...)
	size := 8
	for 2*size < 3*len(t.at) {
		size *= 2
	}
	t.seed, t.slots = maphash.MakeSeed(), make([]uint64, size)
	for _, at := range t.at {
		h := t.name(int(at)).Hash(t.seed)
		i := h & uint64(size-1)
		for t.slots[i] != 0 {
			i = (i + 1) & uint64(size-1)
		}
		t.slots[i] = h>>32<<32 | uint64(at) + 1
	}
}

// look finds the number of a lower-case name, -1 when it is not in the table.
func (t *table) look(n wire.Name) int {
	h := n.Hash(t.seed)
	for i := h; ; i++ {
		s := t.slots[i&uint64(len(t.slots)-1)]
		if s == 0 {
			return -1
		}
		at := int(uint32(s) - 1)
		if s>>32 == h>>32 && len(n) <= len(t.block)-at && string(t.block[at:at+len(n)]) == string(n) {
			return at // a name ends with the root's label, so none begins with another
		}
	}
}

// afterName gives where the name with number i ends.
func (t *table) afterName(i int) int {
	for t.block[i] != 0 {
		i += 1 + int(t.block[i])
	}
	return i + 1
}

// name gives a name by its number. It refers to the table and must not be changed.
func (t *table) name(i int) wire.Name { return wire.Name(t.block[i:t.afterName(i)]) }

// sets gives the sets of a name, one behind the other with their heads.
func (t *table) sets(i int) []byte {
	b := t.block[t.afterName(i):]
	return b[sizeLen : sizeLen+int(binary.BigEndian.Uint32(b))]
}
