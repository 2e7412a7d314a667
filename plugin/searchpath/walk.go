package searchpath

import (
	"encoding/binary"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/wire"
)

// patience is how long a walk may take. The stub then gets the first answer and goes on by itself, to a cache that has
// heard of all that was asked.
const patience = time.Second

// endingHolds is how long a walk for one type shows the other its end.
const endingHolds = time.Second

// walk is the way along a client's candidates: the name in each suffix of the search list, then the name as it is. Of a
// candidate's A and AAAA records, none, one or both may be there, and the stubs go on from it as follows.
//
//	A and AAAA        | glibc, both | musl, both | glibc, one | musl, one
//	neither exists    | goes on     | goes on    | goes on    | goes on
//	either has data   | stops       | stops      | stops if its own has, else goes on | stops
//	neither has data  | goes on     | fails      | goes on    | fails
//	one is NXDOMAIN   | by the other| goes on    | by its own | by its own
//
// Go's resolver does as glibc. So a candidate is passed only when it does not exist for either type, and is the end only
// when it exists for both and has data for one; everything else is left to the stub. The type that has no data there is
// answered without data and without a CNAME, which sends a glibc that wants this type alone on its own way, as its walk
// would.
//
// That a name does not exist is true for all types (RFC 8020), but some servers say it of AAAA alone. A candidate in the
// cluster is believed when A says so; one outside is asked for both.
type walk struct {
	client *client
	key    uint64
	base   int // length of the name without its suffix, in octets
	index  int // of the candidate; the name as it is comes behind the suffixes
	asked  wire.Type
	a      finding // what asking for A gave
	ttl    uint32  // the smallest of all that was used, in seconds
	found  []byte  // the reply to A, while AAAA is asked for
	flags  uint16  // of it
	target []byte  // the candidate

	timer  loop.Timer
	ticket chain.Ticket
}

// finding is what a candidate turned out to be for one type.
type finding uint8

const (
	missing finding = iota + 1 // NXDOMAIN
	empty                      // it exists, without records of the type
	data
	broken // no answer, or none that all stubs understand alike
)

// Fire ends a walk that takes too long.
func (w *walk) Fire(*loop.Loop) { w.ticket.Resume(chain.Event{Kind: chain.EventTimer}) }

// walk begins. The query's reply stays as it is until the walk has come to something.
func (s *SearchPath) walk(q *chain.Query, c *client, key uint64, base int) chain.Outcome {
	own := &s.loops[q.Shard()]
	var w *walk
	if n := len(own.idle); n > 0 {
		w, own.idle = own.idle[n-1], own.idle[:n-1]
	} else {
		w = new(walk)
	}
	*s.slot.Of(q) = w
	w.client, w.key, w.base, w.index = c, key, base, 1
	w.ttl = negativeTTL(&q.Reply)
	if q.Type == wire.TypeAAAA {
		w.index = 0 // that there is no A in the first suffix remains to be seen
	}
	if e := &own.ends[key%uint64(len(own.ends))]; e.key == key && q.Now() < e.until {
		w.index, w.ttl = e.index, min(w.ttl, e.ttl)
	}
	if !w.aim(q.Name()) {
		return s.end(q, w, stubsDiffer)
	}
	loop := q.Worker().Loop
	loop.After(&w.timer, patience, w)
	return s.ask(q, w, wire.TypeA)
}

// aim makes the candidate's name; false when it would be too long, which stubs take in different ways.
func (w *walk) aim(name wire.Name) bool {
	suffix := wire.Root
	if w.index < len(w.client.search) {
		suffix = w.client.search[w.index]
	}
	w.target = append(append(w.target[:0], name[:w.base]...), suffix...)
	return len(w.target) <= wire.MaxName
}

func (s *SearchPath) ask(q *chain.Query, w *walk, t wire.Type) chain.Outcome {
	ticket, ok := q.Park()
	if !ok { // first has seen to it that there is room, and the query keeps its place
		s.end(q, w, overloaded)
		return chain.Failed
	}
	w.asked, w.ticket = t, ticket
	q.AskFor(ticket, w.target, t)
	return chain.Parked
}

