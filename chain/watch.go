package chain

// Watcher follows one query from the handler that called Watch down and up again. It is called on the query's loop. What
// it is told is nested as the handlers are: who was entered last leaves first.
type Watcher interface {
	// Enter is called before a handler of the named directive is asked.
	Enter(q *Query, name string)
	// Leave is called when that handler is done, and all that it asked.
	Leave(q *Query, name string)
	// End is called when all handlers below the one that called Watch are done.
	End(q *Query, out Outcome)
}

// nextWatched is Next for a walk that goes on with the handlers that the query's chain has now.
const nextWatched Outcome = Streamed + 1

// Watch has w told of every handler that the query comes to from here on. It is for Serve, which returns what it returns.
// A query that is not watched pays nothing for this: one that is gets a chain of its own.
func (q *Query) Watch(w Watcher) Outcome {
	if q.chain.watcher != nil {
		return Next
	}
	c := *q.chain
	c.watcher = w
	c.entries = append([]entry(nil), c.entries...)
	head := &c.entries[q.pos]
	head.reply = end{head.reply}
	for i := q.pos + 1; i < len(c.entries); i++ {
		e := &c.entries[i]
		s := &step{entry: *e}
		e.serve, e.reply, e.up = s, s, i-1
	}
	c.last = len(c.entries) - 1
	q.chain = &c
	return nextWatched
}

// Watcher is who follows the query; nil for nobody. Walks that it spawned are not followed.
func (q *Query) Watcher() Watcher {
	if q.chain == nil || q.spawn {
		return nil
	}
	return q.chain.watcher
}

// Asker is the query that waits for this one, which is one of Ask's; nil for a client's query.
func (q *Query) Asker() *Query {
	if q.spawn || q.parent.w == nil {
		return nil
	}
	return q.parent.w.waiting(q.parent)
}

// step is a handler whose part in a query is watched.
type step struct{ entry }

// Serve asks the handler.
func (s *step) Serve(q *Query) Outcome {
	w := q.Watcher()
	if w != nil {
		w.Enter(q, s.name)
	}
	out := s.serve.Serve(q)
	if w != nil && out != Next && out != Parked {
		w.Leave(q, s.name)
	}
	return out
}

// Reply shows the handler the outcome, if it wants to see it.
func (s *step) Reply(q *Query, below Outcome) Outcome {
	out := below
	if s.reply != nil {
		out = s.reply.Reply(q, below)
	}
	return s.done(q, out)
}

// Resume continues the handler.
func (s *step) Resume(q *Query, ev Event) Outcome {
	return s.done(q, s.serve.(Resumer).Resume(q, ev))
}

func (s *step) done(q *Query, out Outcome) Outcome {
	if w := q.Watcher(); w != nil && out != Next && out != Parked && out != Again {
		w.Leave(q, s.name)
	}
	return out
}

// end is the way up at the handler that called Watch.
type end struct{ Replier }

// Reply tells the watcher, and then the handler if it wants to see the outcome.
func (e end) Reply(q *Query, below Outcome) Outcome {
	if w := q.Watcher(); w != nil {
		w.End(q, below)
	}
	if e.Replier != nil {
		return e.Replier.Reply(q, below)
	}
	return below
}
