// Package chain is the contract between the server and its directives: Query, Outcome, Handler, Setup and Spec; and the
// walk that drives a query down a block's handlers and its reply up again.
//
// # For authors of handlers
//
// A query belongs to one loop from receipt to send, and so does every call on it. q and every slice from it are valid
// until you return anything but Parked. Start no goroutine and block on nothing in Serve: use Blocking, or Park and
// answer in Resume. Change the name with q.SetName, the reply with q.Reply and q.Edit. Then return an Outcome.
package chain

import (
	"errors"
	"fmt"

	"github.com/godwit-dns/godwit/wire"
)

// Outcome is what a handler made of a query. Zero is no outcome, so a forgotten return is found by the first test.
type Outcome uint8

// Outcomes.
const (
	// Next: not mine; the next handler is asked.
	Next Outcome = iota + 1
	// Answered: the reply is in q.Reply.
	Answered
	// Failed: there is no reply, only q.Rcode and q.Err (use q.Fail). The server writes a reply from the rcode when all
	// handlers above have seen the failure; nothing is cached.
	Failed
	// Dropped: no reply on purpose.
	Dropped
	// Parked: a ticket was taken; Resume continues the query when the ticket is used.
	Parked
	// Again: only on the way up: walk down once more from the handler below me.
	Again
	// Streamed: a goroutine owns the connection and writes several messages (a zone transfer).
	Streamed
)

// String gives the outcome's name.
func (o Outcome) String() string {
	names := [...]string{"no outcome", "Next", "Answered", "Failed", "Dropped", "Parked", "Again", "Streamed"}
	if int(o) < len(names) {
		return names[o]
	}
	return fmt.Sprintf("Outcome(%d)", uint8(o))
}

// Handler is one directive at work: all that most of them need.
type Handler interface {
	Serve(q *Query) Outcome
}

// Replier is a Handler that sees what became of the queries it answered Next to. It is called on the way up with the
// outcome from below, which is Answered, Failed, Dropped or Streamed, and gives the outcome for those above it: the
// same, another of these, Again, or Parked.
type Replier interface {
	Reply(q *Query, below Outcome) Outcome
}

// Resumer is a Handler that parks queries.
type Resumer interface {
	// Resume continues a query that this handler parked, in the direction in which it was going.
	Resume(q *Query, ev Event) Outcome
}

// ErrNoNext is the error of a query that no handler of its block answered.
var ErrNoNext = errors.New("no next plugin found")

// errTooManyWalks ends a query that keeps asking again.
var errTooManyWalks = errors.New("a query may walk the chain 16 times at most")

// entry is one handler of a chain with what the walk needs of it, resolved when the configuration was built.
type entry struct {
	name  string
	serve Handler
	reply Replier
	up    int // the nearest entry above that has a reply; -1 for none
	zero  []func(q *Query)
}

// Chain is a block's handlers in the fixed order of directives. It is immutable once built.
type Chain struct {
	Zone    string // the block's zone as text, with a dot at the end
	View    string // the name of its view, empty for none
	Filters []func(q *Query) bool
	Debug   bool // panics are not caught
	entries []entry
	last    int     // the nearest entry with a reply above the end
	steady  int     // how many of the first entries are Repeaters
	watcher Watcher // of the one query that has this chain; nil for a block's
}

// Empty reports whether the block has no handler, so that its queries are REFUSED.
func (c *Chain) Empty() bool { return len(c.entries) == 0 }

// Handlers gives the chain's handlers in order, with their directives' names.
func (c *Chain) Handlers(yield func(name string, h Handler) bool) {
	for i := range c.entries {
		if !yield(c.entries[i].name, c.entries[i].serve) {
			return
		}
	}
}

// WithZone is the same chain under another of the block's zones, with filters and view of that block.
func (c *Chain) WithZone(zone string) *Chain {
	d := *c
	d.Zone = zone
	return &d
}

// Builder makes a Chain.
type Builder struct{ c Chain }

