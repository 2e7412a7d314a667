// Package file serves zones from master files.
//
//	file DBFILE [ZONES...] {
//	    reload DURATION
//	    reload_by_mtime
//	    fallthrough [ZONES...]
//	}
//
// RFC 1034, RFC 1035, RFC 4592 (wildcards), RFC 6672 (DNAME), RFC 4035 (serving signed zones).
package file

import (
	"iter"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
	"github.com/godwit-dns/godwit/zone"
)

// File is the handler: it answers for the zones of all its lines.
type File struct {
	zones zone.Index[*served]
	fall  zone.List
	state *chain.Slot[state]
	last  chain.Last[zone.Zone]
}

var (
	_ chain.Handler    = (*File)(nil)
	_ chain.Repeater   = (*File)(nil)
	_ chain.Resumer    = (*File)(nil)
	_ chain.Transferer = (*File)(nil)
)

// served is one zone: the data that answers now, nil while it could not be loaded yet.
type served struct {
	origin wire.Name
	data   chain.Published[zone.Zone]
}

// state is what a query remembers: the data that its answer began with, and the wildcard it was made from.
type state struct {
	zone     *zone.Zone
	wildcard wire.Name
}

// Serve answers queries in its zones.
func (f *File) Serve(q *chain.Query) chain.Outcome {
	_, s, ok := f.zones.Find(q.Name())
	if !ok {
		if q.Last() { // an authoritative server without the zone
			return q.Fail(wire.Refused, nil)
		}
		return chain.Next
	}
	if q.Type == wire.TypeAXFR || q.Type == wire.TypeIXFR { // the transfer directive would have answered
		return q.Fail(wire.Refused, nil)
	}
	if q.Opcode() == wire.OpNotify { // only a secondary has a use for it
		return chain.Dropped
	}
	z := f.last.Load(q, &s.data)
	if z == nil {
		return q.Fail(wire.ServFail, nil)
	}
	a := f.begin(q, z)
	if a.Result != zone.External {
		return f.end(q, a.Result)
	}
	f.state.Of(q).zone = z
	if out := q.Ask(a.Target, q.Type); out == chain.Parked {
		return out
	}
	f.begin(q, z) // too deep a chain of aliases: what is known of it, with SERVFAIL
	return f.finish(q, z, zone.Failure)
}

// begin starts the reply with what the zone has.
func (f *File) begin(q *chain.Query, z *zone.Zone) zone.Answer {
	q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA)
	a := z.Lookup(zone.Question{Name: q.Name(), Type: q.Type, DO: q.DO()}, &q.Reply)
	if a.Wildcard != nil {
		f.state.Of(q).wildcard = a.Wildcard
	}
	return a
}

// end gives the reply its code and flags.
func (f *File) end(q *chain.Query, result zone.Result) chain.Outcome {
	answers := q.Reply.Count(wire.Answer)
	if answers == 0 && (result == zone.NameError || result == zone.Success) && f.fall.Has(q.Name()) {
		q.Reply.Reset()
		return chain.Next
	}
	switch result {
	case zone.NameError:
		q.Reply.SetRcode(wire.NXDomain)
	case zone.TooLong:
		q.Reply.SetRcode(wire.YXDomain)
	case zone.Delegation:
		if answers == 0 { // an alias of our own before the referral keeps AA
			q.Reply.SetFlags(0, wire.FlagAA)
		}
	case zone.Failure:
		if answers == 0 {
			return q.Fail(wire.ServFail, nil)
		}
		q.Reply.SetRcode(wire.ServFail) // RFC 6604, 3: the code of the last target
	}
	return chain.Answered
}

// finish ends a reply whose last alias was asked for.
func (f *File) finish(q *chain.Query, z *zone.Zone, result zone.Result) chain.Outcome {
	z.Finish(zone.Question{Name: q.Name(), Type: q.Type, DO: q.DO()}, &q.Reply, result)
	return f.end(q, result)
}

// Resume takes what the server itself answered for the target of an alias.
func (f *File) Resume(q *chain.Query, ev chain.Event) chain.Outcome {
	result := zone.Success
	if ev.Outcome == chain.Answered {
		err := wire.Transcribe(&q.Reply, ev.Child.Reply.Bytes(), func(s wire.Section, _ *wire.Record) wire.Action {
			if s == wire.Answer {
				return wire.Keep
			}
			return wire.Drop
		})
		if err != nil {
			return f.finish(q, f.state.Of(q).zone, zone.Failure)
		}
	}
	if ev.Outcome == chain.Answered || ev.Outcome == chain.Failed {
		switch rcode := ev.Child.ResponseCode(ev.Outcome); {
		case rcode == wire.NXDomain:
			result = zone.NameError
		case rcode == wire.ServFail:
			result = zone.Failure
		case rcode == wire.NoError && ev.Child.Reply.Count(wire.Answer) == 0:
			result = zone.NoData
		}
	}
	return f.finish(q, f.state.Of(q).zone, result)
}

// Repeat lets answers be given again while the zone's data is the same.
func (f *File) Repeat(q *chain.Query, r *chain.Repeat) bool {
	if _, s, ok := f.zones.Find(q.Name()); ok {
		r.Guards = append(r.Guards, f.last.Guard(q, &s.data))
	}
	return true
}

// wildcard is the metadata zone/wildcard: the wildcard that this directive made the answer from.
func (f *File) wildcard(q *chain.Query) string {
	if q.By() != name { // the state may be an earlier query's
		return ""
	}
	if w := f.state.Of(q).wildcard; w != nil {
		return w.String()
	}
	return ""
}

// Transfer gives a whole zone, or its SOA alone for the serial that it has.
func (f *File) Transfer(name wire.Name, serial uint32) (iter.Seq[chain.RR], error) {
	s, ok := f.zones.Get(name)
	if !ok {
		return nil, chain.ErrNotAuthoritative
	}
	z := s.data.Load()
	if z == nil {
		return nil, errNoData
	}
	if serial != 0 && serial == z.Serial() {
		return func(yield func(chain.RR) bool) { yield(chain.RR(z.SOA())) }, nil
	}
	return func(yield func(chain.RR) bool) {
		for r := range z.Records() {
			if !yield(chain.RR(r)) {
				return
			}
		}
	}, nil
}
