// Package transfer gives whole zones away, and tells their secondaries when they have changed.
//
//	transfer [ZONE...] {
//	    to ADDRESS...
//	    source IP
//	}
//
// RFC 5936 (AXFR), RFC 1995 (IXFR, answered with the whole zone or the SOA alone), RFC 1996 (NOTIFY).
package transfer

import (
	"errors"
	"iter"
	"log/slog"
	"net/netip"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
	"github.com/godwit-dns/godwit/zone"
)

// Transfer is the handler.
type Transfer struct {
	log     *slog.Logger
	zones   zone.Index[*policy]
	sources []chain.Transferer // the block's handlers that have zones, in the chain's order
	running chan struct{}      // one for each transfer on its way
}

// maxRunning bounds the transfers on their way at once: each holds some 200 KB while its client reads.
const maxRunning = 64

var errBusy = errors.New("too many transfers at once")

var (
	_ chain.Handler  = (*Transfer)(nil)
	_ chain.Notifier = (*Transfer)(nil)
)

// policy is one line: who gets the zones.
type policy struct {
	any    bool         // to *
	from   []netip.Addr // who may ask
	notify []string     // host:port of who is told
	source netip.Addr   // address to tell from; the zero Addr leaves it to the kernel
}

func (p *policy) allows(client netip.Addr) bool {
	if p.any {
		return true
	}
	client = client.Unmap().WithZone("")
	for _, a := range p.from {
		if a == client {
			return true
		}
	}
	return false
}

// Serve answers AXFR and IXFR.
func (t *Transfer) Serve(q *chain.Query) chain.Outcome {
	if q.Type != wire.TypeAXFR && q.Type != wire.TypeIXFR {
		return chain.Next
	}
	if q.Proto.String() != "tcp" {
		return q.Fail(wire.Refused, nil)
	}
	_, p, ok := t.zones.Find(q.Name())
	if !ok {
		return chain.Next
	}
	if !p.allows(q.Client.Addr()) {
		q.Reply.Begin(&q.Request, wire.Refused, 0)
		return chain.Answered
	}
	if q.Type == wire.TypeIXFR && !q.Known.Present { // RFC 1995, 3: it has to say what its sender has
		return q.Fail(wire.ServFail, nil)
	}
	for _, s := range t.sources {
		records, err := s.Transfer(q.Name(), q.Known.Serial)
		if errors.Is(err, chain.ErrNotAuthoritative) {
			continue
		}
		if err != nil {
			return q.Fail(wire.ServFail, err)
		}
		return t.give(q, records)
	}
	return chain.Next
}

// give answers with the SOA when the client has what there is, else with the zone.
func (t *Transfer) give(q *chain.Query, records iter.Seq[chain.RR]) chain.Outcome {
	if q.Known.Present && upToDate(records) {
		q.Reply.Begin(&q.Request, wire.NoError, 0)
		for r := range records {
			q.Reply.Append(wire.Answer, r.Owner, r.Type, r.Class, r.TTL, r.Data)
		}
		return chain.Answered
	}
	if !q.CanStream() {
		return q.Fail(wire.Refused, nil)
	}
	select {
	case t.running <- struct{}{}:
	default:
		return q.Fail(wire.ServFail, errBusy)
	}
	s := &sender{log: t.log, records: records, client: q.Client.String()}
	s.request.CopyFrom(&q.Request)
	return q.Stream(func(w chain.MessageWriter) error {
		defer func() { <-t.running }()
		return s.send(w)
	})
}

// upToDate reports whether there is one record only, the SOA.
func upToDate(records iter.Seq[chain.RR]) bool {
	n := 0
	for range records {
		if n++; n > 1 {
			return false
		}
	}
	return n == 1
}

// perMessage is how many octets of records, before compression, a message of a transfer takes.
const perMessage = 63000

// sender is one transfer on its way.
type sender struct {
	log     *slog.Logger
	request wire.Request
	client  string
	records iter.Seq[chain.RR]

	reply  wire.Reply
	fitter wire.Fitter
	out    []byte
}

// send writes the zone as messages of up to perMessage octets (RFC 5936, 2.2).
func (s *sender) send(w chain.MessageWriter) error {
	s.reply.Attach(make([]byte, 0, wire.MaxMessage))
	s.reply.Begin(&s.request, wire.NoError, wire.FlagAA)
	empty := s.reply.PlainLen()
	count := 0
	for r := range s.records {
		size := len(r.Owner) + 10 + len(r.Data)
		if s.reply.PlainLen() > empty && s.reply.PlainLen()-empty+size > perMessage {
			if err := s.flush(w); err != nil {
				return err
			}
		}
		s.reply.Append(wire.Answer, r.Owner, r.Type, r.Class, r.TTL, r.Data)
		count++
	}
	if err := s.flush(w); err != nil {
		return err
	}
	s.log.Info("plugin/transfer: outgoing transfer", "zone", s.request.Name().String(), "client", s.client, "records", count)
	return nil
}

func (s *sender) flush(w chain.MessageWriter) error {
	s.out = s.fitter.Append(s.out[:0], &s.reply, &s.request, wire.MaxMessage, 0)
	s.reply.Begin(&s.request, wire.NoError, wire.FlagAA)
	return w.WriteMessage(s.out)
}