// Add appends a handler. Zero are its slots, to be emptied whenever Serve is entered.
func (b *Builder) Add(name string, h Handler, slots ...slotZero) {
	e := entry{name: name, serve: h, up: b.c.last}
	for _, s := range slots {
		e.zero = append(e.zero, s.zero)
	}
	e.reply, _ = h.(Replier)
	if _, ok := h.(Repeater); ok && b.c.steady == len(b.c.entries) {
		b.c.steady++
	}
	if len(b.c.entries) == 0 {
		e.up = -1
	}
	b.c.entries = append(b.c.entries, e)
	if e.reply != nil {
		b.c.last = len(b.c.entries) - 1
	} else {
		b.c.last = e.up
	}
}

// Chain gives the finished chain.
func (b *Builder) Chain() *Chain {
	c := b.c
	if len(c.entries) == 0 {
		c.last = -1
	}
	return &c
}

// slotZero empties one slot of a query.
type slotZero interface{ zero(q *Query) }

// Slot is a handler's own state on a query, typed. It is made when the configuration is built and used by every query;
// the chain empties it when the handler's Serve is entered.
type Slot[T any] struct{ index int }

// NewSlot reserves a slot for the directive that is being set up.
func NewSlot[T any](s *Setup) *Slot[T] {
	slot := &Slot[T]{index: s.Block.slots}
	s.Block.slots++
	s.slots = append(s.slots, slot)
	return slot
}

// cell is one query's state in a slot, and whose it is: query objects are reused.
type cell[T any] struct {
	serial uint64
	value  T
}

// Of gives the state of this query, empty when nobody has set it. It is valid until the query ends.
func (s *Slot[T]) Of(q *Query) *T {
	for len(q.state) <= s.index {
		q.state = append(q.state, nil)
	}
	c, ok := q.state[s.index].(*cell[T])
	if !ok { // the query object served another configuration before
		c = new(cell[T])
		q.state[s.index] = c
	}
	if c.serial != q.serial { // or another query: one may ask before the handler has been entered
		*c = cell[T]{serial: q.serial}
	}
	return &c.value
}

func (s *Slot[T]) zero(q *Query) {
	if s.index >= len(q.state) {
		return
	}
	if c, ok := q.state[s.index].(*cell[T]); ok && c.serial != 0 { // else it is empty already
		*c = cell[T]{}
	}
}

// Router finds the chain for a query. It is the listener that the query came in on.
type Router interface {
	// Route gives the chain for q, nil when no block takes it.
	Route(q *Query) *Chain
	// Server is the listener's label in metrics, "dns://:53".
	Server() string
}

// Sink is where a query ends.
type Sink interface {
	// Finish is called once with the final outcome: Answered, Failed, Dropped or Streamed. The query is the worker's
	// again when it returns.
	Finish(q *Query, out Outcome)
}

// walkDown asks the handlers from pos on, and gives the one that did not say Next.
func (q *Query) walkDown(pos int) (Outcome, int) {
	entries := q.chain.entries
	for ; pos < len(entries); pos++ {
		e := &entries[pos]
		q.pos = pos
		for _, zero := range e.zero {
			zero(q)
		}
		out := e.serve.Serve(q)
		if out == Next {
			continue
		}
		if out == nextWatched {
			entries = q.chain.entries
			continue
		}
		if out != Parked {
			e.mustBeEnd(out)
		}
		q.by = pos
		return out, pos
	}
	q.pos, q.by = pos, -1
	return q.Fail(wire.ServFail, ErrNoNext), pos
}

// walkUp shows the outcome to the handlers above pos, down to the query's floor.
func (q *Query) walkUp(out Outcome, pos int) (Outcome, int) {
	entries := q.chain.entries
	up := q.chain.last
	if pos < len(entries) {
		up = entries[pos].up
	}
	for ; up >= q.floor; up = entries[up].up {
		q.pos = up
		out = entries[up].reply.Reply(q, out)
		if out == Parked || out == Again {
			return out, up
		}
		entries[up].mustBeEnd(out)
	}
	return out, -1
}

// mustBeEnd panics when out does not end a walk's way: a mistake in the handler, whose query is answered SERVFAIL.
func (e *entry) mustBeEnd(out Outcome) {
	switch out {
	case Answered, Failed, Dropped, Streamed:
	default:
		panic("chain: " + e.name + " gave the outcome " + out.String() + " where it can't")
	}
}
