package upstream

import (
	"hash/maphash"
	"sync"

	"github.com/godwit-dns/godwit/internal/invariant"
	"github.com/godwit-dns/godwit/loop"
)

// flights is the table of exchanges that identical questions may join, from every loop. Only questions to other servers
// touch it, and each for a few instructions.
type flights struct {
	seed   maphash.Seed
	shards [flightShards]flightShard
}

const flightShards = 64

type flightShard struct {
	mu     sync.Mutex
	byHash map[uint64]*exchange // guarded by mu, as are the waiters of the exchanges in it
	_      [40]byte
}

// waiting is a waiter with the loop it is to be told on.
type waiting struct {
	w    Waiter
	loop *loop.Loop
}

func (f *flights) init() {
	f.seed = maphash.MakeSeed()
	for i := range f.shards {
		f.shards[i].byHash = map[uint64]*exchange{}
	}
}

// enter makes w wait for the exchange of the same question that is in flight and reports true; or puts e in the table,
// with w as its first waiter. Where the table has another question of the same hash, or too many wait already, e stays
// out of it.
func (f *flights) enter(e *exchange, w Waiter) (joined bool) {
	e.hash = maphash.Bytes(f.seed, e.key)
	s := &f.shards[e.hash%flightShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	there := s.byHash[e.hash]
	if there != nil && len(there.waiters) < maxWaiters && string(there.key) == string(e.key) {
		there.waiters = append(there.waiters, waiting{w, e.m.loop})
		e.m.g.metrics.shared.Inc(e.m.loop.Index())
		return true
	}
	e.waiters = append(e.waiters, waiting{w, e.m.loop})
	if there == nil {
		s.byHash[e.hash] = e
		e.listed = true
	}
	return false
}

// leave takes e out of the table: nobody joins it any more, and its waiters are its own.
func (f *flights) leave(e *exchange) {
	if !e.listed {
		return
	}
	s := &f.shards[e.hash%flightShards]
	s.mu.Lock()
	delete(s.byHash, e.hash)
	s.mu.Unlock()
	e.listed = false
}

// delivery tells a waiter of another loop.
type delivery struct {
	w Waiter
	a Answer
}

// Do tells the waiter.
func (d *delivery) Do(*loop.Loop) { d.w.Done(&d.a) }

// deliver tells everybody who waits for e, which is reused afterwards.
func (e *exchange) deliver() {
	for i, w := range e.waiters {
		e.waiters[i] = waiting{}
		if w.loop == e.m.loop {
			w.w.Done(&e.answer)
			continue
		}
		d := &delivery{w.w, e.answer}
		d.a.Msg = append([]byte(nil), e.answer.Msg...)
		w.loop.Post(d)
	}
	invariant.Poison(e.answer.Msg)
	e.m.put(e)
}
