package chain

import (
	"errors"
	"testing"

	"github.com/godwit-dns/godwit/wire"
)

// asker asks for the same again, as often as it may.
type asker struct {
	full
	asked, deepest int
}

func newAsker() *asker {
	a := &asker{}
	a.serve = func(q *Query) Outcome {
		a.asked++
		a.deepest = max(a.deepest, int(q.depth))
		return q.Ask(wire.MustName("next."), wire.TypeAAAA)
	}
	a.resume = func(q *Query, ev Event) Outcome {
		if ev.Kind != EventChild || ev.Child == nil {
			return q.Fail(wire.FormErr, errors.New("another event"))
		}
		return q.Fail(ev.Child.ResponseCode(ev.Outcome), ev.Err)
	}
	return a
}

func TestAskIsEightDeep(t *testing.T) {
	a := newAsker()
	b := newBench(t, a)
	b.ask("a.")
	b.ended(Failed)
	if a.asked != 9 || a.deepest != MaxDepth || b.errs[0] != ErrTooDeep {
		t.Errorf("asked %d, %d deep, %v", a.asked, a.deepest, b.errs)
	}
}

func TestAskedChildHasTheClientsFieldsAndSeesTheWholeChain(t *testing.T) {
	ends := 0
	top := serve(func(q *Query) Outcome { ends++; return Next })
	a := &full{
		serve: func(q *Query) Outcome {
			if q.Own() {
				return Next
			}
			return q.Ask(wire.MustName("Target."), wire.TypeAAAA)
		},
		resume: func(q *Query, ev Event) Outcome {
			c := ev.Child
			if c.Name().String() != "target." || c.Type != wire.TypeAAAA || c.Renamed() || c.Client != q.Client || !c.DO() || c.Spawned() || c.CanStream() {
				t.Errorf("%+v", c)
			}
			if c.Reply.Count(wire.Answer) != 0 || c.Reply.Empty() {
				t.Error("the child's reply is gone")
			}
			return answer(q)
		},
	}
	b := newBench(t, top, a, serve(answer))
	q := b.query("a.")
	q.EDNS = wire.EDNS{Present: true, DO: true, Flags: 0x8000}
	b.Start(q, b, b)
	b.ended(Answered)
	if ends != 2 {
		t.Errorf("the top of the chain was asked %d times, want 2", ends)
	}
}

func TestAskWhileTooManyAreInFlight(t *testing.T) {
	b := newBench(t, newAsker())
	b.MaxInFlight = 0
	b.ask("a.")
	b.ended(Failed)
	if b.errs[0] != ErrTooMany {
		t.Errorf("%v", b.errs)
	}
}

func TestChildThatPanicsContinuesItsParent(t *testing.T) {
	a := &full{
		serve: func(q *Query) Outcome {
			if q.Own() {
				panic("child")
			}
			return q.Ask(wire.MustName("x."), wire.TypeA)
		},
		resume: func(q *Query, ev Event) Outcome {
			if ev.Outcome != Failed || ev.Err != ErrPanic {
				t.Errorf("%+v", ev)
			}
			return answer(q)
		},
	}
	b := newBench(t, a)
	b.ask("a.")
	b.ended(Answered)
}

func TestSpawnForNobody(t *testing.T) {
	var seen []string
	spawner := &full{
		serve: func(q *Query) Outcome {
			q.Spawn(Ticket{})
			return answer(q)
		},
		reply: func(q *Query, below Outcome) Outcome {
			if !q.Spawned() || !q.Own() || q.Chain() == nil {
				t.Error("only the spawned walk comes up here")
			}
			seen = append(seen, "reply "+below.String())
			return below
		},
	}
	top := &full{reply: func(q *Query, below Outcome) Outcome {
		if q.Spawned() {
			t.Error("a spawned walk ends with its spawner")
		}
		return below
	}}
	b := newBench(t, top, spawner, serve(func(q *Query) Outcome {
		seen = append(seen, "below "+q.Name().String())
		return answer(q)
	}))
	b.ask("a.")
	b.ended(Answered)
	if len(seen) != 2 || seen[0] != "below a." || seen[1] != "reply Answered" {
		t.Errorf("%v", seen)
	}
}

