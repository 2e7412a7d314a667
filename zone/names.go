package zone

import (
	"errors"
	"hash/maphash"
	"math"

	"github.com/godwit-dns/godwit/wire"
)

// Names is an immutable set of names, packed: about 12 octets a name beside the name itself. Names are numbered from 0
// in the order in which they were added.
type Names struct {
	seed  maphash.Seed
	text  []byte   // the names in wire form, lower case, one behind the other
	at    []uint32 // where each begins
	slots []uint32 // open addressing: number + 1, 0 is free
}

// errTooLarge ends the building of a table whose offsets would not fit in 32 bits.
var errTooLarge = errors.New("more than 4 GiB of names and records")

// Len is the number of names.
func (s *Names) Len() int { return len(s.at) }

// Name gives a name by its number. It refers to the set and must not be changed.
func (s *Names) Name(i int) wire.Name {
	begin := s.at[i]
	if i+1 < len(s.at) {
		return wire.Name(s.text[begin:s.at[i+1]])
	}
	return wire.Name(s.text[begin:])
}

// Find gives the number of a lower-case name; -1 when it is not in the set.
func (s *Names) Find(n wire.Name) int {
	if len(s.slots) == 0 {
		return -1
	}
	mask := uint64(len(s.slots) - 1)
	for h := n.Hash(s.seed) & mask; s.slots[h] != 0; h = (h + 1) & mask {
		i := int(s.slots[h] - 1)
		if string(s.Name(i)) == string(n) {
			return i
		}
	}
	return -1
}

// Add gives the number of a lower-case name, entering it when it is new. Only whoever builds the set may call it, before
// anybody else reads. The name is copied.
func (s *Names) Add(n wire.Name) (i int, added bool, err error) {
	if i := s.Find(n); i >= 0 {
		return i, false, nil
	}
	if len(s.text)+len(n) > math.MaxUint32 {
		return 0, false, errTooLarge
	}
	s.at = append(s.at, uint32(len(s.text)))
	s.text = append(s.text, n...)
	if 3*len(s.at) > 2*len(s.slots) {
		s.grow()
	} else {
		s.enter(len(s.at) - 1)
	}
	return len(s.at) - 1, true, nil
}

func (s *Names) grow() {
	if len(s.slots) == 0 {
		s.seed = maphash.MakeSeed()
	}
	s.slots = make([]uint32, max(8, 2*len(s.slots)))
	for i := range s.at {
		s.enter(i)
	}
}

func (s *Names) enter(i int) {
	mask := uint64(len(s.slots) - 1)
	h := s.Name(i).Hash(s.seed) & mask
	for s.slots[h] != 0 {
		h = (h + 1) & mask
	}
	s.slots[h] = uint32(i + 1)
}

// Index is what is kept for zones.
type Index[T any] struct{ wire.Index[T] }

// Find gives the longest zone that the lower-case name n is in, counted in labels, and what is kept for it. The zone
// returned refers to n.
func (x *Index[T]) Find(n wire.Name) (zone wire.Name, v T, ok bool) {
	for rest := n; ; rest = rest.Parent() {
		if v, ok = x.Get(rest); ok {
			return rest, v, true
		}
		if len(rest) <= 1 {
			return nil, v, false
		}
	}
}

// List is some zones: those of a fallthrough, for instance. They are in lower case.
type List []wire.Name

// ParseList reads zones in presentation form. It reports the first that is no name.
func ParseList(zones []string) (List, error) {
	list := make(List, 0, len(zones))
	for _, z := range zones {
		n, err := wire.ParseName(z)
		if err != nil {
			return nil, errors.New(z + " is not a domain name")
		}
		wire.ToLower(n)
		list = append(list, n)
	}
	return list, nil
}

// Has reports whether n is in one of the zones.
func (l List) Has(n wire.Name) bool {
	for _, z := range l {
		if n.Under(z) {
			return true
		}
	}
	return false
}

// Wildcard writes the name with n's first label replaced by an asterisk (RFC 4592, 2.1.1) into buf and returns it, or
// nil when n has fewer than two labels: CoreDNS never looks for "*." itself.
func Wildcard(buf *[wire.MaxName + 1]byte, n wire.Name) wire.Name {
	if len(n) <= 1 {
		return nil
	}
	parent := n.Parent()
	if len(parent) <= 1 {
		return nil
	}
	buf[0], buf[1] = 1, '*'
	return wire.Name(buf[:2+copy(buf[2:], parent)])
}
