package chain

import (
	"sync/atomic"
	"time"

	"github.com/godwit-dns/godwit/metrics"
)

// Repeater is a Handler whose part in a query may be repeated without asking it: the transport keeps the finished answer
// and gives it again when the very same packet comes. What a handler does with a query must then follow from the packet,
// the listener and what its guards watch, and not from the client's address, the time of day or chance. A chain is
// repeated only where every handler that had the query is one, so to have no such method is always right.
type Repeater interface {
	// Repeat is asked after q was answered by this handler (r.Answered) or by one below it. It adds to r what the handler
	// does each time, and reports false when this query can't be repeated.
	Repeat(q *Query, r *Repeat) bool
}

// Repeat is what it takes to give an answer again.
type Repeat struct {
	Answered bool             // the handler that is asked ended the way down
	Cells    []*atomic.Uint64 // of the counters that each such query adds one to: what a metrics.Tally takes
	// Took counts how long the batches with such queries took (Worker.AtBatchEnd); nil for none.
	Took   *metrics.HistogramShard
	Guards []Guard // they all must stand
	// Shuffled says that the reply's addresses (wire.Reply.Addresses) come in another order each time, every one as likely
	// as another; where not all fit, those that are sent are drawn from all.
	Shuffled bool
	// Lasting says that the reply has all these addresses, and that their time to live never changes. Answers that are long, or
	// have been cut, can't be given in another order without.
	Lasting bool
}

// Guard watches over something that an answer was made from.
type Guard struct {
	// Version moves after each change that could make the answer another one.
	Version *atomic.Uint64
	// Check is asked when the version has moved or the time has come. It gives the records' time to live in seconds,
	// negative for that which they have, and the time from which it must be asked again; ok is false when the answer does
	// not stand any more. It is called on the query's loop.
	Check func(now time.Duration) (ttl int, until time.Duration, ok bool)
}

// Repeat collects in r what it takes to give q's answer again. It reports false when that would not be what another walk
// does. It must be called before the query ends, from its sink.
func (q *Query) Repeat(r *Repeat) bool {
	*r = Repeat{Cells: r.Cells[:0], Guards: r.Guards[:0]}
	if !q.Prompt() || q.by < 0 || q.by >= q.chain.steady || q.walks != 1 || q.Err != nil || q.TSIG || q.Renamed() || q.Own() {
		return false
	}
	at := q.pos
	defer func() { q.pos = at }()
	for i := range q.by + 1 {
		q.pos, r.Answered = i, i == q.by
		if !q.chain.entries[i].serve.(Repeater).Repeat(q, r) {
			return false
		}
	}
	return len(r.Guards) > 0
}
