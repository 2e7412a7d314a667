package kubernetes

import (
	"encoding/binary"
	"iter"
	"net/netip"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/cluster"
	"github.com/godwit-dns/godwit/wire"
)

// Transfer gives a zone away (RFC 5936): SOA, name servers, Services sorted by name, SOA. Endpoints of Services with an
// address of their own, pods and zonal names are left out, as in CoreDNS.
func (k *Kubernetes) Transfer(name wire.Name, serial uint32) (iter.Seq[chain.RR], error) {
	var z *zone
	for i := range k.zones {
		if wire.Equal(k.zones[i].name, name) {
			z = &k.zones[i]
		}
	}
	if z == nil {
		return nil, chain.ErrNotAuthoritative
	}
	soa := append([]byte(nil), z.soa...)
	completeSOA(soa, z, name, k.serial(z))
	first := chain.RR{
		Owner: append(wire.Name(nil), name...), Type: wire.TypeSOA, Class: wire.ClassIN, TTL: min(k.cfg.TTL, maxSOATTL), Data: soa,
	}
	if serial != 0 && serial == k.serial(z) {
		return func(yield func(chain.RR) bool) { yield(first) }, nil
	}
	return func(yield func(chain.RR) bool) {
		t := transfer{k: k, zone: first.Owner, yield: yield}
		if yield(first) && t.servers() && t.services(k.cluster.All(z.imported)) {
			yield(first)
		}
	}, nil
}

// transfer is one run of a zone's records. Its methods report whether more are wanted.
type transfer struct {
	k     *Kubernetes
	zone  wire.Name
	yield func(chain.RR) bool
	owner []byte
	data  []byte
}

func (t *transfer) record(owner wire.Name, typ wire.Type, ttl uint32, data []byte) bool {
	if len(owner) > wire.MaxName {
		return true
	}
	return t.yield(chain.RR{Owner: owner, Type: typ, Class: wire.ClassIN, TTL: ttl, Data: data})
}

func (t *transfer) address(owner wire.Name, ttl uint32, a netip.Addr) bool {
	t.data = appendAddr(t.data[:0], a)
	return t.record(owner, addrType(a), ttl, t.data)
}

func (t *transfer) srv(owner wire.Name, weight, port uint16, target wire.Name) bool {
	t.data = binary.BigEndian.AppendUint16(t.data[:0], 0)
	t.data = binary.BigEndian.AppendUint16(t.data, weight)
	t.data = binary.BigEndian.AppendUint16(t.data, port)
	t.data = append(t.data, target...)
	return len(target) > wire.MaxName || t.record(owner, wire.TypeSRV, t.k.cfg.TTL, t.data)
}

// servers gives the NS records, then their addresses, whose TTL is 0 in a transfer.
func (t *transfer) servers() bool {
	list := t.k.servers(t.zone)
	for i, s := range list {
		if !named(list[:i], s.name) && !t.record(t.zone, wire.TypeNS, t.k.cfg.TTL, s.name) {
			return false
		}
	}
	for _, s := range list {
		if !t.address(s.name, 0, s.addr) {
			return false
		}
	}
	return true
}

func (t *transfer) services(list []*cluster.Service) bool {
	for _, r := range list {
		if !t.k.NamespaceExposed([]byte(r.Namespace)) {
			continue
		}
		base := append(append(wire.Name(nil), r.Base()...), t.zone...)
		more := true
		switch {
		case r.Kind == cluster.ExternalName:
			more = r.Target == nil || t.record(base, wire.TypeCNAME, t.k.cfg.TTL, r.Target)
		case r.Kind == cluster.ClusterIP && len(r.ClusterIPs()) > 0:
			more = t.own(r, base)
		default:
			more = t.endpoints(r, base)
		}
		if !more {
			return false
		}
	}
	return true
}

// own gives the records of a Service with addresses of its own.
func (t *transfer) own(r *cluster.Service, base wire.Name) bool {
	for _, a := range r.ClusterIPs() {
		if !t.address(base, t.k.cfg.TTL, a) {
			return false
		}
	}
	more := true
	r.Ports(func(number int32, protocol, name string) {
		if !more || number < 0 {
			return
		}
		more = t.srv(base, 100, uint16(number), base)
		if more && name != "" {
			more = t.srv(t.portName(protocol, name, base), 100, uint16(number), base)
		}
	})
	return more
}

// endpoints gives the records of a Service that is known by its endpoints. Their weights share among the addresses of
// one slice.
func (t *transfer) endpoints(r *cluster.Service, base wire.Name) bool {
	for _, sl := range t.k.cluster.Slices(r) {
		w := cluster.Weight(sl.Len())
		for i := range sl.Len() {
			host := append(sl.AppendLabels(nil, i), base...)
			if !t.address(base, t.k.cfg.TTL, sl.Addr(i)) || !t.address(host, t.k.cfg.TTL, sl.Addr(i)) {
				return false
			}
			more := true
			sl.Ports(func(number int32, protocol, name string) {
				if more && name != "" && number >= 0 {
					more = t.srv(t.portName(protocol, name, base), w, uint16(number), host)
				}
			})
			if !more {
				return false
			}
		}
	}
	return true
}

// portName is the owner of a named port's SRV record: _PORT._PROTOCOL in front of the Service.
func (t *transfer) portName(protocol, name string, base wire.Name) wire.Name {
	t.owner = append(append(t.owner[:0], byte(len(name)+1), '_'), name...)
	t.owner = append(append(t.owner, byte(len(protocol)+1), '_'), protocol...)
	t.owner = append(t.owner, base...)
	return t.owner
}
