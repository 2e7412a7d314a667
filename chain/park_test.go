package chain

import (
	"errors"
	"sync"
	"testing"

	"github.com/godwit-dns/godwit/wire"
)

// parker parks every query and hands its ticket out.
type parker struct {
	full
	tickets []Ticket
}

func newParker(resume func(q *Query, ev Event) Outcome) *parker {
	p := &parker{}
	p.serve = func(q *Query) Outcome { return p.park(q) }
	p.resume = resume
	return p
}

func (p *parker) park(q *Query) Outcome {
	tk, ok := q.Park()
	if !ok {
		return Failed
	}
	p.tickets = append(p.tickets, tk)
	return Parked
}

func TestResumeGoesOn(t *testing.T) {
	boom := errors.New("boom")
	var above Outcome
	for _, c := range []struct {
		resume func(q *Query, ev Event) Outcome
		want   Outcome
		by     string
	}{
		{func(*Query, Event) Outcome { return Next }, Answered, "c"},
		{func(q *Query, _ Event) Outcome { return answer(q) }, Answered, "b"},
		{func(q *Query, ev Event) Outcome { return q.Fail(wire.ServFail, ev.Err) }, Failed, "b"},
		{func(*Query, Event) Outcome { return Dropped }, Dropped, "b"},
	} {
		p, by := newParker(c.resume), ""
		b := newBench(t, &full{reply: func(q *Query, below Outcome) Outcome { above, by = below, q.By(); return below }}, p, serve(answer))
		b.ask("a.")
		if b.InFlight() != 1 || len(b.ends) != 0 || !p.tickets[0].Live() || !p.tickets[0].Valid() {
			t.Fatal("the query is not parked")
		}
		count := 0
		b.Parked(func(q *Query) { count++ })
		if count != 1 {
			t.Errorf("%d parked", count)
		}
		p.tickets[0].Resume(Event{Kind: EventResult, Err: boom})
		b.ended(c.want)
		if above != c.want || by != c.by {
			t.Errorf("above saw %v by %q, want %v by %q", above, by, c.want, c.by)
		}
	}
}

func TestLateAndDoubleTicketsDoNothing(t *testing.T) {
	resumed := 0
	p := newParker(nil)
	p.resume = func(q *Query, _ Event) Outcome {
		if resumed++; resumed == 1 {
			return p.park(q)
		}
		return answer(q)
	}
	b := newBench(t, p)
	b.ask("a.")
	p.tickets[0].Resume(Event{})
	p.tickets[0].Resume(Event{}) // the query waits for its second ticket
	p.tickets[0].Post(Event{})
	b.Loop.Turn(false)
	if resumed != 1 || p.tickets[0].Live() {
		t.Fatalf("resumed %d times", resumed)
	}
	p.tickets[1].Post(Event{})
	p.tickets[1].Post(Event{})
	b.Loop.Turn(false)
	b.ended(Answered)
	resumed = 0
	b.ask("b.") // takes the same place in the table
	p.tickets[0].Resume(Event{})
	p.tickets[1].Resume(Event{})
	if resumed != 0 {
		t.Error("a ticket of another query was used")
	}
	p.tickets[2].Resume(Event{})
	p.tickets[3].Resume(Event{})
	b.ended(Answered, Answered)
	Ticket{}.Resume(Event{})
	Ticket{}.Post(Event{})
	if (Ticket{}).Valid() || (Ticket{}).Live() {
		t.Error("the zero ticket is none")
	}
}

func TestATakenTicketThatIsNotUsedDies(t *testing.T) {
	var tk Ticket
	b := newBench(t, serve(func(q *Query) Outcome { tk, _ = q.Park(); return answer(q) }))
	b.ask("a.")
	b.ended(Answered)
	tk.Resume(Event{})
	b.ended(Answered)
}

func TestParkOnTheWayUp(t *testing.T) {
	p := &parker{}
	below := Outcome(0)
	p.reply = func(q *Query, out Outcome) Outcome { below = out; return p.park(q) }
	again := 2
	p.resume = func(q *Query, _ Event) Outcome {
		if q.Reply.Empty() {
			t.Error("the reply was taken from a query that has one")
		}
		if again--; again > 0 {
			return Again
		}
		return Answered
	}
	top := 0
	b := newBench(t, &full{reply: func(_ *Query, out Outcome) Outcome { top++; return out }}, p, serve(answer))
	b.ask("a.")
	for i := range 2 {
		p.tickets[i].Resume(Event{})
	}
	b.ended(Answered)
	if below != Answered || top != 1 {
		t.Errorf("below %v, top %d", below, top)
	}
}

func TestTicketsFromManyGoroutines(t *testing.T) {
	p := newParker(func(q *Query, ev Event) Outcome { return answer(q) })
	b := newBench(t, p)
	const n = 500
	for range n {
		b.ask("a.")
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range p.tickets {
				if i%2 == g%2 { // each ticket twice
					p.tickets[i].Post(Event{Kind: EventResult})
				}
			}
		})
	}
	b.until(func() bool { return len(b.ends) == n })
	wg.Wait()
	b.Loop.Turn(false)
	if b.InFlight() != 0 || len(b.ends) != n {
		t.Errorf("%d in flight, %d ends", b.InFlight(), len(b.ends))
	}
}

func TestTooManyInFlightFail(t *testing.T) {
	p := newParker(func(q *Query, _ Event) Outcome { return answer(q) })
	b := newBench(t, p)
	b.MaxInFlight = 2
	for range 3 {
		b.ask("a.")
	}
	if len(b.ends) != 1 || b.errs[0] != ErrTooMany || b.rcodes[0] != wire.ServFail {
		t.Fatalf("%v %v", b.ends, b.errs)
	}
	p.tickets[0].Resume(Event{})
	b.ask("a.")
	p.tickets[1].Resume(Event{})
	p.tickets[2].Resume(Event{})
	b.ended(Failed, Answered, Answered, Answered)
}

func TestResumingAnotherQueryFromAHandler(t *testing.T) {
	p := newParker(func(q *Query, _ Event) Outcome { return answer(q) })
	b := newBench(t)
	resumes := 0
	asker := &full{
		serve: func(q *Query) Outcome {
			if q.Own() || q.Name().String() != "asks." {
				return Next
			}
			out := q.Ask(wire.MustName("child."), wire.TypeA)
			p.tickets[0].Resume(Event{}) // must not start the child of a query that is not parked yet
			return out
		},
		resume: func(q *Query, ev Event) Outcome {
			if resumes++; ev.Kind != EventChild || ev.Outcome != Answered || ev.Child.Name().String() != "child." {
				t.Errorf("%+v", ev)
			}
			return answer(q)
		},
	}
	waits := serve(func(q *Query) Outcome {
		if q.Name().String() == "waits." {
			return Next
		}
		return answer(q)
	})
	var builder Builder
	builder.Add("asker", asker)
	builder.Add("others", waits)
	builder.Add("parker", p)
	b.chain = builder.Chain()
	b.ask("waits.")
	b.ask("asks.")
	b.ended(Answered, Answered)
	if resumes != 1 || len(b.panics) != 0 {
		t.Errorf("resumed %d times, panics %v", resumes, b.panics)
	}
}
