// Package kubernetes answers the names of a cluster's Services and pods.
//
//	kubernetes [ZONES...] {
//	    namespaces NAMESPACE...
//	    pods disabled|insecure|verified
//	    fallthrough [ZONES...]
//	    ...
//	}
//
// Kubernetes DNS specification 1.1.0; RFC 1035, 2308, 2782, 3596. The README has all options.
//
// A query for a name goes through these steps:
//
//  1. the longest zone of the directive that the name is in, else Next;
//  2. the labels in front of it say what is meant (parse.go);
//  3. the cluster's records are looked up (find.go);
//  4. the reply is written from them (answer.go, reverse.go, ns.go).
package kubernetes

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/cluster"
	"github.com/godwit-dns/godwit/wire"
)

// Pod modes: how names of pods, which are addresses, are answered.
const (
	podsDisabled = "disabled" // not at all
	podsInsecure = "insecure" // by the address in the name
	podsVerified = "verified" // the same if such a pod exists
)

// version is the version of the DNS specification that dns-version answers, and versionTTL the seconds it may be kept.
const (
	version    = "1.1.0"
	versionTTL = 28800
)

// maxSOATTL is the longest time in seconds that the SOA record itself may be kept.
const maxSOATTL = 300

// Config is the directive's options.
type Config struct {
	Zones        []string      // with a dot at the end, lower case; the block's when the line names none
	Multicluster []string      // those of them that are for ServiceImports
	Namespaces   []string      // the namespaces shown; empty for all
	Pods         string        // a pod mode; disabled
	TTL          uint32        // of all records, in seconds; 5
	Fallthrough  []string      // zones whose missing names go to the next directive; nil for none
	IgnoreEmpty  bool          // Services with addresses of their own but no ready endpoint do not exist
	Zonal        bool          // names of Headless Services in one topology zone
	StartTimeout time.Duration // how long to wait for the cluster before serving; 5 s
	Cluster      cluster.Config
}

// zone is one of the directive's zones.
type zone struct {
	name     wire.Name
	imported bool      // for ServiceImports
	reverse  bool      // names in it may be those of addresses
	ns       wire.Name // ns.dns in front of it; nil for the root
	soa      []byte    // the data of its SOA but for the serial
}

// Kubernetes is the directive's handler.
type Kubernetes struct {
	cfg     Config
	zones   []zone
	primary wire.Name // the first zone that is not a reverse one: where PTR records point
	fall    []wire.Name
	cluster *cluster.Cluster
	local   func() []netip.Addr // addresses this server answers at
	scratch []scratch           // one for each loop
	outside *chain.Slot[outside]
}

// scratch is what a loop's queries use one after the other; Repeat sees what the last one left.
type scratch struct {
	found  found
	buf    []byte
	serial uint32 // of the last SOA
	_      [64]byte
}

var (
	_ chain.Handler    = (*Kubernetes)(nil)
	_ chain.Resumer    = (*Kubernetes)(nil)
	_ chain.Repeater   = (*Kubernetes)(nil)
	_ chain.Transferer = (*Kubernetes)(nil)
)

// Cluster is where the records come from, for directives that read them too.
func (k *Kubernetes) Cluster() *cluster.Cluster { return k.cluster }

// TTL is the TTL of the directive's records in seconds.
func (k *Kubernetes) TTL() uint32 { return k.cfg.TTL }

// zoneOf gives the longest zone that a name is in, nil for none.
func (k *Kubernetes) zoneOf(name wire.Name) *zone {
	var best *zone
	for i := range k.zones {
		z := &k.zones[i]
		if (best == nil || len(z.name) > len(best.name)) && name.Under(z.name) {
			best = z
		}
	}
	return best
}

// NamespaceExposed reports whether a namespace exists and is shown.
func (k *Kubernetes) NamespaceExposed(namespace []byte) bool {
	return k.configured(namespace) && k.cluster.Namespace(namespace)
}

func (k *Kubernetes) configured(namespace []byte) bool {
	if len(k.cfg.Namespaces) == 0 {
		return true
	}
	for _, n := range k.cfg.Namespaces {
		if n == string(namespace) {
			return true
		}
	}
	return false
}

