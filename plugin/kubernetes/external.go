package kubernetes

import (
	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/cluster"
	"github.com/godwit-dns/godwit/wire"
)

// maxAliases is how many ExternalNames may follow one another.
const maxAliases = 11

// outside is a query that waits for the addresses of a name outside the zone.
type outside struct {
	zone    *zone
	targets [maxAliases]wire.Name // of the aliases up to there, from the Services' records
	n       int
}

// serveExternal answers A and AAAA of an ExternalName: aliases within the zone are followed here, a name outside is asked
// for through the whole server. An alias that leads to no address within the zone is no record.
func (k *Kubernetes) serveExternal(q *chain.Query, z *zone, f *found) chain.Outcome {
	o := k.outside.Of(q)
	*o = outside{zone: z}
	at := q.Name()
	for {
		target := wire.Name(f.service.Target)
		if target.Under(at) || o.n == maxAliases || o.has(target) {
			return k.nothing(q, z)
		}
		o.targets[o.n] = target
		o.n++
		if !target.Under(z.name) {
			return q.Ask(target, q.Type)
		}
		if isNS(target, z) {
			return k.alias(q, z, o, k.nsData(q, z))
		}
		if k.find(f, target, z); !f.exists {
			return k.nothing(q, z)
		}
		if f.service == nil || f.service.Kind != cluster.ExternalName {
			data, _ := k.addresses(q, k.scratchOf(q))
			return k.alias(q, z, o, data)
		}
		at = target
	}
}

func (o *outside) has(target wire.Name) bool {
	for _, t := range o.targets[:o.n] {
		if wire.Equal(t, target) {
			return true
		}
	}
	return false
}

// alias answers with the aliases and the addresses that they lead to.
func (k *Kubernetes) alias(q *chain.Query, z *zone, o *outside, data []byte) chain.Outcome {
	if len(data) == 0 {
		return k.nothing(q, z)
	}
	k.begin(q)
	owner := k.appendAliases(q, o)
	size := 4
	if q.Type == wire.TypeAAAA {
		size = 16
	}
	for ; len(data) >= size; data = data[size:] {
		q.Reply.Append(wire.Answer, owner, q.Type, wire.ClassIN, k.cfg.TTL, data[:size])
	}
	return chain.Answered
}

// appendAliases appends the CNAME records and gives the name they lead to.
func (k *Kubernetes) appendAliases(q *chain.Query, o *outside) wire.Name {
	owner := q.Name()
	for _, t := range o.targets[:o.n] {
		q.Reply.AppendName(wire.Answer, owner, wire.TypeCNAME, k.cfg.TTL, t)
		owner = t
	}
	return owner
}

// Resume takes the reply for a name outside the zone. A name that does not exist, and one that could not be looked up,
// leave the alias alone.
func (k *Kubernetes) Resume(q *chain.Query, ev chain.Event) chain.Outcome {
	o := k.outside.Of(q)
	if ev.Kind != chain.EventChild || ev.Outcome == chain.Dropped {
		return k.nothing(q, o.zone)
	}
	k.begin(q)
	k.appendAliases(q, o)
	if ev.Outcome != chain.Answered || ev.Child == nil {
		return chain.Answered
	}
	if ev.Child.Reply.Flags()&wire.FlagTC != 0 {
		q.Reply.SetFlags(wire.FlagTC, 0)
	}
	var c wire.Cursor
	var r wire.Record
	if c.Open(ev.Child.Reply.Bytes()) != nil {
		return chain.Answered
	}
	s := k.scratchOf(q)
	for {
		section, ok, err := c.Next(&r)
		if err != nil || !ok || section != wire.Answer {
			return chain.Answered
		}
		data, err := r.Data(s.buf[:0])
		if err != nil {
			return chain.Answered
		}
		s.buf = data
		q.Reply.Append(wire.Answer, r.Owner(), r.Type, r.Class, r.TTL, data)
	}
}
