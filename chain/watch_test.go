package chain

import (
	"strings"
	"testing"

	"github.com/godwit-dns/godwit/wire"
)

// diary is a watcher that writes down what it is told.
type diary struct{ text []string }

func (d *diary) Enter(_ *Query, name string) { d.text = append(d.text, "+"+name) }
func (d *diary) Leave(_ *Query, name string) { d.text = append(d.text, "-"+name) }
func (d *diary) End(_ *Query, out Outcome)   { d.text = append(d.text, out.String()) }

func TestWatch(t *testing.T) {
	next := serve(func(*Query) Outcome { return Next })
	turn := 0
	again := func() *full {
		return &full{reply: func(_ *Query, below Outcome) Outcome {
			if turn++; turn == 1 {
				return Again
			}
			return below
		}}
	}
	asks := func() *full {
		return &full{serve: func(q *Query) Outcome {
			if q.Own() {
				return answer(q)
			}
			return q.Ask(wire.MustName("other."), wire.TypeA)
		}, resume: func(q *Query, _ Event) Outcome { return answer(q) }}
	}
	rising := func() *full {
		return &full{reply: func(q *Query, below Outcome) Outcome { return q.Ask(wire.MustName("other."), wire.TypeA) },
			resume: func(q *Query, _ Event) Outcome { return answer(q) }, serve: func(q *Query) Outcome {
				if q.Own() {
					return answer(q)
				}
				return Next
			}}
	}
	spawns := func() *full {
		return &full{reply: func(q *Query, below Outcome) Outcome {
			if !q.Own() {
				q.Spawn(Ticket{})
			}
			return below
		}}
	}
	for _, c := range []struct {
		name  string
		below []Handler
		want  string
	}{
		{"answered", []Handler{next, serve(answer), next}, "+c +d -d -c Answered"},
		{"nobody answers", []Handler{next, &full{}}, "+c +d -d -c Failed"},
		{"dropped", []Handler{&full{}, serve(func(*Query) Outcome { return Dropped })}, "+c +d -d -c Dropped"},
		{"again", []Handler{next, again(), serve(answer)}, "+c +d +e -e +e -e -d -c Answered"},
		{"asks on the way down", []Handler{next, asks()}, "+c +d -d -c Answered"},
		{"asks on the way up", []Handler{rising(), serve(answer)}, "+c +d -d -c Answered"},
		{"spawns", []Handler{spawns(), serve(answer)}, "+c +d -d -c Answered"},
		{"last", nil, "Failed"},
	} {
		d, seen := &diary{}, 0
		watch := serve(func(q *Query) Outcome {
			if q.Own() {
				return Next
			}
			return q.Watch(d)
		})
		top := &full{reply: func(q *Query, below Outcome) Outcome {
			if !q.Own() && q.Watcher() != Watcher(d) {
				t.Errorf("%s: the watcher is %v", c.name, q.Watcher())
			}
			seen++
			return below
		}}
		b := newBench(t, append([]Handler{top, watch}, c.below...)...)
		b.ask("a.")
		if got := strings.Join(d.text, " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if seen == 0 || len(b.panics) != 0 || b.InFlight() != 0 {
			t.Errorf("%s: seen %d, panics %v", c.name, seen, b.panics)
		}
	}
}

// TestWatchedQueryIsOneOfMany has the next query go unwatched, and the one that watches see its own reply.
func TestWatchedQueryIsOneOfMany(t *testing.T) {
	d, replies, asked := &diary{}, 0, 0
	watch := &full{
		serve: func(q *Query) Outcome {
			if asked++; asked == 1 {
				if q.Watch(d) != nextWatched || q.Watch(d) != Next {
					t.Error("a query is watched once")
				}
				return nextWatched
			}
			return Next
		},
		reply: func(q *Query, below Outcome) Outcome { replies++; return below },
	}
	b := newBench(t, watch, serve(answer))
	b.ask("a.")
	b.ask("b.")
	b.ended(Answered, Answered)
	if got := strings.Join(d.text, " "); got != "+b -b Answered" || replies != 2 {
		t.Errorf("%s, %d replies", got, replies)
	}
}

func TestAsker(t *testing.T) {
	var parent, asker *Query
	a := &full{serve: func(q *Query) Outcome {
		if q.Own() {
			asker = q.Asker()
			return answer(q)
		}
		parent = q
		if q.Asker() != nil {
			t.Error("nobody asked for a client's query")
		}
		return q.Ask(wire.MustName("other."), wire.TypeA)
	}, resume: func(q *Query, _ Event) Outcome { return answer(q) }}
	b := newBench(t, a)
	b.ask("a.")
	if asker == nil || asker != parent {
		t.Errorf("%p asked, not %p", asker, parent)
	}
}
