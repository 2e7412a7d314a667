package cache

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// An entry as it goes to another process, numbers big endian:
//
//	octets  what
//	1       1, the version of this form
//	1       the query's bits: 1 DO, 2 CD
//	2, 2    type and class
//	4       time to live when it was stored, in seconds
//	8       its age, in milliseconds: clocks of two processes have nothing in common
//	1, n    the name, lower case, in wire form
//	2, n    what made it a wildcard answer, as text
//	2, n    the reply, without OPT
//	rest    nothing, or the entry that answers and was kept behind one that does not, in the same form without one of its own
//
// All else follows from the reply, which is read like one that came from upstream just now: by this configuration's bounds,
// and into the cache that it belongs to. An entry of another version is left.
const (
	exportVersion = 1
	exportDO      = 1
	exportCD      = 2
	// maxAge keeps the arithmetic of ages below a century.
	maxAge = 100 * 365 * 24 * time.Hour
	// maxWildcard is more than any name as text takes.
	maxWildcard = 4 * wire.MaxName
)

// keep lets a successor of the process have the entries, those of the same block's cache.
func (c *Cache) keep(s *chain.Setup) {
	in := &importer{c: c}
	s.Keep(chain.Kept{Name: keptName(s.Block), Export: c.export, Import: in.take})
}

// keptName tells a block by its keys and what else makes it the only one with them.
func keptName(b *chain.Block) string {
	var parts []string
	for _, k := range b.Keys {
		parts = append(parts, k.String())
	}
	slices.Sort(parts)
	for _, a := range b.Bind {
		parts = append(parts, "bind "+a.Addr)
	}
	if b.View != "" {
		parts = append(parts, "view "+b.View)
	}
	return "cache " + strings.Join(parts, " ")
}

// export gives all entries that may still answer, those stored last first. It reads what no query changes, so it may run
// beside them.
func (c *Cache) export(f func(entry []byte) bool) {
	now := c.env.Clock()
	var all []*entry
	for _, t := range []*table{c.success, c.denial} {
		t.each(func(e *entry) {
			if c.usable(e, now) {
				all = append(all, e)
			}
		})
	}
	slices.SortFunc(all, func(a, b *entry) int { return int(b.stored/time.Millisecond - a.stored/time.Millisecond) })
	var b []byte
	for _, e := range all {
		b = e.appendTo(b[:0], now)
		if e.good != nil && !e.answers {
			b = e.good.appendTo(b, now)
		}
		if !f(b) {
			return
		}
	}
}

// each calls f with every entry. What is stored or goes meanwhile may be missed.
func (t *table) each(f func(e *entry)) {
	all := t.live.Load()
	for i := range all.at {
		for w := range all.at[i].entries {
			if e := all.at[i].entries[w].Load(); e != nil {
				f(e)
			}
		}
	}
}

// appendTo appends the entry as it is at now.
func (e *entry) appendTo(b []byte, now time.Duration) []byte {
	bits := byte(0)
	if e.do {
		bits |= exportDO
	}
	if e.cd {
		bits |= exportCD
	}
	b = append(b, exportVersion, bits, byte(e.typ>>8), byte(e.typ), byte(e.class>>8), byte(e.class))
	b = binary.BigEndian.AppendUint32(b, e.ttl)
	b = binary.BigEndian.AppendUint64(b, uint64(max(now-e.stored, 0)/time.Millisecond))
	b = append(append(b, byte(len(e.name))), e.name...)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(e.wildcard))), e.wildcard...)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(e.msg))), e.msg...)
}

// exported is an entry taken apart. Its slices are parts of what was read.
type exported struct {
	do, cd   bool
	typ      wire.Type
	class    wire.Class
	ttl      uint32
	age      time.Duration
	name     wire.Name
	wildcard string
	msg      []byte
}

// parseExported reads one entry and gives what follows it.
func parseExported(b []byte) (x exported, rest []byte, ok bool) {
	const head = 19
	if len(b) < head || b[0] != exportVersion {
		return x, nil, false
	}
	x.do, x.cd = b[1]&exportDO != 0, b[1]&exportCD != 0
	x.typ, x.class = wire.Type(binary.BigEndian.Uint16(b[2:])), wire.Class(binary.BigEndian.Uint16(b[4:]))
	x.ttl = binary.BigEndian.Uint32(b[6:])
	age := binary.BigEndian.Uint64(b[10:])
	if age > uint64(maxAge/time.Millisecond) {
		return x, nil, false
	}
	x.age = time.Duration(age) * time.Millisecond
	name, b, ok := cut(b[head:], int(b[head-1]))
	if !ok || !lowerName(name) {
		return x, nil, false
	}
	wildcard, b, ok := cut2(b)
	if !ok || len(wildcard) > maxWildcard {
		return x, nil, false
	}
	x.msg, b, ok = cut2(b)
	x.name, x.wildcard = wire.Name(name), string(wildcard)
	return x, b, ok
}

