//go:build !race && !invariants

package invariant

// On says whether the checks are built in.
const On = false

// Poison overwrites memory that was given back, so that whoever still reads it is noticed. It does nothing in this build.
func Poison([]byte) {}
