package kubernetes

import (
	"bytes"
	"math"
	"net/netip"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/cluster"
	"github.com/godwit-dns/godwit/wire"
)

// source is what an answer was made from. A Service's record is never changed, only replaced.
type source struct {
	exists  bool
	service *cluster.Service
	pods    int
	pod     netip.Addr
	serial  uint32 // of the SOA, if there is one
}

// Repeat lets answers be given again while a lookup of their name finds the same.
func (k *Kubernetes) Repeat(q *chain.Query, r *chain.Repeat) bool {
	z := k.zoneOf(q.Name())
	if z == nil {
		return true
	}
	// Left out are names of this server and of the specification's version, which are made otherwise and seldom asked for,
	// and what is missing only because not all has been read.
	if isNS(q.Name(), z) || q.Type == wire.TypeNS || q.Type == wire.TypeTXT || q.Reply.Rcode == wire.ServFail {
		return false
	}
	l := lookup{k: k, s: k.scratchOf(q), z: z, typ: q.Type, name: bytes.Clone(q.Name())}
	if q.Type == wire.TypePTR {
		l.addr, _ = reverseAddr(q.Name())
	}
	l.dated = r.Answered && (q.Type == wire.TypeSOA || q.Reply.Count(wire.Answer) == 0)
	was, names := l.left(), ""
	if l.addr.IsValid() {
		names = string(l.s.buf) // those of endpoints
	}
	if !r.Answered && (was != source{} || names != "") {
		return false
	}
	if was.service != nil && was.service.Kind == cluster.ExternalName && q.Type != wire.TypeCNAME {
		return false // others may have had a part in it
	}
	if r.Answered && was.service != nil && (q.Type == wire.TypeA || q.Type == wire.TypeAAAA) {
		r.Lasting = l.s.found.set.Own(q.Type == wire.TypeAAAA) != nil
	}
	r.Guards = append(r.Guards, chain.Guard{Version: k.cluster.Version(), Check: func(time.Duration) (int, time.Duration, bool) {
		l.find()
		return -1, math.MaxInt64, l.left() == was && (!l.addr.IsValid() || string(l.s.buf) == names)
	}})
	return true
}

// lookup is a query's part that does not depend on the client.
type lookup struct {
	k     *Kubernetes
	s     *scratch // of the query's loop
	z     *zone
	typ   wire.Type
	name  wire.Name
	addr  netip.Addr // that a PTR's name stands for
	dated bool       // the answer has an SOA
}

// find looks again.
func (l *lookup) find() {
	switch {
	case l.addr.IsValid():
		l.k.findAddr(l.s, l.addr)
	case l.typ != wire.TypeSOA:
		l.k.find(&l.s.found, l.name, l.z)
	}
	if l.dated {
		l.s.serial = l.k.serial(l.z)
	}
}

// left is what the last lookup left in the scratch.
func (l *lookup) left() (was source) {
	f := &l.s.found
	switch {
	case l.addr.IsValid():
		was = source{service: f.service}
	case l.typ != wire.TypeSOA:
		was = source{exists: f.exists, service: f.service, pods: f.pods, pod: f.pod}
	}
	if was.pods == 0 {
		was.pod = netip.Addr{}
	}
	if l.dated {
		was.serial = l.s.serial
	}
	return was
}
