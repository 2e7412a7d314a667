package kubernetes

import (
	"net/netip"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/cluster"
	"github.com/godwit-dns/godwit/wire"
)

// scratchOf is the scratch of the query's loop. It is used within one call only.
func (k *Kubernetes) scratchOf(q *chain.Query) *scratch { return &k.scratch[q.Shard()] }

// serveOther tells a name that exists from one that does not, for types that no name has.
func (k *Kubernetes) serveOther(q *chain.Query, z *zone) chain.Outcome {
	if isNS(q.Name(), z) {
		return k.nothing(q, z)
	}
	f := &k.scratchOf(q).found
	if k.find(f, q.Name(), z); !f.exists {
		return k.missing(q, z)
	}
	return k.nothing(q, z)
}

// serveAddress answers A and AAAA.
func (k *Kubernetes) serveAddress(q *chain.Query, z *zone) chain.Outcome {
	if isNS(q.Name(), z) {
		return k.serveNSAddress(q, z)
	}
	s := k.scratchOf(q)
	f := &s.found
	if k.find(f, q.Name(), z); !f.exists {
		return k.missing(q, z)
	}
	if f.service != nil && f.service.Kind == cluster.ExternalName {
		return k.serveExternal(q, z, f)
	}
	k.begin(q)
	k.appendAddresses(q, s)
	return k.end(q, z)
}

// appendAddresses appends the addresses that were found, of the type asked for, under the question's name.
func (k *Kubernetes) appendAddresses(q *chain.Query, s *scratch) {
	data, size := k.addresses(q, s)
	if len(data) > 0 {
		q.Reply.AppendOwnData(wire.Answer, q.Type, k.cfg.TTL, data, size)
	}
}

// addresses gives the data of the records that were found, as many as a message can hold, and the size of each.
func (k *Kubernetes) addresses(q *chain.Query, s *scratch) (data []byte, size int) {
	f := &s.found
	v6 := q.Type == wire.TypeAAAA
	if size = 4; v6 {
		size = 16
	}
	switch {
	case f.service != nil:
		data, s.buf = f.set.Addresses(v6, s.buf)
	case f.pods > 0 && f.pod.Is6() == v6:
		s.buf = appendAddr(s.buf[:0], f.pod)
		data = s.buf
	}
	// A compressed record has 12 octets besides its data. One more than fits is enough to have the reply truncated.
	return data[:min(len(data), (wire.MaxMessage/(12+size)+1)*size)], size
}

func appendAddr(dst []byte, a netip.Addr) []byte {
	if a.Is4() {
		b := a.As4()
		return append(dst, b[:]...)
	}
	b := a.As16()
	return append(dst, b[:]...)
}

// serveSRV answers SRV: a Service's ports, or for a pod one record of port 0 that points to itself.
func (k *Kubernetes) serveSRV(q *chain.Query, z *zone) chain.Outcome {
	if isNS(q.Name(), z) {
		return k.nothing(q, z)
	}
	f := &k.scratchOf(q).found
	if k.find(f, q.Name(), z); !f.exists {
		return k.missing(q, z)
	}
	k.begin(q)
	switch {
	case f.pods > 0:
		k.appendPodSRV(q, z, f)
	case f.service != nil && f.service.Kind != cluster.ExternalName:
		f.set.AppendSRV(&q.Reply, q.Name(), spelled(q, z), k.cfg.TTL)
	}
	return k.end(q, z)
}

var labelPod = []byte("\x03pod")

func (k *Kubernetes) appendPodSRV(q *chain.Query, z *zone, f *found) {
	var buf [wire.MaxName]byte
	target := appendLabel(appendLabel(buf[:0], f.q.service), f.q.namespace)
	target = append(append(target, labelPod...), spelled(q, z)...)
	q.Reply.AppendSRV(wire.Answer, q.Name(), k.cfg.TTL, 0, cluster.Weight(f.pods), 0, target)
	var data [16]byte
	t := wire.TypeA
	if f.pod.Is6() {
		t = wire.TypeAAAA
	}
	q.Reply.Append(wire.Additional, target, t, wire.ClassIN, k.cfg.TTL, appendAddr(data[:0], f.pod))
}

func appendLabel(dst, label []byte) []byte { return append(append(dst, byte(len(label))), label...) }

var labelVersion = []byte("\x0bdns-version")

// serveTXT answers the specification's version. Names that exist without a record of their own (namespaces, svc, the
// zone itself) do not exist for TXT, as in CoreDNS.
func (k *Kubernetes) serveTXT(q *chain.Query, z *zone) chain.Outcome {
	name := q.Name()
	if len(name)-len(z.name) == len(labelVersion) && string(name[:len(labelVersion)]) == string(labelVersion) {
		k.begin(q)
		q.Reply.AppendTXT(wire.Answer, name, wire.ClassIN, versionTTL, version)
		return chain.Answered
	}
	f := &k.scratchOf(q).found
	k.find(f, name, z)
	switch {
	case !f.exists:
		return k.missing(q, z)
	case f.pods > 0, f.service != nil && (f.service.Kind == cluster.ExternalName || !f.set.Empty() || len(f.q.match.Zone) > 0):
		return k.nothing(q, z)
	}
	return k.missing(q, z)
}

// serveCNAME answers with an ExternalName's target, unresolved.
func (k *Kubernetes) serveCNAME(q *chain.Query, z *zone) chain.Outcome {
	if isNS(q.Name(), z) {
		return k.nothing(q, z)
	}
	f := &k.scratchOf(q).found
	if k.find(f, q.Name(), z); !f.exists {
		return k.missing(q, z)
	}
	k.begin(q)
	if f.service != nil && f.service.Kind == cluster.ExternalName {
		q.Reply.AppendName(wire.Answer, q.Name(), wire.TypeCNAME, k.cfg.TTL, f.service.Target)
	}
	return k.end(q, z)
}
