//go:build race

package metrics

import "sync/atomic"

// addAlone is what the race detector can follow.
func addAlone(c *atomic.Uint64, n uint64) { c.Store(c.Load() + n) }
