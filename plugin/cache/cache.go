// Package cache keeps replies for their time to live, denials too (RFC 2308), refreshes popular ones ahead of time and,
// where asked, answers with expired ones while nobody upstream does (RFC 8767).
//
//	cache [TTL] [ZONES...] {
//	    success CAPACITY [TTL] [MINTTL]
//	    denial CAPACITY [TTL] [MINTTL]
//	    prefetch AMOUNT [DURATION [PERCENTAGE%]]
//	    serve_stale [DURATION] [immediate|verify …]
//	    …
//	}
//
// A hit, in steps: look the key up (lookup), judge the entry's age (Serve), copy it into the reply and set its TTL
// (answer). A miss goes on with AD set, and its reply is seen in Reply: one TTL for all records, stored if it may be.
package cache

import (
	"math"
	"strings"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/wire"
)

// Cache is the handler. It is shared by all zones of its block.
type Cache struct {
	cfg       config
	env       *chain.Env
	slot      *chain.Slot[state]
	success   *table
	denial    *table
	counters  *counterSet
	wildcards func(q *chain.Query) string // what made a wildcard answer; nil without metadata
}

var (
	_ chain.Replier  = (*Cache)(nil)
	_ chain.Resumer  = (*Cache)(nil)
	_ chain.Repeater = (*Cache)(nil)
)

// state is what the cache knows of a query that is on its way below it.
type state struct {
	active     bool // one of the cache's zones
	ad         bool // the client's AD bit, which goes downstream set
	background bool // nobody waits: prefetch, or verification with a time limit
	verify     bool // only a reply that is better than stale may take its place
	refreshed  bool
	hash       uint64
	stale      *entry // what is served if nothing better comes
	old        *entry // the entry that a spawned walk refreshes
	item       *entry // what Reply stored
	hit        *entry // what Serve answered with
	wildcard   string
	timer      loop.Timer
	ticket     chain.Ticket
}

// Fire ends the wait for a verification.
func (s *state) Fire(*loop.Loop) { s.ticket.Resume(chain.Event{Kind: chain.EventTimer}) }

// Serve answers from the cache, or lets the query pass.
func (c *Cache) Serve(q *chain.Query) chain.Outcome {
	if !c.covers(q.Name()) {
		return chain.Next
	}
	st := c.slot.Of(q)
	st.active, st.ad = true, q.AD()
	now := q.Now()
	st.hash = c.success.hash(q)
	e := c.lookup(q, st.hash, now)
	if e == nil {
		q.Flags |= wire.FlagAD // ask for what a validator has to say, whoever the client is
		return chain.Next
	}
	left := e.left(now)
	switch {
	case left <= 0 && c.cfg.verify:
		return c.check(q, st, e)
	case left <= 0:
		return c.answerStale(q, st, e)
	case c.popular(e, now, left):
		c.prefetch(q, st, e, false)
	}
	st.hit = e
	return c.answer(q, st, e, uint32(left))
}

func (c *Cache) covers(name wire.Name) bool {
	for _, z := range c.cfg.zones {
		if name.Under(z) {
			return true
		}
	}
	return false
}

// usable reports whether an entry may answer at now: alive, or expired and stale answers are wanted.
func (c *Cache) usable(e *entry, now time.Duration) bool {
	left := e.left(now)
	return left > 0 || c.cfg.staleUpTo > 0 && -left < int(c.cfg.staleUpTo/time.Second)
}

// lookup finds the entry to answer with. Denials come first, but a failure never hides a live answer.
func (c *Cache) lookup(q *chain.Query, h uint64, now time.Duration) *entry {
	n := c.counters.of(q)
	n.requests.Inc(q.Shard())
	if c.cfg.preferPositive && c.cfg.staleUpTo > 0 {
		if e := c.success.get(h, q); e != nil {
			if e = e.answering(); e != nil && c.usable(e, now) {
				n.success.Inc(q.Shard())
				return e
			}
		}
	}
	if e := c.denial.get(h, q); e != nil && c.usable(e, now) {
		if e.rcode == wire.ServFail {
			if p := c.success.get(h, q); p != nil && c.usable(p, now) {
				n.success.Inc(q.Shard())
				return p
			}
		}
		n.denial.Inc(q.Shard())
		return e
	}
	if e := c.success.get(h, q); e != nil && c.usable(e, now) {
		n.success.Inc(q.Shard())
		return e
	}
	n.misses.Inc(q.Shard())
	return nil
}