// Resume takes the answer for a candidate.
func (s *SearchPath) Resume(q *chain.Query, ev chain.Event) chain.Outcome {
	w := *s.slot.Of(q)
	if ev.Kind != chain.EventChild {
		return s.end(q, w, walkSlow)
	}
	f := w.look(&ev)
	if f == broken {
		return s.end(q, w, walkFailed)
	}
	if w.asked == wire.TypeA {
		w.a = f
		switch {
		case f == missing && w.index < len(w.client.labels):
			return s.next(q, w)
		case w.index == 0: // there is something after all
			return s.end(q, w, stubsDiffer)
		case f == data && q.Type == wire.TypeA:
			w.found, w.flags = append(w.found[:0], ev.Child.Reply.Bytes()...), ev.Child.Reply.Flags()
		}
		return s.ask(q, w, wire.TypeAAAA)
	}
	switch {
	case f == missing && w.a == missing:
		return s.next(q, w)
	case f == missing || w.a == missing || f != data && w.a != data:
		return s.end(q, w, stubsDiffer)
	case q.Type == wire.TypeA && w.a == data:
		return s.complete(q, w, w.found, w.flags)
	case q.Type == wire.TypeAAAA && f == data:
		return s.complete(q, w, ev.Child.Reply.Bytes(), ev.Child.Reply.Flags())
	}
	q.Current = false
	q.Reply.SetRcode(wire.NoError) // with the SOA of the first answer
	q.Reply.SetTTL(w.ttl)
	s.completed.Inc(q.Shard())
	return s.end(q, w, completable)
}

// next goes on to the candidate behind.
func (s *SearchPath) next(q *chain.Query, w *walk) chain.Outcome {
	if w.index++; w.index > len(w.client.search) {
		return s.end(q, w, notFound)
	}
	if !w.aim(q.Name()) {
		return s.end(q, w, stubsDiffer)
	}
	return s.ask(q, w, wire.TypeA)
}

// look says what an answer means for the type that was asked for, and takes note of how long it holds.
func (w *walk) look(ev *chain.Event) finding {
	if ev.Outcome != chain.Answered || ev.Child == nil {
		return broken
	}
	r := &ev.Child.Reply
	switch {
	case r.Rcode == wire.NXDomain:
		w.ttl = min(w.ttl, negativeTTL(r))
		return missing
	case r.Rcode != wire.NoError:
		return broken
	case r.Has(wire.Answer, w.asked):
	case r.Flags()&wire.FlagTC != 0:
		return broken
	default: // an alias that leads to nothing stops some stubs and not others, as no data does
		w.ttl = min(w.ttl, negativeTTL(r))
		return empty
	}
	smallest, _, _ := r.TTLs()
	w.ttl = min(w.ttl, smallest)
	return data
}

// negativeTTL is how long a denial holds (RFC 2308, 5), in seconds: 0 for one without an SOA.
func negativeTTL(r *wire.Reply) uint32 {
	var c wire.Cursor
	if c.Open(r.Bytes()) != nil {
		return 0
	}
	var rec wire.Record
	for {
		section, ok, err := c.Next(&rec)
		if err != nil || !ok || section > wire.Authority {
			return 0
		}
		if raw := rec.RawData(); rec.Type == wire.TypeSOA && len(raw) >= 20 {
			return min(rec.TTL, binary.BigEndian.Uint32(raw[len(raw)-4:]))
		}
	}
}

// complete writes the reply: an alias from the name that was asked to the candidate, and the candidate's records.
func (s *SearchPath) complete(q *chain.Query, w *walk, msg []byte, flags uint16) chain.Outcome {
	q.Current = false
	q.Reply.Begin(&q.Request, wire.NoError, flags&(wire.FlagAA|wire.FlagRA|wire.FlagTC))
	q.Reply.AppendName(wire.Answer, q.OriginalName(), wire.TypeCNAME, w.ttl, w.target)
	if err := wire.Transcribe(&q.Reply, msg, answers); err != nil {
		s.end(q, w, walkFailed)
		return q.Fail(wire.ServFail, err)
	}
	q.Reply.SetTTL(w.ttl)
	s.completed.Inc(q.Shard())
	return s.end(q, w, completable)
}

// answers keeps the records of the answer section alone.
func answers(s wire.Section, _ *wire.Record) wire.Action {
	if s == wire.Answer {
		return wire.Keep
	}
	return wire.Drop
}

// end gives the walk back. The query's reply is what it is to be.
func (s *SearchPath) end(q *chain.Query, w *walk, why reason) chain.Outcome {
	switch why {
	case completable, walkSlow, overloaded:
	default:
		s.seen.put(w.key, failed, q.Now())
	}
	own := &s.loops[q.Shard()]
	e := &own.ends[w.key%uint64(len(own.ends))]
	if why == completable {
		*e = ending{w.key, q.Now() + min(endingHolds, time.Duration(w.ttl)*time.Second), w.index, w.ttl}
	} else {
		s.leave(q, why)
		if e.key == w.key {
			*e = ending{}
		}
	}
	q.Worker().Loop.Stop(&w.timer)
	*s.slot.Of(q) = nil
	w.client, w.ticket = nil, chain.Ticket{}
	own.idle = append(own.idle, w)
	return chain.Answered
}
