package cache

import (
	"math"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// Repeat lets hits be given again while their entry is what a lookup would find, and answers from below that are never
// stored while a lookup would find nothing.
func (c *Cache) Repeat(q *chain.Query, r *chain.Repeat) bool {
	st := c.slot.Of(q)
	if !r.Answered && !st.active { // none of its zones
		return true
	}
	if c.cfg.prefetch > 0 || c.cfg.preferPositive || c.wildcards != nil {
		return false // a hit does more than to answer
	}
	n, hash, e := c.counters.of(q), st.hash, st.hit
	if !r.Answered {
		r.Cells = append(r.Cells, n.requests.counter().Cell(), n.misses.counter().Cell())
		r.Guards = append(r.Guards, chain.Guard{Version: c.success.changes, Check: func(now time.Duration) (int, time.Duration, bool) {
			return -1, math.MaxInt64, !c.mayHave(c.denial, hash, now) && !c.mayHave(c.success, hash, now)
		}})
		return q.Current
	}
	if e == nil { // an expired entry answered, and something else may be on its way
		return false
	}
	from, hits := c.success, &n.success
	if e.denial {
		from, hits = c.denial, &n.denial
	}
	r.Cells = append(r.Cells, n.requests.counter().Cell(), hits.counter().Cell())
	r.Guards = append(r.Guards, chain.Guard{Version: c.success.changes, Check: func(now time.Duration) (int, time.Duration, bool) {
		if from == c.success && c.mayHave(c.denial, hash, now) || !from.holds(hash, e) {
			return 0, 0, false
		}
		left := e.left(now)
		ttl, until := left, e.stored+time.Duration(int(e.ttl)-left+1)*time.Second
		if c.cfg.keepTTL {
			ttl = int(e.ttl)
		}
		return ttl, until, left > 0
	}})
	return e.rcode != wire.ServFail // a failure does not hide a live answer, whenever that comes
}

// holds reports whether e is in the table.
func (t *table) holds(h uint64, e *entry) bool {
	all := t.live.Load()
	s := &all.at[h&all.mask]
	for i := range s.entries {
		if s.entries[i].Load() == e {
			return true
		}
	}
	return false
}

// mayHave reports whether a lookup of the hash could find an entry that may answer.
func (c *Cache) mayHave(t *table, h uint64, now time.Duration) bool {
	all := t.live.Load()
	s, want := &all.at[h&all.mask], tag(h)
	for i := range s.tags {
		if s.tags[i].Load() != want {
			continue
		}
		if e := s.entries[i].Load(); e != nil && c.usable(e, now) {
			return true
		}
	}
	return false
}
