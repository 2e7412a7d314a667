// Package invariant holds checks that cost too much for every day: they are built in under -race or with the build tag
// invariants, and are empty otherwise.
package invariant