// Serve answers a query for a name in one of the zones.
func (k *Kubernetes) Serve(q *chain.Query) chain.Outcome {
	z := k.zoneOf(q.Name())
	if z == nil {
		return chain.Next
	}
	switch q.Type {
	case wire.TypeA, wire.TypeAAAA:
		return k.serveAddress(q, z)
	case wire.TypeSRV:
		return k.serveSRV(q, z)
	case wire.TypePTR:
		return k.servePTR(q, z)
	case wire.TypeTXT:
		return k.serveTXT(q, z)
	case wire.TypeCNAME:
		return k.serveCNAME(q, z)
	case wire.TypeSOA:
		// Below the apex there is no SOA, whether the name exists or not.
		k.begin(q)
		if len(q.Name()) == len(z.name) {
			k.appendSOA(q, z, wire.Answer)
			return chain.Answered
		}
		return k.end(q, z)
	case wire.TypeNS:
		if len(q.Name()) == len(z.name) {
			return k.serveNS(q, z)
		}
	case wire.TypeAXFR, wire.TypeIXFR:
		return q.Fail(wire.Refused, nil) // what the transfer directive did not take
	}
	return k.serveOther(q, z)
}

// spelled gives the zone as the client wrote it, so that names in the reply end in the same spelling. It refers to q.
func spelled(q *chain.Query, z *zone) wire.Name {
	name := q.Name()
	if wire.Equal(name, q.OriginalName()) {
		name = q.OriginalName()
	}
	return name[len(name)-len(z.name):]
}

// begin begins a reply with authority.
func (k *Kubernetes) begin(q *chain.Query) {
	q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA)
	q.Current = true // the watch is newer than any cache
}

// end ends a reply that was begun: one without records says so with the SOA (RFC 2308, 2.2).
func (k *Kubernetes) end(q *chain.Query, z *zone) chain.Outcome {
	if q.Reply.Count(wire.Answer) == 0 {
		k.appendSOA(q, z, wire.Authority)
	}
	return chain.Answered
}

// nothing is the reply for a name that exists without records of the type.
func (k *Kubernetes) nothing(q *chain.Query, z *zone) chain.Outcome {
	k.begin(q)
	return k.end(q, z)
}

// missing is the reply for a name that does not exist. Until everything has been read it may exist after all.
func (k *Kubernetes) missing(q *chain.Query, z *zone) chain.Outcome {
	for _, f := range k.fall {
		if q.Name().Under(f) {
			return chain.Next
		}
	}
	rcode := wire.NXDomain
	if !k.cluster.Synced() {
		rcode = wire.ServFail
	}
	q.Reply.Begin(&q.Request, rcode, wire.FlagAA)
	q.Current = true
	k.appendSOA(q, z, wire.Authority)
	return chain.Answered
}

var (
	labelsNS         = []byte("\x02ns\x03dns")
	labelsHostmaster = []byte("\x0ahostmaster")
)

// prepareSOA makes the data that all SOA records of a zone share.
func (k *Kubernetes) prepareSOA(z *zone) {
	soa := wire.SOA{Refresh: 7200, Retry: 1800, Expire: 86400, Minimum: k.cfg.TTL}
	soa.MName = append(append(wire.Name(nil), labelsNS...), z.name...)
	soa.RName = append(append(wire.Name(nil), labelsHostmaster...), z.name...)
	z.soa = soa.AppendData(nil)
}

// appendSOA appends the zone's SOA in the question's spelling.
func (k *Kubernetes) appendSOA(q *chain.Query, z *zone, s wire.Section) {
	name := spelled(q, z)
	q.Reply.Append(s, name, wire.TypeSOA, wire.ClassIN, min(k.cfg.TTL, maxSOATTL), z.soa)
	b, serial := q.Reply.Bytes(), k.serial(z)
	k.scratchOf(q).serial = serial
	completeSOA(b[len(b)-len(z.soa):], z, name, serial)
}

// completeSOA writes what of a copy of z.soa is not always the same: the serial, which is the time of the last change,
// and the zone's name in another spelling.
func completeSOA(data []byte, z *zone, name wire.Name, serial uint32) {
	numbers := len(data) - 20 // serial, refresh, retry, expire, minimum
	binary.BigEndian.PutUint32(data[numbers:], serial)
	if string(name) != string(z.name) {
		copy(data[len(labelsNS):], name)
		copy(data[numbers-len(name):], name)
	}
}

// serial is that of a zone's SOA.
func (k *Kubernetes) serial(z *zone) uint32 {
	if z.imported {
		return k.cluster.ImportSerial()
	}
	return k.cluster.Serial()
}
