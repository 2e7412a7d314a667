//go:build race || invariants

package invariant

// On says whether the checks are built in.
const On = true

// Poison overwrites memory that was given back, so that whoever still reads it is noticed: the octet is a label length
// that is not assigned, so that a name read from it is an error at once.
func Poison(b []byte) {
	for i := range b {
		b[i] = 0xA5
	}
}
