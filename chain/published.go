package chain

import (
	"math"
	"sync/atomic"
	"time"
)

// Published is data that handlers answer from, replaced as a whole and never changed. The zero value holds nil.
type Published[T any] struct {
	data    atomic.Pointer[T]
	version atomic.Uint64
}

// Load gives the data that answers now.
func (p *Published[T]) Load() *T { return p.data.Load() }

// Store replaces it.
func (p *Published[T]) Store(data *T) {
	p.data.Store(data)
	p.version.Add(1)
}

// Last is which version the handler answered from last on each loop: its Repeat is asked right behind its Serve, when another
// may have been published.
type Last[T any] []last

type last struct {
	version uint64
	_       [56]byte // the next loop's is in another cache line
}

// NewLast makes room for all loops.
func NewLast[T any](env *Env) Last[T] { return make(Last[T], env.Loops) }

// Load is p.Load for an answer to q.
func (l Last[T]) Load(q *Query, p *Published[T]) *T {
	l[q.Shard()].version = p.version.Load() // first: one too old only makes the answer stand for less long
	return p.Load()
}

// Guard lets the answer to q stand until others are published. It does not keep the data.
func (l Last[T]) Guard(q *Query, p *Published[T]) Guard {
	from := l[q.Shard()].version
	return Guard{Version: &p.version, Check: func(time.Duration) (int, time.Duration, bool) {
		return -1, math.MaxInt64, p.version.Load() == from
	}}
}
