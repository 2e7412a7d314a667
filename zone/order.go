package zone

import (
	"bytes"
	"sort"

	"github.com/godwit-dns/godwit/wire"
)

// maxLabels is the most labels that a name can have: 127 of one octet each, and the root.
const maxLabels = 128

// labelsOf writes where each label of n begins into at, the first label first, and gives their number.
func labelsOf(at *[maxLabels]uint8, n wire.Name) int {
	count := 0
	for i := 0; n[i] != 0; i += 1 + int(n[i]) {
		at[count] = uint8(i)
		count++
	}
	return count
}

// compare orders two lower-case names canonically (RFC 4034, 6.1): label by label from the right, a missing label
// first. Negative when a comes first.
func compare(a, b wire.Name) int {
	var ats, bts [maxLabels]uint8
	i, j := labelsOf(&ats, a), labelsOf(&bts, b)
	for i > 0 && j > 0 {
		i--
		j--
		if c := bytes.Compare(a[ats[i]:].Label(), b[bts[j]:].Label()); c != 0 {
			return c
		}
	}
	return i - j
}

// floor gives the number of the last name with records that is n or comes before it; -1 when there is none.
func (z *Zone) floor(n wire.Name) int {
	at := z.names.at
	i := sort.Search(len(at), func(i int) bool { return compare(z.names.name(int(at[i])), n) > 0 }) - 1
	for i >= 0 && z.empty(int(at[i])) {
		i--
	}
	if i < 0 {
		return -1
	}
	return int(at[i])
}
