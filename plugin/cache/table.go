package cache

import (
	"bytes"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// entry is one stored reply. What it answers with never changes after it was published; the fields at the end only steer
// its refreshing.
type entry struct {
	// What every hit reads comes first, in as few cache lines as it can.
	typ    wire.Type
	class  wire.Class
	do, cd bool
	ad, ra bool
	ttl    uint32 // seconds, as stored
	plain  int32  // the reply's length without compression
	name   wire.Name
	msg    []byte        // the reply without OPT
	stored time.Duration // by the loops' clock
	rcode  wire.Rcode

	denial   bool   // it is in the table of denials
	answers  bool   // it holds what was asked for
	wildcard string // the name that a wildcard answer came from
	good     *entry // the last entry that did, kept when one that does not took its place

	refreshing atomic.Bool
	retryAfter atomic.Int64 // no refresh before that time
	seen       atomic.Int64 // when it was last asked for
	hits       atomic.Int64 // how often without a gap
}

// left is the remaining time to live in whole seconds at now; negative since it expired.
func (e *entry) left(now time.Duration) int { return int(e.ttl) - int((now-e.stored)/time.Second) }

func (e *entry) matches(q *chain.Query) bool {
	// Both names are lower case, so they are compared as they are.
	return e.typ == q.Type && e.class == q.Class && e.do == q.DO() && e.cd == q.CD() && bytes.Equal(e.name, q.Name())
}

// answering gives the entry, or the one kept behind it, that holds what was asked for.
func (e *entry) answering() *entry {
	if e.answers {
		return e
	}
	return e.good
}

// begin reports whether a refresh may start now: none runs, and the last failure is long enough ago.
func (e *entry) begin(now time.Duration, recheck time.Duration) bool {
	if recheck > 0 && int64(now) < e.retryAfter.Load() {
		return false
	}
	return e.refreshing.CompareAndSwap(false, true)
}

func (e *entry) end(now time.Duration, recheck time.Duration, refreshed bool) {
	after := int64(0)
	if recheck > 0 && !refreshed {
		after = int64(now + recheck)
	}
	e.retryAfter.Store(after)
	e.refreshing.Store(false)
}

// ways is how many entries share a set: as many as fit into a cache line with their tags, so that a lookup touches one.
const ways = 5

// set is one set of the table: entries whose hashes agree in the lower bits.
type set struct {
	tags    [ways]atomic.Uint32 // the upper half of the hash of the entry's key; 0 is free
	_       uint32
	entries [ways]atomic.Pointer[entry]
}

// tag is the part of a hash that does not choose the set.
func tag(h uint64) uint32 { return max(uint32(h>>32), 1) }

// sets is the places of a table; their number is a power of two.
type sets struct {
	mask uint64
	at   []set
}

func newSets(n int) *sets { return &sets{mask: uint64(n - 1), at: make([]set, n)} }

// table maps keys to entries. Readers take no lock: they find a tag, load the entry and compare its whole key, so that
// what a writer does in between is a miss at worst. Capacity counts entries; there are four times as many places, so a set
// is rarely full before the table is. A table begins small and doubles as it fills: what is asked for lies close together.
type table struct {
	seed     maphash.Seed
	changes  *atomic.Uint64 // moves after each change of this table or the other
	live     atomic.Pointer[sets]
	locks    [64]sync.Mutex // by set; for writers. All of them together are for the one that doubles
	count    atomic.Int64
	capacity int64
	most     int // sets at capacity
}

// shards is the unit in which CoreDNS rounds a capacity, each at least four.
const shards = 256

// A table with up to maxGrown sets begins with firstSets. Doubling a larger one would hold up the loop that does it.
const (
	firstSets = 64
	maxGrown  = 1 << 14
)

// newTables makes the two tables of a cache. They have one seed, because a query's hash is made once for both.
func newTables(success, denial int) (*table, *table) {
	seed := maphash.MakeSeed()
	s, d := newTable(success, seed), newTable(denial, seed)
	d.changes = s.changes
	return s, d
}

func newTable(capacity int, seed maphash.Seed) *table {
	per := max(capacity/shards, 4)
	t := &table{seed: seed, changes: new(atomic.Uint64), capacity: int64(per * shards), most: 1}
	for int64(t.most*ways) < 4*t.capacity {
		t.most *= 2
	}
	if t.most > maxGrown {
		t.live.Store(newSets(t.most))
	} else {
		t.live.Store(newSets(min(firstSets, t.most)))
	}
	return t
}

// hash is that of everything that can change an answer: name, type, class, DO and CD.
func (t *table) hash(q *chain.Query) uint64 {
	return t.hashOf(q.Name(), q.Type, q.Class, q.DO(), q.CD())
}

func (t *table) hashOf(name wire.Name, typ wire.Type, class wire.Class, do, cd bool) uint64 {
	k := uint64(typ)<<32 | uint64(class)<<16
	if do {
		k |= 1
	}
	if cd {
		k |= 2
	}
	h := name.Hash(t.seed) ^ k*0x9E3779B97F4A7C15
	return h ^ h>>29
}

func (t *table) get(h uint64, q *chain.Query) *entry {
	all := t.live.Load()
	s, want := &all.at[h&all.mask], tag(h)
	for i := range s.tags {
		if s.tags[i].Load() != want {
			continue
		}
		if e := s.entries[i].Load(); e != nil && e.matches(q) {
			return e
		}
	}
	return nil
}

// add stores e and reports whether another entry had to go for it.
func (t *table) add(h uint64, e *entry, q *chain.Query) (evicted bool) {
	defer t.changes.Add(1)
	replaced, evicted, ok := t.put(h, e, q)
	for ; !ok; replaced, evicted, ok = t.put(h, e, q) {
		t.grow(t.live.Load())
	}
	if replaced || evicted {
		return evicted
	}
	n := t.count.Load()
	if n <= t.capacity {
		if all := t.live.Load(); n*4 > int64(len(all.at)*ways) {
			t.grow(all)
		}
		return false
	}
	for { // the table is full and this set was not: another one gives an entry
		if t.evict(rand.Uint64(), e.stored) {
			return true
		}
	}
}

// lock gives the set of a hash with its lock held.
func (t *table) lock(h uint64) (*set, *sync.Mutex) {
	for {
		all := t.live.Load()
		at := h & all.mask
		lock := &t.locks[at%uint64(len(t.locks))]
		lock.Lock()
		if t.live.Load() == all {
			return &all.at[at], lock
		}
		lock.Unlock() // it was doubled meanwhile
	}
}

// grow doubles the table, unless another goroutine just did or it has all its sets.
func (t *table) grow(from *sets) {
	if len(from.at) >= t.most {
		return
	}
	for i := range t.locks {
		t.locks[i].Lock()
		defer t.locks[i].Unlock()
	}
	if t.live.Load() != from {
		return
	}
	next := newSets(2 * len(from.at))
	for i := range from.at {
		for w := range ways {
			e := from.at[i].entries[w].Load()
			if e == nil {
				continue
			}
			// A set's entries go to two sets, so there is always a place.
			h := t.hashOf(e.name, e.typ, e.class, e.do, e.cd)
			to := &next.at[h&next.mask]
			to.entries[w].Store(e)
			to.tags[w].Store(tag(h))
		}
	}
	t.live.Store(next)
}

// put stores e in its set, in the place of its own older self, or in a free one, or of another entry when all are taken.
// It is not ok when all are taken and the table may still grow.
func (t *table) put(h uint64, e *entry, q *chain.Query) (replaced, evicted, ok bool) {
	s, lock := t.lock(h)
	defer lock.Unlock()
	free := -1
	for i := range s.tags {
		has := s.tags[i].Load()
		if has == 0 {
			free = i
		} else if old := s.entries[i].Load(); has == tag(h) && old.matches(q) {
			s.entries[i].Store(e)
			return true, false, true
		}
	}
	if free < 0 {
		if len(t.live.Load().at) < t.most {
			return false, false, false
		}
		free, evicted = s.victim(e.stored), true
	} else {
		t.count.Add(1)
	}
	s.entries[free].Store(e)
	s.tags[free].Store(tag(h))
	return false, evicted, true
}

// evict takes one entry out of the set of a hash; false when it has none.
func (t *table) evict(h uint64, now time.Duration) bool {
	s, lock := t.lock(h)
	defer lock.Unlock()
	i := s.victim(now)
	if i < 0 {
		return false
	}
	s.tags[i].Store(0)
	s.entries[i].Store(nil)
	t.count.Add(-1)
	return true
}

// victim chooses the entry that goes: one that has expired, else a random one; -1 in an empty set.
func (s *set) victim(now time.Duration) int {
	first := rand.IntN(ways)
	chosen := -1
	for n := range ways {
		i := (first + n) % ways
		e := s.entries[i].Load()
		if e == nil {
			continue
		}
		if e.left(now) <= 0 {
			return i
		}
		if chosen < 0 {
			chosen = i
		}
	}
	return chosen
}

func (t *table) remove(h uint64, q *chain.Query) {
	defer t.changes.Add(1)
	s, lock := t.lock(h)
	defer lock.Unlock()
	for i := range s.tags {
		if e := s.entries[i].Load(); s.tags[i].Load() == tag(h) && e != nil && e.matches(q) {
			s.tags[i].Store(0)
			s.entries[i].Store(nil)
			t.count.Add(-1)
			return
		}
	}
}
