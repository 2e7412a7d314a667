package chain

import (
	"errors"
	"math/rand/v2"
	"runtime/debug"

	"github.com/godwit-dns/godwit/internal/invariant"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

// MaxDepth is how many questions of its own may follow from a query, one out of the other.
const MaxDepth = 8

// maxWalks is how often a query, with all that follows from it in a line, may walk a chain.
const maxWalks = 16

// Errors that end a query.
var (
	ErrTooMany = errors.New("too many queries in flight")
	ErrTooDeep = errors.New("a chain of names is longer than 8")
	ErrPanic   = errors.New("a handler panicked")
)

// EventKind says what woke a parked query.
type EventKind uint8

// Kinds of events.
const (
	EventReply     EventKind = iota + 1 // another server's reply: Msg
	EventChild                          // the end of Ask or Spawn: Child, Outcome
	EventResult                         // whatever a pool made: Value, Err
	EventTimer                          // a timer of the handler's own
	EventCancelled                      // nobody waits any more
)

// Event is what a ticket is used with. Its slices and its child are valid during Resume only.
type Event struct {
	Kind    EventKind
	Msg     []byte
	Child   *Query
	Outcome Outcome
	Value   any
	Err     error
}

// Ticket is the right to continue a parked query once. Using it again, or late, does nothing. The zero Ticket is none.
type Ticket struct {
	w    *Worker
	slot int32
	gen  uint64
}

// Valid reports whether it is a ticket at all; it may still be used up.
func (t Ticket) Valid() bool { return t.w != nil }

// Live reports whether the query still waits for this ticket. Only on the query's own loop.
func (t Ticket) Live() bool { return t.w != nil && t.w.waiting(t) != nil }

// Resume continues the query now. Only on the query's own loop, and not from inside one of the query's own handlers.
func (t Ticket) Resume(ev Event) {
	if t.w == nil {
		return
	}
	if q := t.w.waiting(t); q != nil {
		t.w.inside++
		t.w.resume(q, ev)
		t.w.inside--
		t.w.drain()
	}
}

// Post continues the query from any goroutine. The event's slices must not be changed afterwards.
func (t Ticket) Post(ev Event) {
	if t.w != nil {
		t.w.Loop.Post(&posted{t, ev})
	}
}

type posted struct {
	t  Ticket
	ev Event
}

func (p *posted) Do(*loop.Loop) { p.t.Resume(p.ev) }

// Worker is a loop's part of the chain: its query objects, its table of queries in flight, its buffers. All of it
// belongs to the loop's goroutine.
type Worker struct {
	Loop *loop.Loop
	// Rand is for order and sampling, never for anything an attacker must not guess.
	Rand *rand.Rand
	// OnPanic is told of a panic in a handler, with the stack. The query was answered SERVFAIL.
	OnPanic func(q *Query, value any, stack []byte)
	// MaxInFlight bounds the queries parked at once.
	MaxInFlight int

	free    []*Query
	buffers [][]byte
	table   []*Query
	vacant  []int32
	pending []*Query // children that have not started
	inside  int      // walks and resumptions on the stack: children wait for the outermost
	flying  int
	batch   bool // packets that came together are being walked
	timed   []timed
	gens    uint64 // generations given out; one number is never a ticket twice
	serial  uint64 // of the last query
}

// NewWorker makes the worker of a loop.
func NewWorker(l *loop.Loop, seed uint64) *Worker {
	return &Worker{Loop: l, Rand: rand.New(rand.NewPCG(seed, uint64(l.Index()))), MaxInFlight: 1 << 16}
}

// InFlight is the number of parked queries.
func (w *Worker) InFlight() int { return w.flying }

// Get gives an empty query. It must be started, or put back.
func (w *Worker) Get() *Query {
	var q *Query
	if n := len(w.free); n > 0 {
		q, w.free = w.free[n-1], w.free[:n-1]
	} else {
		q = &Query{w: w}
	}
	w.serial++
	q.slot, q.by, q.serial = -1, -1, w.serial
	q.Reply.Attach(w.buffer())
	return q
}

// maxFree bounds the query objects kept for reuse, so that a burst's are given back.
const maxFree = 2048

// Put takes a query back that was never started or has ended.
func (w *Worker) Put(q *Query) {
	w.leave(q)
	w.release(q)
	q.Err, q.router, q.chain, q.sink, q.Back.Socket = nil, nil, nil, nil, nil
	q.Rcode, q.floor, q.pos, q.walks, q.depth = 0, 0, 0, 0, 0
	q.rising, q.parked, q.spawn, q.Current, q.parent = false, false, false, false, Ticket{}
	if len(w.free) < maxFree {
		w.free = append(w.free, q)
	}
}

// bufferSize is what a reply buffer begins with; append grows it where a reply is larger.
const bufferSize = 4096

// Buffers are kept for reuse up to maxSpares; of those that grew beyond largeBuffer only a few, and none beyond
// hugeBuffer: they would keep the memory of the largest replies there ever were.
const (
	maxSpares   = 256
	maxLarge    = 16
	largeBuffer = 4 * bufferSize
	hugeBuffer  = 2 * wire.MaxMessage
)

func (w *Worker) buffer() []byte {
	if n := len(w.buffers); n > 0 {
		b := w.buffers[n-1]
		w.buffers = w.buffers[:n-1]
		return b
	}
	return make([]byte, 0, bufferSize)
}

// release takes the query's buffers back.
func (w *Worker) release(q *Query) {
	w.keep(q.Reply.Detach())
	w.keep(q.spare)
	q.spare = nil
}

func (w *Worker) keep(b []byte) {
	most := maxSpares
	if cap(b) > largeBuffer {
		most = maxLarge
	}
	if cap(b) == 0 {
		return
	}
	invariant.Poison(b[:cap(b)])
	if len(w.buffers) < most && cap(b) <= hugeBuffer {
		w.buffers = append(w.buffers, b)
	}
}

// Start routes a query and walks it. The sink is told its end, now or later.
func (w *Worker) Start(q *Query, r Router, s Sink) {
	q.router, q.sink = r, s
	w.inside++
	w.begin(q)
	w.inside--
	w.drain()
}

// begin routes and walks without looking after children.
func (w *Worker) begin(q *Query) {
	if w.routed(q) {
		w.walk(q, 0, true, 0)
	}
}

// routed finds the query's chain. One that no block takes, or a block without handlers, has ended when it returns.
func (w *Worker) routed(q *Query) bool {
	defer w.caught(q) // filters are a directive's code
	q.chain = q.router.Route(q)
	if q.chain == nil || q.chain.Empty() {
		w.end(q, q.Fail(wire.Refused, nil))
		return false
	}
	return true
}

// drain starts the children that the last walk left behind, and theirs.
func (w *Worker) drain() {
	if w.inside > 0 {
		return
	}
	w.inside++
	for len(w.pending) > 0 {
		q := w.pending[0]
		w.pending = w.pending[:copy(w.pending, w.pending[1:])]
		if q.spawn {
			w.walk(q, q.pos, true, 0)
		} else {
			w.begin(q)
		}
	}
	w.inside--
}

// walk drives q from pos, down first or up with out, until it ends or is parked.
func (w *Worker) walk(q *Query, pos int, down bool, out Outcome) {
	if !q.chain.Debug {
		defer w.caught(q)
	}
	exhausted := false
	for {
		if down {
			if exhausted = q.walks == maxWalks; exhausted {
				out, pos = q.Fail(wire.ServFail, errTooManyWalks), min(pos, len(q.chain.entries))
			} else {
				q.walks++
				out, pos = q.walkDown(pos)
			}
			if out == Parked {
				w.park(q, false)
				return
			}
		}
		if out, pos = q.walkUp(out, pos); out == Parked {
			w.park(q, true)
			return
		}
		if out != Again {
			break
		}
		if exhausted { // it saw the failure and would go on for ever
			out, down = q.Fail(wire.ServFail, errTooManyWalks), false
			continue
		}
		pos, down = pos+1, true
	}
	w.end(q, out)
}

// park leaves the query in the table. One whose reply is still empty lends its buffers to others.
func (w *Worker) park(q *Query, rising bool) {
	q.rising = rising
	if !q.parked {
		panic("chain: " + q.chain.entries[q.pos].name + " returned Parked without a ticket")
	}
	if q.Reply.Empty() {
		w.release(q)
	}
}

// resume continues a parked query with an event.
func (w *Worker) resume(q *Query, ev Event) {
	q.parked = false
	if q.Reply.Empty() {
		q.Reply.Attach(w.buffer())
	}
	out, ok := w.resumed(q, ev)
	switch {
	case !ok || out == Parked:
	case out == Next || out == Again: // down or up, as resumed has seen to
		w.walk(q, q.pos+1, true, 0)
	default:
		if !q.rising {
			q.by = q.pos
		}
		w.walk(q, q.pos, false, out)
	}
}

// resumed calls the handler; ok is false when it panicked.
func (w *Worker) resumed(q *Query, ev Event) (out Outcome, ok bool) {
	if !q.chain.Debug {
		defer w.caught(q)
	}
	e := &q.chain.entries[q.pos]
	switch out = e.serve.(Resumer).Resume(q, ev); {
	case out == Parked:
		w.park(q, q.rising)
	case out == Next && !q.rising || out == Again && q.rising:
	default:
		e.mustBeEnd(out)
	}
	return out, true
}

// caught answers SERVFAIL for a query whose handler panicked. The object is abandoned: somebody may still hold it.
func (w *Worker) caught(q *Query) {
	v := recover()
	if v == nil {
		return
	}
	if w.OnPanic != nil {
		w.OnPanic(q, v, debug.Stack())
	}
	w.leave(q)
	q.parked = false
	q.Reply.Detach()
	q.Reply.Attach(make([]byte, 0, 512))
	if sink := q.sink; sink != nil { // nil: it was the transport itself
		q.sink = nil
		sink.Finish(q, q.Fail(wire.ServFail, ErrPanic))
	}
}

// end tells the sink, and takes the query back unless a stream owns it now.
func (w *Worker) end(q *Query, out Outcome) {
	sink := q.sink
	q.sink = nil
	sink.Finish(q, out)
	w.Put(q)
}

// Finish is the end of a query of the program's own: its parent goes on.
func (w *Worker) Finish(q *Query, out Outcome) {
	if q.parent.w == nil {
		return
	}
	if p := w.waiting(q.parent); p != nil {
		w.resume(p, Event{Kind: EventChild, Child: q, Outcome: out, Err: q.Err})
	}
}

// enter gives q a place in the table of queries in flight.
func (w *Worker) enter(q *Query) bool {
	if q.slot >= 0 {
		return true
	}
	if w.flying >= w.MaxInFlight {
		return false
	}
	if n := len(w.vacant); n > 0 {
		q.slot, w.vacant = w.vacant[n-1], w.vacant[:n-1]
	} else {
		q.slot = int32(len(w.table))
		w.table = append(w.table, nil)
	}
	w.table[q.slot] = q
	w.flying++
	return true
}

func (w *Worker) leave(q *Query) {
	if q.slot >= 0 {
		w.table[q.slot] = nil
		w.vacant = append(w.vacant, q.slot)
		q.slot = -1
		w.flying--
	}
}

func (w *Worker) nextGen() uint64 {
	w.gens++
	return w.gens
}

// waiting gives the query that still waits for t.
func (w *Worker) waiting(t Ticket) *Query {
	q := w.table[t.slot]
	if q == nil || !q.parked || q.gen != t.gen {
		return nil
	}
	return q
}

// timed is the queries that were answered in the batch they came in and wait for its duration: they share one reading of the
// clock.
type timed struct {
	in *metrics.HistogramShard
	n  uint64
}

// BeginBatch says that packets which came together follow. The loop's clock has just been read.
func (w *Worker) BeginBatch() { w.batch = true }

// EndBatch ends the batch: the clock is read again, if anybody wants to know.
func (w *Worker) EndBatch() {
	w.batch = false
	if len(w.timed) == 0 {
		return
	}
	began := w.Loop.Now()
	took := w.Loop.Tick() - began
	for _, t := range w.timed {
		t.in.ObserveTime(took, t.n)
	}
	w.timed = w.timed[:0]
}

// AtBatchEnd asks for a query to be counted in h by how long its batch takes.
func (w *Worker) AtBatchEnd(h *metrics.HistogramShard) {
	if n := len(w.timed); n > 0 && w.timed[n-1].in == h {
		w.timed[n-1].n++
		return
	}
	w.timed = append(w.timed, timed{h, 1})
}

// Parked calls f for every query in flight.
func (w *Worker) Parked(f func(q *Query)) {
	for _, q := range w.table {
		if q != nil {
			f(q)
		}
	}
}
