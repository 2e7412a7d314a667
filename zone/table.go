package zone

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"

	"github.com/godwit-dns/godwit/wire"
)

// table is a zone's names in canonical order, empty non-terminals too, each with its sets of records right behind it. A
// name's number is its place in the block; none is negative. A lookup reads a group of marks, one place and one name: for a
// name that is not there the marks alone, which are few enough to stay near the processor.
type table struct {
	block  []byte   // for each name: the name in wire form, the length of its sets in 4 octets, the sets
	at     []uint32 // where each begins
	seed   maphash.Seed
	marks  []byte   // open addressing in groups of groupSize: some bits of a name's hash with taken, 0 is free
	places []uint32 // what number each mark is for
}

// A group is one word of marks.
const (
	groupSize = 8
	ones      = 0x0101010101010101
	taken     = 0x80
)

// marked gives the group that the name with a hash is looked for in first, and its mark.
func (t *table) marked(h uint64) (group int, mark byte) {
	return int(h) & (len(t.marks)/groupSize - 1), byte(h>>56) | taken
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
	groups := 1
	for 7*groups < len(t.at) { // of each group one place stays free, in the mean
		groups *= 2
	}
	t.seed = maphash.MakeSeed()
	t.marks, t.places = make([]byte, groups*groupSize), make([]uint32, groups*groupSize)
	for _, at := range t.at {
		group, mark := t.marked(t.name(int(at)).Hash(t.seed))
		i := group * groupSize
		for t.marks[i] != 0 {
			i = (i + 1) & (len(t.marks) - 1)
		}
		t.marks[i], t.places[i] = mark, at
	}
}

// look finds the number of a lower-case name, -1 when it is not in the table.
func (t *table) look(n wire.Name) int {
	group, mark := t.marked(n.Hash(t.seed))
	for {
		word := binary.LittleEndian.Uint64(t.marks[group*groupSize:])
		// The lowest octet that is set in same is the first mark alike; one above it may be none.
		differ := word ^ ones*uint64(mark)
		for same := (differ - ones) &^ differ & (ones * taken); same != 0; same &= same - 1 {
			at := int(t.places[group*groupSize+bits.TrailingZeros64(same)/8])
			if len(n) <= len(t.block)-at && string(t.block[at:at+len(n)]) == string(n) {
				return at // a name ends with the root's label, so none begins with another
			}
		}
		if ^word&(ones*taken) != 0 { // a place is free: the name would have it
			return -1
		}
		group = (group + 1) & (len(t.marks)/groupSize - 1)
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
func (t *table) sets(i int) []byte { return t.setsAt(t.afterName(i)) }

// setsAt gives the sets of the name that ends before i.
func (t *table) setsAt(i int) []byte {
	b := t.block[i:]
	return b[sizeLen : sizeLen+int(binary.BigEndian.Uint32(b))]
}
