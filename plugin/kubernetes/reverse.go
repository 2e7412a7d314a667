package kubernetes

import (
	"bytes"
	"net/netip"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/cluster"
	"github.com/godwit-dns/godwit/wire"
)

// servePTR answers with the name of the Service that has the address, else with the names of all endpoints that do.
func (k *Kubernetes) servePTR(q *chain.Query, z *zone) chain.Outcome {
	addr, ok := reverseAddr(q.Name())
	s := k.scratchOf(q)
	if !ok {
		if k.find(&s.found, q.Name(), z); !s.found.exists {
			return k.missing(q, z)
		}
		return k.nothing(q, z)
	}
	names := k.findAddr(s, addr)
	if r := s.found.service; r != nil {
		var buf [wire.MaxName]byte
		k.begin(q)
		q.Reply.AppendName(wire.Answer, q.Name(), wire.TypePTR, k.cfg.TTL, append(append(buf[:0], r.Base()...), k.primary...))
		return chain.Answered
	}
	if len(names) == 0 {
		return k.missing(q, z)
	}
	k.begin(q)
	for len(names) > 0 {
		n := nameLen(names)
		q.Reply.AppendName(wire.Answer, q.Name(), wire.TypePTR, k.cfg.TTL, wire.Name(names[:n]))
		names = names[n:]
	}
	return chain.Answered
}

// findAddr looks an address up: found.service is the Service that has it, else the names are those of endpoints.
func (k *Kubernetes) findAddr(s *scratch, addr netip.Addr) (names []byte) {
	s.found.service, s.buf = nil, s.buf[:0]
	for w := k.cluster.ByClusterIP(addr); ; {
		r := w.Next()
		if r == nil {
			return k.endpointNames(s, addr)
		}
		if k.shown(r.Namespace) && len(r.Base())+len(k.primary) <= wire.MaxName {
			s.found.service = r
			return nil
		}
	}
}

// shown reports whether PTR records may point into a namespace. Only a list of namespaces is looked at here: a selector
// of namespaces does not hide addresses.
func (k *Kubernetes) shown(namespace string) bool {
	if len(k.cfg.Namespaces) == 0 {
		return true
	}
	var buf [64]byte
	return k.NamespaceExposed(append(buf[:0], namespace...))
}

// endpointNames writes the names of the endpoints with an address one behind the other, each once, into the scratch.
func (k *Kubernetes) endpointNames(s *scratch, addr netip.Addr) []byte {
	names := s.buf[:0]
	for w := k.cluster.ByEndpointIP(addr); len(names) < wire.MaxMessage; {
		sl, i := w.Next()
		if sl == nil {
			break
		}
		if !k.shown(sl.Namespace) {
			continue
		}
		at := len(names)
		names = appendEndpointName(names, sl, i, k.primary)
		if len(names)-at > wire.MaxName || has(names[:at], names[at:]) {
			names = names[:at]
		}
	}
	s.buf = names
	return names
}

var labelSvc = []byte("\x03svc")

// appendEndpointName appends the name of an endpoint of a slice, whether or not its Service exists.
func appendEndpointName(dst []byte, sl *cluster.Slice, i int, zone wire.Name) []byte {
	dst = sl.AppendLabels(dst, i)
	dst = append(append(dst, byte(len(sl.Service))), sl.Service...)
	dst = append(append(dst, byte(len(sl.Namespace))), sl.Namespace...)
	return append(append(dst, labelSvc...), zone...)
}

func has(names, one []byte) bool {
	for len(names) > 0 {
		n := nameLen(names)
		if bytes.Equal(names[:n], one) {
			return true
		}
		names = names[n:]
	}
	return false
}

// nameLen is the length of the wire name at the head of b.
func nameLen(b []byte) int {
	n := 0
	for b[n] != 0 {
		n += 1 + int(b[n])
	}
	return n + 1
}

// reverseAddr reads the address in a name of in-addr.arpa (RFC 1035, 3.5) or ip6.arpa (RFC 3596, 2.5); only whole
// addresses count.
func reverseAddr(name wire.Name) (netip.Addr, bool) {
	switch {
	case name.Under(arpa4):
		return reverseAddr4(name[:len(name)-len(arpa4)])
	case name.Under(arpa6):
		return reverseAddr6(name[:len(name)-len(arpa6)])
	}
	return netip.Addr{}, false
}

func reverseAddr4(labels []byte) (netip.Addr, bool) {
	var a [4]byte
	for i := 3; i >= 0; i-- {
		if len(labels) == 0 || labels[0] > 3 {
			return netip.Addr{}, false
		}
		n := int(labels[0])
		v := 0
		for j, c := range labels[1 : 1+n] {
			if c < '0' || c > '9' || (j > 0 && v == 0) {
				return netip.Addr{}, false
			}
			v = v*10 + int(c-'0')
		}
		if v > 255 {
			return netip.Addr{}, false
		}
		a[i] = byte(v)
		labels = labels[1+n:]
	}
	return netip.AddrFrom4(a), len(labels) == 0
}

func reverseAddr6(labels []byte) (netip.Addr, bool) {
	var a [16]byte
	if len(labels) != 64 {
		return netip.Addr{}, false
	}
	for i := range 32 {
		if labels[0] != 1 || hex(labels[1]) < 0 {
			return netip.Addr{}, false
		}
		v := byte(hex(labels[1]))
		if i%2 == 1 {
			v <<= 4
		}
		a[15-i/2] |= v
		labels = labels[2:]
	}
	return netip.AddrFrom16(a).Unmap(), true
}