// answer makes the reply from an entry, every record with the same TTL.
func (c *Cache) answer(q *chain.Query, st *state, e *entry, ttl uint32) chain.Outcome {
	if c.cfg.keepTTL {
		ttl = e.ttl
	}
	st.wildcard = e.wildcard
	q.Reply.Load(e.msg, int(e.plain), &q.Request)
	q.Reply.SetTTL(ttl)
	// AA is set on every hit, as CoreDNS sets it: old resolvers throw replies without it away.
	set, clear := wire.FlagAA, wire.FlagAD|wire.FlagRA|wire.FlagTC|wire.FlagZ
	if e.ad && (q.DO() || st.ad) {
		set |= wire.FlagAD // RFC 6840, 5.7: only for those who can make something of it
	}
	if e.ra {
		set |= wire.FlagRA
	}
	q.Reply.SetFlags(set, clear)
	st.active = false // what it answered itself is not stored again
	return chain.Answered
}

// answerStale answers with an expired entry and refreshes it behind the client's back.
func (c *Cache) answerStale(q *chain.Query, st *state, e *entry) chain.Outcome {
	if !c.cfg.verify {
		c.prefetch(q, st, e, true)
	}
	c.counters.of(q).stale.Inc(q.Shard())
	out := c.answer(q, st, e, uint32(c.cfg.staleTTL/time.Second))
	if c.env.Node { // CoreDNS does not mark its own
		q.Reply.SetEDE(staleCode(e.rcode), "")
	}
	return out
}

// staleCode is the extended error of an answer from an expired entry (RFC 8914, 4.4 and 4.20).
func staleCode(r wire.Rcode) uint16 {
	if r == wire.NXDomain {
		return 19
	}
	return 3
}

// popular reports whether an entry that is about to expire has been asked for often enough to fetch it again now.
func (c *Cache) popular(e *entry, now time.Duration, left int) bool {
	if c.cfg.prefetch <= 0 {
		return false
	}
	if last := e.seen.Swap(int64(now)); last == 0 || int64(now)-last > int64(c.cfg.duration) {
		e.hits.Store(1)
	} else {
		e.hits.Add(1)
	}
	threshold := int(math.Ceil(float64(c.cfg.percentage) / 100 * float64(e.ttl)))
	return e.hits.Load() >= int64(c.cfg.prefetch) && left <= threshold
}

// prefetch walks on for the entry without a client. One walk an entry at a time.
func (c *Cache) prefetch(q *chain.Query, st *state, e *entry, stale bool) {
	recheck := time.Duration(0)
	if stale {
		recheck = c.cfg.recheck
	}
	if !e.begin(q.Now(), recheck) {
		return
	}
	c.counters.of(q).prefetches.Inc(q.Shard())
	child := q.Spawn(chain.Ticket{})
	child.Flags |= wire.FlagAD
	child.Proto = chain.TCP // nobody's buffer limits what may come back
	*c.slot.Of(child) = state{active: true, ad: true, background: true, verify: stale, hash: st.hash, old: e}
}

// check asks whether there is something better than an expired entry before it is served.
func (c *Cache) check(q *chain.Query, st *state, e *entry) chain.Outcome {
	if c.cfg.recheck > 0 && !e.begin(q.Now(), c.cfg.recheck) {
		return c.answerStale(q, st, e)
	}
	if c.cfg.verifyTimeout == 0 {
		st.verify, st.stale, st.old = true, e, e
		q.Flags |= wire.FlagAD
		return chain.Next
	}
	ticket, ok := q.Park()
	if !ok {
		return chain.Failed
	}
	child := q.Spawn(ticket)
	child.Flags |= wire.FlagAD
	*c.slot.Of(child) = state{active: true, ad: st.ad, background: true, verify: true, hash: st.hash, old: e}
	st.ticket, st.stale = ticket, e
	q.Worker().Loop.After(&st.timer, c.cfg.verifyTimeout, st)
	return chain.Parked
}

// Resume ends the wait for a verification: by its reply, or by the clock, after which it goes on for the next client.
func (c *Cache) Resume(q *chain.Query, ev chain.Event) chain.Outcome {
	st := c.slot.Of(q)
	q.Worker().Loop.Stop(&st.timer)
	if ev.Kind == chain.EventChild {
		child := c.slot.Of(ev.Child)
		switch {
		case child.refreshed && child.item != nil:
			return c.answer(q, st, child.item, child.item.ttl)
		case child.refreshed:
			q.Reply.Load(ev.Child.Reply.Bytes(), ev.Child.Reply.PlainLen(), &q.Request)
			st.active = false
			return chain.Answered
		}
	}
	return c.answerStale(q, st, st.stale)
}

// Reply sees what became of a query that passed.
func (c *Cache) Reply(q *chain.Query, below chain.Outcome) chain.Outcome {
	st := c.slot.Of(q)
	if !st.active {
		return below
	}
	if !st.ad {
		q.Flags &^= wire.FlagAD
	}
	if below == chain.Answered {
		c.take(q, st)
	}
	if st.old != nil && (st.background || c.cfg.recheck > 0) {
		c.ended(q, st)
	}
	if st.stale != nil && !st.refreshed {
		return c.answerStale(q, st, st.stale)
	}
	return below
}

