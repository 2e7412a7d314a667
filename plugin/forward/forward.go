// Package forward puts queries to other servers and gives their replies to the client.
//
//	forward FROM TO... {
//	    except IGNORED_NAMES...
//	    force_tcp
//	    prefer_udp
//	    policy random|round_robin|sequential
//	    …
//	}
//
// RFC 1035, 7; RFC 5625 (what a forwarder must not change); RFC 7766 (TCP); RFC 7858 (TLS). The asking itself is package
// upstream's.
package forward

import (
	"errors"
	"slices"
	"sync/atomic"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/upstream"
	"github.com/godwit-dns/godwit/wire"
)

// errLooping is the failure of a query that would come back to this server.
var errLooping = errors.New("forwarding is suspended: queries to the upstreams come back to this server; see the loop directive")

// Forward is one forward line at work.
type Forward struct {
	group  *upstream.Group
	from   wire.Name
	except []wire.Name

	limit    int64 // queries in flight; 0 is no limit
	errLimit error
	rejects  *metrics.Counter
	inFlight atomic.Int64

	next       []wire.Rcode // replies after which the next forward is asked
	nextNoData bool

	probing atomic.Pointer[probing]
	slot    *chain.Slot[state]
	free    []*waiter // by loop: the first of a list
}

var (
	_ chain.Handler   = (*Forward)(nil)
	_ chain.Resumer   = (*Forward)(nil)
	_ chain.Forwarder = (*Forward)(nil)
)

// probing is what the loop directive wants.
type probing struct {
	name    wire.Name
	suspend bool
}

// is reports whether q is the probe.
func (p *probing) is(q *chain.Query) bool {
	return p != nil && q.Type == wire.TypeHINFO && wire.Equal(q.Name(), p.name)
}

// state is what the directive knows of a query.
type state struct{ server *upstream.Server }

// waiter brings the end of an exchange to the query that waits for it. It is reused, on its own loop.
type waiter struct {
	f      *Forward
	ticket chain.Ticket
	shard  int
	next   *waiter
}

// Done continues the query.
func (w *waiter) Done(a *upstream.Answer) {
	f, ticket := w.f, w.ticket
	w.ticket, w.next = chain.Ticket{}, f.free[w.shard]
	f.free[w.shard] = w
	f.inFlight.Add(-1)
	ticket.Resume(chain.Event{Kind: chain.EventReply, Msg: a.Msg, Err: a.Err, Value: a.Server})
}

func (f *Forward) waiter(shard int) *waiter {
	w := f.free[shard]
	if w == nil {
		return &waiter{f: f, shard: shard}
	}
	f.free[shard] = w.next
	return w
}

// Serve asks the upstreams for what is under FROM and not excepted.
func (f *Forward) Serve(q *chain.Query) chain.Outcome {
	if !f.Forwards(q.Name()) {
		return chain.Next
	}
	p := f.probing.Load()
	probe := p.is(q)
	if p != nil && p.suspend && !probe {
		return q.Fail(wire.ServFail, errLooping)
	}
	shard := q.Shard()
	if n := f.inFlight.Add(1); f.limit > 0 && n > f.limit {
		f.inFlight.Add(-1)
		f.rejects.Inc(shard)
		return q.Fail(wire.Refused, f.errLimit)
	}
	ticket, ok := q.Park()
	if !ok {
		f.inFlight.Add(-1)
		return chain.Failed
	}
	w := f.waiter(shard)
	w.ticket = ticket
	// A probe that came back has to be seen again, or the loop directive would wait for itself.
	o := upstream.Options{Via: upstream.TCP, Alone: probe}
	if q.Proto.String() == "udp" {
		o.Via = upstream.UDP
	}
	f.group.Ask(q.Worker().Loop, &q.Request, o, w)
	return chain.Parked
}

// Resume takes the upstream's reply, whatever its rcode, or hands the query to the next forward.
func (f *Forward) Resume(q *chain.Query, ev chain.Event) chain.Outcome {
	f.slot.Of(q).server, _ = ev.Value.(*upstream.Server)
	switch {
	case ev.Err == upstream.ErrMismatch:
		q.Reply.Begin(&q.Request, wire.FormErr, 0)
		return chain.Answered
	case ev.Err != nil:
		return q.Fail(wire.ServFail, ev.Err)
	}
	if err := q.Reply.Adopt(ev.Msg, &q.Request); err != nil {
		return q.Fail(wire.ServFail, err)
	}
	if f.passesOn(q) && q.NextIs("forward") {
		q.Reply.Reset()
		return chain.Next
	}
	return chain.Answered
}

// passesOn reports whether the reply is one after which the next forward is asked.
func (f *Forward) passesOn(q *chain.Query) bool {
	return slices.Contains(f.next, q.Reply.Rcode) ||
		f.nextNoData && q.Reply.Rcode == wire.NoError && q.Reply.Count(wire.Answer) == 0
}

// Forwards reports whether name is under FROM and not excepted. FROM itself can't be excepted.
func (f *Forward) Forwards(name wire.Name) bool {
	if !name.Under(f.from) {
		return false
	}
	if len(name) == len(f.from) {
		return true
	}
	for _, e := range f.except {
		if name.Under(e) {
			return false
		}
	}
	return true
}

// Probe lets the loop directive's queries through, alone or not.
func (f *Forward) Probe(name wire.Name, suspend bool) {
	if name == nil {
		f.probing.Store(nil)
		return
	}
	f.probing.Store(&probing{name, suspend})
}
