package server

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

// The same packet is asked over and over: the short way of a query gives the octets of the last answer again. What the
// handlers would do besides (counting) and how long the answer stands they have said themselves (chain.Repeater), so the
// short way and the walk differ in nothing but time; TestRepeatsAreWalks holds them to that. In steps:
//
//  1. A packet is looked for by all of it but the ID (repeats.find). When it was seen before, it is kept as its walk ends in
//     this batch (repeats.keep).
//  2. A memo stands while no guard's version has moved and its time has not come; else the guards are asked (memo.stands).
//  3. Its counters are counted (memo.count), and its answer is written with the new ID: over the packet that it answers
//     (udpSocket.repeat), which leaves from where it came (sender.slots), or behind others (tcpConn.repeat).

// repeats are the answers that one socket keeps: a listening one those of all its connections.
type repeats struct {
	metrics  *metrics.Registry
	repeated *metrics.Counter // answers given without a walk
	closed   bool

	seed   maphash.Seed
	table  *Table       // what they were made by; another table begins anew
	sets   []repeatSet  // nil until the first packet
	seen   []uint64     // bits of packets that came: most come once, and get no place
	marks  int          // bits that were set since all were cleared
	made   chain.Repeat // scratch
	random wire.Random

	kept    bool          // an answer was, ever
	vain    int           // answers that could not be, while none was
	idle    time.Duration // until then no packet is looked for: the table's answers may not be given again, it seems
	skip    int           // packets that get no place although they came again: few would be found, it seems
	looked  int           // packets that were looked for since lost was 0
	found   int           // among them
	lost    int           // memos that gave their places to others since
	poor    int           // how often in a row few were found by then
	refused *memo         // the last refusal
	decks   int           // octets of the memos' decks
	effects map[has]*effects
	full    bool // there are so many that all begins anew
}

// repeatSet is a cache line: packets by the hash of all but their ID. What finds its own set full may be in the one beside it
// (beside), which memory brings along: without that, one packet in sixteen had no place when all were three fifths full.
type repeatSet struct {
	hash [4]uint64 // 0 is free; else with taken, and with lately
	memo [4]*memo  // one without a packet for one that is not to be kept
}

const (
	repeatSets = 4096
	repeatSeen = 1 << 16
	taken      = 1 << 0 // in place of the hash's own bits: there is one
	lately     = 1 << 1 // and its memo was of use since the set was looked through for a place
	maxRepeat  = 512    // octets of a packet with its answer
	maxCells   = 8
	maxEffects = 4096
	maxGuards  = 3
	maxDecks   = 4 << 20     // octets: two of them for each of 250 Services with 500 addresses
	refusedFor = time.Second // until a packet whose answer can't be given again is tried once more
	maxVain    = 64          // refusals with nothing kept after which no packet is looked for as long
	judgeLost  = repeatSets  // a quarter of the memos lost, after which it is seen whether they were worth it
	worthFound = 4           // one packet in so many has to be found, or else keeping costs more than it spares
	lostSkip   = 8           // times as many packets get no place then
)

// newRepeats makes a socket's, whose answers are counted.
func (w *worker) newRepeats(counted *metrics.Counter) repeats {
	return repeats{metrics: w.s.opt.Metrics, repeated: counted}
}

// begin drops all when the table is another one.
func (m *repeats) begin(t *Table) {
	if m.table == t && !m.full || m.closed {
		return
	}
	m.drop()
	*m = repeats{metrics: m.metrics, repeated: m.repeated, seed: maphash.MakeSeed(), table: t, made: m.made, random: m.random}
}

// drop ends what memos count.
func (m *repeats) drop() {
	for _, e := range m.effects {
		m.metrics.EndTally(&e.tally)
	}
}

// close drops all; from here on nothing is found or kept.
func (m *repeats) close() {
	m.drop()
	*m = repeats{closed: true}
}

// find gives the place of a packet's memo. Without one it says whether the answer is to be kept, and under which hash.
func (m *repeats) find(packet []byte, now time.Duration) (found **memo, hash uint64, keep bool) {
	if len(packet) <= wire.HeaderSize || len(packet) > maxRepeat/2 || m.table == nil || m.table.filtered || now < m.idle {
		return nil, 0, false
	}
	hash = maphash.Bytes(m.seed, packet[2:])&^lately | taken
	if m.sets == nil {
		m.sets, m.seen = make([]repeatSet, repeatSets), make([]uint64, repeatSeen/64)
		m.random += wire.Random(hash)
	}
	m.looked++
	if set, i := m.at(hash); set != nil {
		switch k := set.memo[i]; {
		case k == nil:
			return nil, hash, true
		case k.asked == 0:
			return nil, hash, now >= k.until
		case bytes.Equal(k.packet()[2:], packet[2:]):
			if set.hash[i]&lately == 0 {
				set.hash[i] |= lately
			}
			m.found++
			return &set.memo[i], hash, false
		}
		return nil, hash, true
	}
	if !m.again(hash) {
		return nil, 0, false
	}
	if m.skip > 0 {
		m.skip--
		return nil, 0, false
	}
	return nil, hash, m.take(hash)
}

