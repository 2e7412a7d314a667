package chain

import (
	"errors"
	"strings"
	"testing"

	"github.com/godwit-dns/godwit/wire"
)

func TestEveryOutcomeOfServe(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		serve func(q *Query) Outcome
		want  Outcome
		rcode wire.Rcode
		err   error
		panic string
	}{
		{answer, Answered, wire.NoError, nil, ""},
		{func(q *Query) Outcome { return q.Fail(wire.Refused, boom) }, Failed, wire.Refused, boom, ""},
		{func(*Query) Outcome { return Dropped }, Dropped, 0, nil, ""},
		{func(*Query) Outcome { return Streamed }, Streamed, 0, nil, ""},
		{func(*Query) Outcome { return Next }, Failed, wire.ServFail, ErrNoNext, ""},
		{func(*Query) Outcome { return 0 }, Failed, wire.ServFail, ErrPanic, "b gave the outcome no outcome"},
		{func(*Query) Outcome { return Again }, Failed, wire.ServFail, ErrPanic, "b gave the outcome Again"},
		{func(*Query) Outcome { return 77 }, Failed, wire.ServFail, ErrPanic, "b gave the outcome Outcome(77)"},
		{func(*Query) Outcome { return Parked }, Failed, wire.ServFail, ErrPanic, "b returned Parked without a ticket"},
		{func(*Query) Outcome { panic("own") }, Failed, wire.ServFail, ErrPanic, "own"},
	} {
		seen := Outcome(0)
		b := newBench(t, &full{reply: func(_ *Query, below Outcome) Outcome { seen = below; return below }}, serve(c.serve))
		b.ask("a.")
		b.ended(c.want)
		if b.rcodes[0] != c.rcode || b.errs[0] != c.err {
			t.Errorf("%v: %v %v", c.want, b.rcodes[0], b.errs[0])
		}
		if c.panic == "" && (seen != c.want || len(b.panics) != 0) {
			t.Errorf("the handler above saw %v, not %v; panics %v", seen, c.want, b.panics)
		}
		if c.panic != "" && (len(b.panics) != 1 || !strings.Contains(b.panics[0].(string), c.panic)) {
			t.Errorf("panics %v, want %s", b.panics, c.panic)
		}
	}
}

func TestRepliersAscendInReverseAndMayChangeTheOutcome(t *testing.T) {
	var order []string
	note := func(name string, out Outcome) *full {
		return &full{
			serve: func(q *Query) Outcome { order = append(order, name+q.At()); return Next },
			reply: func(q *Query, below Outcome) Outcome {
				order = append(order, name+"^"+q.At()+below.String())
				if out != 0 {
					return out
				}
				return below
			},
		}
	}
	by := ""
	b := newBench(t, note("1", 0), note("2", Dropped), serve(func(*Query) Outcome { return Next }), note("3", Answered), serve(func(q *Query) Outcome {
		if !q.Last() || q.NextIs("x") {
			t.Error("e is the last")
		}
		return q.Fail(wire.ServFail, nil)
	}))
	b.chain.entries[0].reply = &full{reply: func(q *Query, below Outcome) Outcome { by = q.By(); order = append(order, "top"); return below }}
	b.ask("a.")
	b.ended(Dropped)
	if got := strings.Join(order, " "); got != "1a 2b 3d 3^dFailed 2^bAnswered top" || by != "e" {
		t.Errorf("%s, by %q", got, by)
	}
}

func TestReplyMustEndOrGoOn(t *testing.T) {
	for _, out := range []Outcome{0, Next, 99} {
		b := newBench(t, &full{reply: func(*Query, Outcome) Outcome { return out }}, serve(answer))
		b.ask("a.")
		b.ended(Failed)
		if b.errs[0] != ErrPanic || len(b.panics) != 1 || !strings.Contains(b.panics[0].(string), "a gave the outcome") {
			t.Errorf("%v: %v %v", out, b.errs, b.panics)
		}
	}
}

func TestNoChainAndEmptyChainAreRefused(t *testing.T) {
	b := newBench(t)
	b.ask("a.")
	b.chain = nil
	b.ask("a.")
	b.ended(Failed, Failed)
	if b.rcodes[0] != wire.Refused || b.rcodes[1] != wire.Refused {
		t.Errorf("%v", b.rcodes)
	}
}