// ended lets the next refresh of the entry begin, and hands its popularity on.
func (c *Cache) ended(q *chain.Query, st *state) {
	recheck := time.Duration(0)
	if st.verify {
		recheck = c.cfg.recheck
	}
	refreshed := st.refreshed || !st.verify
	st.old.end(q.Now(), recheck, refreshed)
	if refreshed && st.item != nil {
		st.item.seen.Store(int64(q.Now()))
		st.item.hits.Store(st.old.hits.Load())
	}
}

// take gives the reply one TTL and stores it, if it may be stored; where a stale entry is being verified, only if it is
// better than that.
func (c *Cache) take(q *chain.Query, st *state) {
	unix := uint32(0)
	if q.Reply.OwnOPT { // only another server's reply may hold signatures that have to be in time
		unix = uint32(c.env.Wall().Unix())
	}
	v := classify(q, unix)
	if st.verify {
		if !c.better(q, v) {
			if c.cfg.preferPositive && q.Reply.Flags()&wire.FlagTC == 0 {
				c.store(q, st, v, c.lifetime(v))
			}
			return
		}
		st.refreshed = true
	}
	life := c.lifetime(v)
	q.Reply.OwnOPT, q.Reply.Options = false, q.Reply.Options[:0] // OPT is between neighbours (RFC 6891, 6.1.1)
	q.Reply.SetTTL(uint32(life / time.Second))
	c.store(q, st, v, life)
	if !st.ad && !q.DO() {
		q.Reply.SetFlags(0, wire.FlagAD)
	}
}

// better reports whether a reply may take the place of a stale entry (RFC 8767, 4).
func (c *Cache) better(q *chain.Query, v verdict) bool {
	if q.Reply.Flags()&wire.FlagTC != 0 {
		return false
	}
	if c.cfg.preferPositive {
		return v.kind == wire.KindAnswer && v.answers
	}
	return v.kind != wire.KindOther && v.kind != wire.KindMeta && (q.Reply.Rcode == wire.NoError || q.Reply.Rcode == wire.NXDomain)
}

// failSafe is the lifetime of a reply without a record to take it from.
const failSafe = 5 * time.Second

// lifetime is how long the reply lives: its smallest TTL between the bounds of its kind.
func (c *Cache) lifetime(v verdict) time.Duration {
	low, high := c.cfg.success.min, c.cfg.success.max
	switch v.kind {
	case wire.KindServerError:
		return c.cfg.servfail
	case wire.KindNXDomain, wire.KindNoData:
		low, high = c.cfg.denial.min, c.cfg.denial.max
	}
	life := failSafe
	if v.records > 0 && (v.kind == wire.KindAnswer || v.kind == wire.KindNXDomain || v.kind == wire.KindNoData) {
		life = time.Duration(v.min) * time.Second
	}
	return min(max(life, low), high)
}

// store publishes the reply as an entry.
func (c *Cache) store(q *chain.Query, st *state, v verdict, life time.Duration) {
	if q.Current || life <= 0 || !storable(q, v) {
		return
	}
	t, except := c.success, c.cfg.success.except
	if v.kind == wire.KindNXDomain || v.kind == wire.KindNoData || v.kind == wire.KindServerError {
		t, except = c.denial, c.cfg.denial.except
	}
	for _, z := range except {
		if q.Name().Under(z) {
			return
		}
	}
	e := c.entry(q, v, life)
	e.denial = t == c.denial
	n := c.counters.of(q)
	if t == c.success {
		if c.cfg.preferPositive && !e.answers {
			if old := t.get(st.hash, q); old != nil {
				e.good = old.answering()
			}
		}
		if c.cfg.preferPositive && e.answers || !c.cfg.preferPositive && st.background {
			c.denial.remove(st.hash, q)
		}
	}
	if t.add(st.hash, e, q) {
		n.evicted(q.Shard(), t == c.success)
	}
	st.item = e
	n.entries(c)
}

func (c *Cache) entry(q *chain.Query, v verdict, life time.Duration) *entry {
	flags := q.Reply.Flags()
	name := q.Name()
	block := make([]byte, 0, len(name)+len(q.Reply.Bytes())) // one allocation for both
	block = append(block, name...)
	block = append(block, q.Reply.Bytes()...)
	e := &entry{typ: q.Type, class: q.Class, do: q.DO(), cd: q.CD(), name: wire.Name(block[:len(name):len(name)]),
		msg: block[len(name):], plain: int32(q.Reply.PlainLen()), ad: flags&wire.FlagAD != 0, ra: flags&wire.FlagRA != 0,
		rcode: q.Reply.Rcode, stored: q.Now(), ttl: uint32(life / time.Second), answers: v.answers}
	if c.wildcards != nil {
		e.wildcard = strings.Clone(c.wildcards(q))
	}
	return e
}