// at gives the set that a hash is in, and where; nil when it is in none.
func (m *repeats) at(hash uint64) (*repeatSet, int) {
	at := hash >> 32 % repeatSets
	for range 2 {
		set := &m.sets[at]
		for i := range set.hash {
			if set.hash[i]&^lately == hash {
				return set, i
			}
		}
		at = beside(at)
	}
	return nil, 0
}

// beside gives the other set of the pair of cache lines that a set belongs to.
func beside(at uint64) uint64 { return at ^ 1 }

// take gives a hash a place, and reports whether there was one: one that is free, or that of a memo which was of no use since its
// set was looked through last.
func (m *repeats) take(hash uint64) bool {
	at := hash >> 32 % repeatSets
	own, other := &m.sets[at], &m.sets[beside(at)]
	set, free := own, slices.Index(own.memo[:], nil)
	if free < 0 {
		set, free = other, slices.Index(other.memo[:], nil)
	}
	if free < 0 {
		set, free = own, own.useless()
	}
	if free < 0 {
		set, free = other, other.useless()
	}
	if free < 0 {
		return false
	}
	if set.memo[free] != nil {
		m.lose()
	}
	set.hash[free] = hash | lately
	m.put(&set.memo[free], nil)
	return true
}

// lose counts a memo that gives its place to another. When that happens all the time, since more packets come than there are
// places, and few are found, it is better to keep what there is.
func (m *repeats) lose() {
	if m.lost++; m.lost < judgeLost {
		return
	}
	if worthFound*m.found >= m.looked {
		m.poor = 0
	} else if m.poor++; m.poor > 1 { // the first time others may only just have begun to be asked for
		m.skip = lostSkip * judgeLost
	}
	m.looked, m.found, m.lost = 0, 0, 0
}

// again reports whether a packet came before, lately. Of those that did not it says so of a few.
func (m *repeats) again(hash uint64) bool {
	at := hash >> 2 % repeatSeen // not the bits that choose the set
	word, bit := &m.seen[at/64], uint64(1)<<(at%64)
	if *word&bit != 0 {
		return true
	}
	*word |= bit
	if m.marks++; m.marks == repeatSeen/4 {
		clear(m.seen)
		m.marks = 0
	}
	return false
}

// useless gives the place of a memo that was of no use since the set was looked through last, negative for none; then all begin
// anew.
func (set *repeatSet) useless() int {
	for i := range set.hash {
		if set.hash[i]&lately == 0 {
			return i
		}
	}
	for i := range set.hash {
		set.hash[i] &^= lately
	}
	return -1
}

// standing gives the memo of a packet if it stands. Without one it says whether the walk's answer is to be kept, and under
// which hash.
func (m *repeats) standing(packet []byte, now time.Duration) (k *memo, hash uint64, keep bool) {
	at, hash, keep := m.find(packet, now)
	if at == nil {
		return nil, hash, keep
	}
	if !(*at).stands(now) {
		m.put(at, nil) // the walk's answer takes its place
		return nil, hash, true
	}
	return *at, hash, false
}

// keep puts in a packet's place the memo of the answer that q got, or one that says that it is not to be kept.
func (m *repeats) keep(q *chain.Query, hash uint64, packet, answer []byte) {
	k := m.memoOf(q, packet, answer)
	if k != nil {
		m.kept = true
	} else {
		m.notKept(q.Now())
		k = m.refusal(q.Now())
	}
	if set, i := m.at(hash); set != nil {
		m.put(&set.memo[i], k)
	}
}

// put puts a memo, or nil, in the place of another.
func (m *repeats) put(at **memo, k *memo) {
	m.decks += k.dealt() - (*at).dealt()
	*at = k
}

// notKept takes note of an answer that was to be kept and can't be, or that is not there yet.
func (m *repeats) notKept(now time.Duration) {
	if m.kept {
		return
	}
	if m.vain++; m.vain%maxVain == 0 {
		m.idle = now + refusedFor
	}
}

