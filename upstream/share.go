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

// The table has room for thousands without long lists: a list is a few exchanges, linked through themselves.
const (
	flightShards = 64
	flightLists  = 15
)

// flightShard fills two lines of a CPU's cache.
type flightShard struct {
	mu    sync.Mutex
	lists [flightLists]*exchange // by hash, linked by after; guarded by mu, as are the waiters of the exchanges in them
}

// waiting is a waiter with the loop it is to be told on.
type waiting struct {
	w    Waiter
	loop *loop.Loop
}

func (f *flights) init() {
	f.seed = maphash.MakeSeed()
}

// place gives the shard and the list of a hash.
func (f *flights) place(hash uint64) (*flightShard, **exchange) {
	s := &f.shards[hash%flightShards]
	return s, &s.lists[hash/flightShards%flightLists]
}

// enter makes w wait for the exchange of the same question that is in flight and reports true; or puts e in the table,
// with w as its first waiter. Where the table has another question of the same hash, or too many wait already, e stays
// out of it.
func (f *flights) enter(e *exchange, w Waiter) (joined bool) {
	e.hash = maphash.Bytes(f.seed, e.key)
	s, list := f.place(e.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	there := *list
	for there != nil && there.hash != e.hash {
		there = there.after
	}
	if there != nil && len(there.waiters) < maxWaiters && string(there.key) == string(e.key) {
		there.waiters = append(there.waiters, waiting{w, e.m.loop})
		e.m.g.metrics.shared.Inc(e.m.loop.Index())
		return true
	}
	e.waiters = append(e.waiters, waiting{w, e.m.loop})
	if there == nil {
		e.after, *list = *list, e
		e.listed = true
	}
	return false
}

// leave takes e out of the table: nobody joins it any more, and its waiters are its own.
func (f *flights) leave(e *exchange) {
	if !e.listed {
		return
	}
	s, at := f.place(e.hash)
	s.mu.Lock()
	for *at != e {
		at = &(*at).after
	}
	*at = e.after
	s.mu.Unlock()
	e.after, e.listed = nil, false
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
