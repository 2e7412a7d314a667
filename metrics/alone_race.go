//go:build race

package metrics

import "sync/atomic"

// AddAlone is what the race detector can follow.
func AddAlone(c *atomic.Uint64, n uint64) { c.Store(c.Load() + n) }