func cut(b []byte, n int) (part, rest []byte, ok bool) {
	if len(b) < n {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// cut2 takes off a part that begins with its length in two octets.
func cut2(b []byte) (part, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	return cut(b[2:], int(binary.BigEndian.Uint16(b)))
}

// lowerName reports whether b is a whole name in wire form, uncompressed and in lower case, as keys are.
func lowerName(b []byte) bool {
	var buf, low [wire.MaxName]byte
	name, end, err := wire.ReadName(buf[:0], b, 0)
	return err == nil && end == len(b) && len(name) == len(b) && string(wire.Lower(low[:0], name)) == string(b)
}

// importer takes entries in, one at a time: they share the query that each of their replies is read as an answer to.
type importer struct {
	c  *Cache
	mu sync.Mutex
	q  chain.Query // guarded by mu
}

// take stores an entry that another process exported, unless this one knows better by now. What it can't read or would not
// have stored itself, it leaves.
func (in *importer) take(b []byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	x, rest, ok := parseExported(b)
	if !ok {
		return
	}
	now := in.c.env.Clock()
	e, v, ok := in.entry(&x, now)
	if !ok || !in.c.usable(e, now) || in.c.known(e, v, &in.q) {
		return
	}
	if y, end, ok := parseExported(rest); ok && len(end) == 0 && in.c.cfg.preferPositive && !e.answers &&
		y.typ == x.typ && y.class == x.class && y.do == x.do && y.cd == x.cd && wire.Equal(y.name, x.name) {
		if good, _, ok := in.entry(&y, now); ok && good.answers {
			e.good = good
		}
	}
	t := in.c.tableFor(v)
	t.add(t.hash(&in.q), e, &in.q)
}

// entry makes the entry that a reply would be now, had it come x.age ago. The query is the one that it answers afterwards.
func (in *importer) entry(x *exported, now time.Duration) (*entry, verdict, bool) {
	c, q := in.c, &in.q
	q.SetQuestion(x.name, x.typ)
	q.Class, q.EDNS.DO = x.class, x.do
	if x.cd {
		q.Flags |= wire.FlagCD
	}
	if !c.covers(q.Name()) || q.Reply.Adopt(x.msg, &q.Request) != nil || !asksFor(q) {
		return nil, verdict{}, false
	}
	q.Reply.OwnOPT = false
	v := classify(q, 0)
	life := min(c.lifetime(v), time.Duration(x.ttl)*time.Second)
	if life <= 0 || !storable(q, v) || c.excepted(q.Name(), v) {
		return nil, verdict{}, false
	}
	flags := q.Reply.Flags()
	block := make([]byte, 0, len(x.name)+len(q.Reply.Bytes()))
	block = append(append(block, x.name...), q.Reply.Bytes()...)
	return &entry{typ: q.Type, class: q.Class, do: x.do, cd: x.cd, name: wire.Name(block[:len(x.name):len(x.name)]),
		msg: block[len(x.name):], plain: int32(q.Reply.PlainLen()), ad: flags&wire.FlagAD != 0, ra: flags&wire.FlagRA != 0,
		rcode: q.Reply.Rcode, stored: now - x.age, ttl: uint32(life / time.Second), answers: v.answers, wildcard: x.wildcard}, v, true
}

// asksFor reports whether the reply is one, to a standard query for the type and class that q asks for.
func asksFor(q *chain.Query) bool {
	msg := q.Reply.Bytes()
	end := wire.HeaderSize + len(q.Name())
	return len(msg) >= end+4 && q.Reply.Flags()&(wire.FlagQR|0xF<<11) == wire.FlagQR &&
		wire.Type(binary.BigEndian.Uint16(msg[end:])) == q.Type && wire.Class(binary.BigEndian.Uint16(msg[end+2:])) == q.Class
}

// denies reports whether a reply belongs to the denials' table.
func (v verdict) denies() bool {
	return v.kind == wire.KindNXDomain || v.kind == wire.KindNoData || v.kind == wire.KindServerError
}

func (c *Cache) tableFor(v verdict) *table {
	if v.denies() {
		return c.denial
	}
	return c.success
}

// excepted reports whether the configuration keeps nothing of the reply's kind for a name.
func (c *Cache) excepted(name wire.Name, v verdict) bool {
	except := c.cfg.success.except
	if v.denies() {
		except = c.cfg.denial.except
	}
	return slices.ContainsFunc(except, func(z wire.Name) bool { return name.Under(z) })
}

// known reports whether the cache is better off without an older entry e: it has a newer one, a later answer where e denies,
// or no room.
func (c *Cache) known(e *entry, v verdict, q *chain.Query) bool {
	t := c.tableFor(v)
	h := t.hash(q)
	old := t.get(h, q)
	if old != nil && old.stored >= e.stored || old == nil && t.count.Load() >= t.capacity {
		return true
	}
	answer := c.success.get(h, q)
	return v.denies() && answer != nil && answer.stored > e.stored
}