func TestAgainWalksDownFromBelowWithNewNames(t *testing.T) {
	var names []string
	rounds := 0
	b := newBench(t, serve(func(q *Query) Outcome { names = append(names, "top"); return Next }),
		&full{reply: func(q *Query, below Outcome) Outcome {
			if rounds++; rounds < 3 {
				q.SetName(wire.MustName("next."))
				return Again
			}
			return below
		}},
		serve(func(q *Query) Outcome { names = append(names, q.Name().String()); return answer(q) }))
	b.ask("first.")
	b.ended(Answered)
	if got := strings.Join(names, " "); got != "top first. next. next." {
		t.Error(got)
	}
}

func TestSixteenWalksAtMost(t *testing.T) {
	walks := 0
	b := newBench(t, &full{reply: func(*Query, Outcome) Outcome { return Again }}, serve(func(q *Query) Outcome { walks++; return answer(q) }))
	// A handler that never gives up can't be ended politely: above it the failure arrives, and it says Again once more.
	gaveUp := errors.New("gave up")
	b.chain.entries[0].reply = &full{reply: func(q *Query, below Outcome) Outcome {
		if errors.Is(q.Err, errTooManyWalks) {
			return q.Fail(wire.ServFail, gaveUp)
		}
		return Again
	}}
	b.ask("a.")
	b.ended(Failed)
	if walks != 16 || b.errs[0] != gaveUp {
		t.Errorf("%d walks, %v", walks, b.errs)
	}
}

func TestAgainWithoutEndIsEnded(t *testing.T) {
	b := newBench(t, &full{reply: func(*Query, Outcome) Outcome { return Again }}, serve(answer))
	b.ask("a.")
	b.ended(Failed)
	if b.errs[0] != errTooManyWalks {
		t.Errorf("%v", b.errs)
	}
}

func TestPanicsOutsideOfServe(t *testing.T) {
	for what, h := range map[string]*full{
		"Reply": {serve: func(*Query) Outcome { return Next }, reply: func(*Query, Outcome) Outcome { panic("x") }},
		"Resume": {serve: func(q *Query) Outcome { tk, _ := q.Park(); tk.Post(Event{}); return Parked },
			resume: func(*Query, Event) Outcome { panic("x") }},
		"Parked in Resume without a ticket": {serve: func(q *Query) Outcome { tk, _ := q.Park(); tk.Post(Event{}); return Parked },
			resume: func(*Query, Event) Outcome { return Parked }},
		"Next in Resume on the way up": {reply: func(q *Query, _ Outcome) Outcome { tk, _ := q.Park(); tk.Post(Event{}); return Parked },
			resume: func(*Query, Event) Outcome { return Next }},
	} {
		b := newBench(t, h, serve(answer))
		b.ask("a.")
		b.Loop.Turn(false)
		b.ended(Failed)
		if b.errs[0] != ErrPanic || len(b.panics) != 1 {
			t.Errorf("%s: %v %v", what, b.errs, b.panics)
		}
		if b.chain = nil; true {
			b.ask("b.") // and the worker goes on
		}
		b.ended(Failed, Failed)
	}
}

type panickyRouter struct{ *bench }

func (panickyRouter) Route(*Query) *Chain { panic("filter") }

type panickySink struct{ n int }

func (s *panickySink) Finish(*Query, Outcome) { s.n++; panic("sink") }

func TestPanicsInFiltersAndSinks(t *testing.T) {
	b := newBench(t, serve(answer))
	b.Start(b.query("a."), panickyRouter{b}, b)
	b.ended(Failed)
	s := &panickySink{}
	b.Start(b.query("a."), b, s)
	if s.n != 1 || len(b.panics) != 2 {
		t.Errorf("the sink was told %d times, panics %v", s.n, b.panics)
	}
	b.ended(Failed)
}

func TestDebugLetsPanicsThrough(t *testing.T) {
	b := newBench(t, serve(func(*Query) Outcome { panic("x") }))
	b.chain.Debug = true
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	b.ask("a.")
}

func TestHandlersAndZones(t *testing.T) {
	b := newBench(t, serve(answer), serve(answer))
	other := b.chain.WithZone("example.org.")
	names := ""
	for name := range other.Handlers {
		names += name
	}
	for range other.Handlers {
		names += "+"
		break
	}
	if names != "ab+" || other.Zone != "example.org." || b.chain.Zone != "" || other.Empty() {
		t.Errorf("%q %q", names, other.Zone)
	}
}
