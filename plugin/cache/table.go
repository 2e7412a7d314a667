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
	typ    wire.Type
	class  wire.Class
	do, cd bool
	name   wire.Name // lower case
	msg    []byte    // the reply without OPT
	plain  int       // its length without compression
	ad, ra bool
	rcode  wire.Rcode

	stored   time.Duration // by the loops' clock
	ttl      uint32        // seconds, as stored
	wildcard string        // the name that a wildcard answer came from
	answers  bool          // it holds what was asked for
	good     *entry        // the last entry that did, kept when one that does not took its place

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

// ways is how many entries share a set: their tags lie in one cache line.
const ways = 8

// set is one set of the table: entries whose hashes agree in the lower bits.
type set struct {
	tags    [ways]atomic.Uint64 // hash of the entry's key; 0 is free
	entries [ways]atomic.Pointer[entry]
}

// table maps keys to entries. Readers take no lock: they find a tag, load the entry and compare its whole key, so that
// what a writer does in between is a miss at worst. Capacity counts entries; there are twice as many places, so a set is
// rarely full before the table is.
type table struct {
	seed     maphash.Seed
	mask     uint64
	sets     []set
	locks    [64]sync.Mutex // by set; for writers
	count    atomic.Int64
	capacity int64
}

// shards is the unit in which CoreDNS rounds a capacity, each at least four.
const shards = 256

func newTable(capacity int) *table {
	per := max(capacity/shards, 4)
	t := &table{seed: maphash.MakeSeed(), capacity: int64(per * shards)}
	n := 1
	for int64(n*ways) < 2*t.capacity {
		n *= 2
	}
	t.sets, t.mask = make([]set, n), uint64(n-1)
	return t
}

// hash is that of everything that can change an answer: name, type, class, DO and CD.
func (t *table) hash(q *chain.Query) uint64 {
	k := uint64(q.Type)<<32 | uint64(q.Class)<<16
	if q.DO() {
		k |= 1
	}
	if q.CD() {
		k |= 2
	}
	h := q.Name().Hash(t.seed) ^ k*0x9E3779B97F4A7C15
	h ^= h >> 29
	if h == 0 {
		return 1
	}
	return h
}

func (t *table) get(h uint64, q *chain.Query) *entry {
	s := &t.sets[h&t.mask]
	for i := range s.tags {
		if s.tags[i].Load() != h {
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
	at := h & t.mask
	replaced, evicted := t.put(at, h, e, q)
	if replaced || evicted || t.count.Load() <= t.capacity {
		return evicted
	}
	for { // the table is full and this set was not: another one gives an entry
		at = (at + 1 + rand.Uint64N(uint64(len(t.sets)))) & t.mask
		if t.evict(at, e.stored) {
			return true
		}
	}
}

// put stores e in its set, in the place of its own older self, or in a free one, or of another entry when all are taken.
func (t *table) put(at, h uint64, e *entry, q *chain.Query) (replaced, evicted bool) {
	lock := &t.locks[at%uint64(len(t.locks))]
	lock.Lock()
	defer lock.Unlock()
	s := &t.sets[at]
	free := -1
	for i := range s.tags {
		tag := s.tags[i].Load()
		if tag == 0 {
			free = i
		} else if old := s.entries[i].Load(); tag == h && old.matches(q) {
			s.entries[i].Store(e)
			return true, false
		}
	}
	if free < 0 {
		free, evicted = s.victim(e.stored), true
	} else {
		t.count.Add(1)
	}
	s.entries[free].Store(e)
	s.tags[free].Store(h)
	return false, evicted
}

// evict takes one entry out of a set; false when it has none.
func (t *table) evict(at uint64, now time.Duration) bool {
	lock := &t.locks[at%uint64(len(t.locks))]
	lock.Lock()
	defer lock.Unlock()
	s := &t.sets[at]
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
	at := h & t.mask
	lock := &t.locks[at%uint64(len(t.locks))]
	lock.Lock()
	defer lock.Unlock()
	s := &t.sets[at]
	for i := range s.tags {
		if e := s.entries[i].Load(); s.tags[i].Load() == h && e != nil && e.matches(q) {
			s.tags[i].Store(0)
			s.entries[i].Store(nil)
			t.count.Add(-1)
			return
		}
	}
}