func TestSpawnAndWait(t *testing.T) {
	p := newParker(func(q *Query, _ Event) Outcome { return answer(q) })
	var first Event
	spawner := &full{
		serve: func(q *Query) Outcome {
			tk, _ := q.Park()
			q.Spawn(tk)
			return Parked
		},
		resume: func(q *Query, ev Event) Outcome {
			first = ev
			if ev.Kind == EventTimer { // it took too long: the walk goes on for itself
				return q.Fail(wire.ServFail, nil)
			}
			return answer(q)
		},
	}
	b := newBench(t, spawner, p)
	b.ask("a.")
	if b.InFlight() != 2 {
		t.Fatalf("%d in flight, want parent and child", b.InFlight())
	}
	p.tickets[0].Resume(Event{})
	b.ended(Answered)
	if first.Kind != EventChild || first.Outcome != Answered || first.Child == nil {
		t.Errorf("%+v", first)
	}
	b.ask("b.")
	for _, q := range b.table {
		if q != nil && !q.spawn {
			Ticket{w: b.Worker, slot: q.slot, gen: q.gen}.Resume(Event{Kind: EventTimer})
		}
	}
	if len(b.ends) != 2 || b.ends[1] != Failed || b.InFlight() != 1 {
		t.Fatalf("%v, %d in flight", b.ends, b.InFlight())
	}
	p.tickets[1].Resume(Event{}) // its parent is gone
	b.ended(Answered, Failed)
}

func TestSlotsAreEmptyAtServeAndPerHandler(t *testing.T) {
	type state struct{ n int }
	block := &Block{Config: &Config{}}
	s := &Setup{Block: block}
	one, two := NewSlot[state](s), NewSlot[state](s)
	count := func(slot *Slot[state]) *full {
		return &full{
			serve: func(q *Query) Outcome {
				if slot.Of(q).n != 0 {
					t.Errorf("the slot holds %d", slot.Of(q).n)
				}
				slot.Of(q).n = 7
				return Next
			},
			reply: func(q *Query, below Outcome) Outcome {
				if slot.Of(q).n != 7 {
					t.Errorf("the slot was lost: %d", slot.Of(q).n)
				}
				return below
			},
		}
	}
	var builder Builder
	builder.Add("one", count(one), one)
	builder.Add("two", count(two), two)
	builder.Add("end", serve(answer))
	b := newBench(t)
	b.chain = builder.Chain()
	for range 3 {
		b.ask("a.")
	}
	other := NewSlot[int](&Setup{Block: &Block{Config: &Config{}}}) // another configuration, the same index
	var next Builder
	next.Add("x", serve(func(q *Query) Outcome { *other.Of(q)++; return answer(q) }), other)
	b.chain = next.Chain()
	b.ask("a.")
	b.ended(Answered, Answered, Answered, Answered)
}

// A handler may be asked for metadata before it has been entered: it must not tell of the query that the object served
// before.
func TestSlotsAreEmptyBeforeServe(t *testing.T) {
	slot := NewSlot[int](&Setup{Block: &Block{Config: &Config{}}})
	var builder Builder
	builder.Add("reader", serve(func(q *Query) Outcome {
		if n := *slot.Of(q); n != 0 {
			t.Errorf("the slot holds %d of another query", n)
		}
		return Next
	}))
	builder.Add("writer", serve(func(q *Query) Outcome { *slot.Of(q) = 7; return answer(q) }), slot)
	b := newBench(t)
	b.chain = builder.Chain()
	for range 3 {
		b.ask("a.")
	}
	b.ended(Answered, Answered, Answered)
}

func TestMemoryOfABurstIsGivenBack(t *testing.T) {
	grown := 0
	p := newParker(func(q *Query, _ Event) Outcome {
		answer(q)
		if grown++; grown%50 == 0 {
			q.Reply.Append(wire.Answer, wire.Root, wire.TypeNULL, wire.ClassIN, 0, make([]byte, 60000))
		}
		return Answered
	})
	b := newBench(t, p)
	for range maxFree + 100 {
		b.ask("a.")
	}
	for _, tk := range p.tickets {
		tk.Resume(Event{})
	}
	large := 0
	for _, buf := range b.buffers {
		if cap(buf) > largeBuffer {
			large++
		}
	}
	if len(b.free) > maxFree || len(b.buffers) > maxSpares || large > maxLarge {
		t.Errorf("%d queries, %d buffers, %d of them large", len(b.free), len(b.buffers), large)
	}
}

func TestAskForIsLeftByATimer(t *testing.T) {
	p := newParker(func(q *Query, _ Event) Outcome { return answer(q) })
	var timer Ticket
	var woken []EventKind
	a := &full{
		serve: func(q *Query) Outcome {
			if q.Own() {
				return Next
			}
			timer, _ = q.Park()
			q.AskFor(timer, wire.MustName("slow."), wire.TypeAAAA)
			return Parked
		},
		resume: func(q *Query, ev Event) Outcome {
			woken = append(woken, ev.Kind)
			return answer(q)
		},
	}
	b := newBench(t, a, p)
	b.ask("a.")
	timer.Resume(Event{Kind: EventTimer})
	if len(b.ends) != 1 || len(woken) != 1 || woken[0] != EventTimer {
		t.Fatalf("ends %v, woken by %v", b.ends, woken)
	}
	p.tickets[0].Resume(Event{Kind: EventReply})
	b.ended(Answered)
	if len(woken) != 1 {
		t.Errorf("a child that nobody waits for woke its parent: %v", woken)
	}
}
