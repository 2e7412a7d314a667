// Package dns64 makes AAAA records from A records, for clients behind a NAT64.
//
//	dns64 [PREFIX] {
//	    prefix PREFIX
//	    translate_all
//	    allow_ipv4
//	}
//
// RFC 6147 has the mechanism, RFC 6052 the addresses.
package dns64

import (
	"errors"
	"net"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

// DNS64 is the handler. Its options stay as they are once it serves.
type DNS64 struct {
	settings
	wall       func() time.Time
	translated counters
}

// settings are what the lines say.
type settings struct {
	prefix net.IPNet // of IPv6, 32 to 96 bits, whole octets
	all    bool      // translate also where there are AAAA records
	ipv4   bool      // translate also for clients that ask over IPv4
}

var (
	_ chain.Handler = (*DNS64)(nil)
	_ chain.Replier = (*DNS64)(nil)
	_ chain.Resumer = (*DNS64)(nil)
)

// errNoReply is the failure of a query whose second question was dropped.
var errNoReply = errors.New("dns64: no reply to the question for A records")

// unknownSOA bounds the TTL of what is made, in seconds, where the reply to AAAA has no SOA (RFC 6147, 5.1.7).
const unknownSOA = 600

// Serve lets every query pass.
func (*DNS64) Serve(*chain.Query) chain.Outcome { return chain.Next }

// Reply looks for AAAA records in the reply and asks for A records where there are none. A failure has no reply to look
// at and stays what it is.
func (d *DNS64) Reply(q *chain.Query, below chain.Outcome) chain.Outcome {
	if below != chain.Answered || !d.concerns(q) || !d.lacking(&q.Reply) {
		return below
	}
	if q.Renamed() { // what rewrite changed below is changed again for the other type
		q.ChangeQuestion(q.OriginalName(), wire.TypeAAAA)
	}
	return q.Ask(q.Name(), wire.TypeA)
}

// concerns reports whether the client's question may be translated (RFC 6147, 5.1). No directive above changes questions.
func (d *DNS64) concerns(q *chain.Query) bool {
	typ, class := q.Original()
	return typ == wire.TypeAAAA && class == wire.ClassIN && (d.ipv4 || !q.Client.Addr().Unmap().Is4())
}

// lacking reports whether a reply leaves room for records from A. A name that does not exist has no A records either
// (RFC 6147, 5.1.2); every other code is as good as an empty answer.
func (d *DNS64) lacking(r *wire.Reply) bool {
	unix := uint32(0)
	if r.OwnOPT && r.OwnFlags&0x8000 != 0 { // signatures matter to validators only
		unix = uint32(d.wall().Unix())
	}
	return r.Kind(unix) != wire.KindNXDomain && (d.all || !r.Has(wire.Answer, wire.TypeAAAA))
}

// Resume makes the reply of what the server answers for A.
func (d *DNS64) Resume(q *chain.Query, ev chain.Event) chain.Outcome {
	if ev.Child == nil || ev.Outcome != chain.Answered && ev.Outcome != chain.Failed {
		return q.Fail(wire.ServFail, errNoReply)
	}
	limit := denialTTL(&q.Reply)
	q.Err = nil
	q.Reply.Begin(&q.Request, wire.NoError, 0)
	d.translated.inc(q)
	if ev.Outcome == chain.Failed { // as CoreDNS: its code is lost
		return chain.Answered
	}
	from := &ev.Child.Reply
	q.Reply.SetFlags(from.Flags()&wire.FlagTC, 0)
	q.Reply.OwnOPT, q.Reply.OwnFlags = from.OwnOPT, from.OwnFlags
	q.Reply.Options = append(q.Reply.Options, from.Options...)
	err := wire.Transcribe(&q.Reply, from.Bytes(), func(s wire.Section, r *wire.Record) wire.Action {
		return d.translate(s, r, limit)
	})
	if err != nil {
		return q.Fail(wire.ServFail, err)
	}
	return chain.Answered
}

// denialTTL is how long the want of AAAA records holds, in seconds.
func denialTTL(r *wire.Reply) uint32 {
	ttl := uint32(unknownSOA)
	var c wire.Cursor
	if c.Open(r.Bytes()) != nil {
		return ttl
	}
	var rec wire.Record
	for {
		section, ok, err := c.Next(&rec)
		if err != nil || !ok || section > wire.Authority {
			return ttl
		}
		if section == wire.Authority && rec.Type == wire.TypeSOA {
			ttl = rec.TTL
		}
	}
}

// translate turns the answer's A records into AAAA records and leaves all others alone (RFC 6147, 5.3).
func (d *DNS64) translate(s wire.Section, r *wire.Record, limit uint32) wire.Action {
	if s != wire.Answer || r.Type != wire.TypeA {
		return wire.Keep
	}
	if len(r.RawData()) != 4 { // a record without an address
		return wire.Drop
	}
	address := d.embed([4]byte(r.RawData()))
	r.Type, r.TTL = wire.TypeAAAA, min(r.TTL, limit)
	r.SetData(address[:])
	return wire.Keep
}

// embed puts an IPv4 address behind the prefix. Octet 8 is left out and stays zero (RFC 6052, 2.2) unless it is the
// prefix's own.
func (d *DNS64) embed(v4 [4]byte) (v6 [16]byte) {
	bits, _ := d.prefix.Mask.Size()
	at := copy(v6[:], d.prefix.IP[:bits/8])
	for _, octet := range v4 {
		if at == 8 {
			at++
		}
		v6[at] = octet
		at++
	}
	return v6
}

// counters are the metric by listener, which is known when queries come: each loop keeps those that it has met.
type counters struct {
	env   *chain.Env
	loops []map[string]*metrics.Counter
}

func newCounters(env *chain.Env) counters {
	c := counters{env: env, loops: make([]map[string]*metrics.Counter, env.Loops)}
	for i := range c.loops {
		c.loops[i] = map[string]*metrics.Counter{}
	}
	return c
}

func (c *counters) inc(q *chain.Query) {
	server, mine := q.Router().Server(), c.loops[q.Shard()]
	if mine[server] == nil {
		mine[server] = c.env.Metrics.Counter("coredns_dns64_requests_translated_total",
			"Counter of DNS requests translated by dns64.", metrics.L("server", server)...)
	}
	mine[server].Inc(q.Shard())
}
