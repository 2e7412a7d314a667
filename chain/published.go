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

// Guard lets an answer stand that was made from data, for as long as it is what answers.
func (p *Published[T]) Guard(data *T) Guard {
	return Guard{Version: &p.version, Check: func(time.Duration) (int, time.Duration, bool) {
		return -1, math.MaxInt64, p.data.Load() == data
	}}
}

// Last is what the handler answered last from on each loop: its Repeat is asked right behind its Serve, when others may have
// been published.
type Last[T any] []last[T]

type last[T any] struct {
	data *T
	_    [56]byte // the next loop's is in another cache line
}

// NewLast makes room for all loops.
func NewLast[T any](env *Env) Last[T] { return make(Last[T], env.Loops) }

// Load is p.Load for an answer to q.
func (l Last[T]) Load(q *Query, p *Published[T]) *T {
	data := p.Load()
	l[q.Shard()].data = data
	return data
}

// Guard lets the answer to q stand while it would be made from the same.
func (l Last[T]) Guard(q *Query, p *Published[T]) Guard { return p.Guard(l[q.Shard()].data) }