// memoOf makes a memo of an answer, nil when it may not be given again.
func (m *repeats) memoOf(q *chain.Query, packet, answer []byte) *memo {
	r := &m.made
	if q.Router() != chain.Router(m.table) || q.Opcode() != wire.OpQuery ||
		len(q.EDNS.Options) > 0 || !q.Repeat(r) || len(r.Cells) > maxCells || len(r.Guards) > maxGuards {
		return nil
	}
	of := m.effectsOf(r)
	if of == nil {
		return nil
	}
	var list order
	if r.Shuffled {
		var ok bool
		if answer, list, ok = m.several(q, r, packet, answer); !ok {
			return nil
		}
	}
	var ttls []uint16
	ok := true
	if list.from.deck == nil {
		ttls, ok = ttlsOf(answer)
	}
	if !ok || len(packet)+len(answer) > maxRepeat {
		return nil
	}
	same := common(packet, answer, ttls)
	k := newMemo(len(packet) + keptHeader + len(answer) - same)
	k.asked, k.same, k.first, k.octets, k.effects = uint16(len(packet)), uint16(same), list.first, list.octets, of
	k.renewal = &renewal{guards: slices.Clone(r.Guards), ttls: ttls, stock: list.from}
	k.block = append(k.block, packet...)
	k.block = append(append(k.block, answer[2:wire.HeaderSize]...), answer[same:]...)
	for i := range ttls {
		ttls[i] -= k.same
	}
	if !k.renew(q.Now()) {
		return nil
	}
	return k
}

// common gives how much of an answer is as in its packet, which is the question at least, and ends before the first time to
// live.
func common(packet, answer []byte, ttls []uint16) int {
	end := min(len(packet), len(answer))
	if len(ttls) > 0 {
		end = min(end, int(ttls[0]))
	}
	at := wire.HeaderSize
	for at < end && packet[at] == answer[at] {
		at++
	}
	return at
}

// effectsOf gives the effects of r, nil when there is no room.
func (m *repeats) effectsOf(r *chain.Repeat) *effects {
	is := has{took: r.Took}
	for i, g := range r.Guards {
		is.version[i] = g.Version
	}
	copy(is.cells[:], r.Cells)
	if e := m.effects[is]; e != nil {
		return e
	}
	if m.full = len(m.effects) == maxEffects; m.full {
		return nil
	}
	if m.effects == nil {
		m.effects = map[has]*effects{}
	}
	e := &effects{version: is.version, took: is.took}
	m.metrics.Tally(&e.tally, append(slices.Clone(r.Cells), m.repeated.Cell())...)
	m.effects[is] = e
	return e
}

// refusal is a memo without a packet: to ask all handlers at each walk would cost more than the walk. Many share one.
func (m *repeats) refusal(now time.Duration) *memo {
	if m.refused == nil || m.refused.until-now < refusedFor/2 {
		m.refused = &memo{until: now + refusedFor}
	}
	return m.refused
}

// ttlsOf finds the times to live in a finished answer, but for its OPT, which has none.
func ttlsOf(msg []byte) (at []uint16, ok bool) {
	var c wire.Cursor
	var r wire.Record
	if c.Open(msg) != nil {
		return nil, false
	}
	for {
		_, more, err := c.Next(&r)
		if err != nil {
			return nil, false
		}
		if !more {
			return at, true
		}
		if r.Type != wire.TypeOPT {
			at = append(at, uint16(r.TTLOffset()))
		}
	}
}

// repeat answers the datagram in slot i without a walk, if it can.
func (s *udpSocket) repeat(r *receiver, i int, packet []byte) bool {
	k, hash, keep := s.repeats.standing(packet, s.w.Loop.Now())
	if k == nil {
		s.packet, s.hash, s.keep = packet, hash, keep
		return false
	}
	k.count(s.w)
	switch {
	case k.octets == 0:
		r.answer(i, k.over(r.slot(i)), s.wild)
	case k.drawn(): // too long for the slot
		q := s.w.Get()
		r.origin(i, q)
		s.out.add(q, s.repeats.draw(k, k.append(s.out.space(s.fd, maxRepeat+int(k.octets)), packet), 0), s.wild)
		s.w.Put(q)
	default:
		n := k.over(r.slot(i))
		s.repeats.shuffle(k, r.slot(i)[:n])
		r.answer(i, n, s.wild)
	}
	return true
}

// repeat answers a frame without a walk, if it can.
func (c *tcpConn) repeat(packet []byte) bool {
	k, hash, keep := c.repeats.standing(packet, c.w.Loop.Now())
	if k == nil {
		c.packet, c.hash, c.keep = packet, hash, keep
		return false
	}
	k.count(c.w)
	c.room()
	at := len(c.out) + 2
	c.out = k.append(append(c.out, 0, 0), packet)
	if k.octets > 0 && k.drawn() {
		c.out = c.repeats.draw(k, c.out, at)
	} else if k.octets > 0 {
		c.repeats.shuffle(k, c.out[at:])
	}
	binary.BigEndian.PutUint16(c.out[at-2:], uint16(len(c.out)-at))
	return true
}
