package kubernetes

import (
	"bytes"
	"net/netip"

	"github.com/godwit-dns/godwit/cluster"
	"github.com/godwit-dns/godwit/wire"
)

// found is what a name means in the cluster.
type found struct {
	q       question
	exists  bool
	service *cluster.Service // nil when the name is no Service's
	set     cluster.Set      // the Service's records that are meant
	pods    int              // how many pods are meant
	pod     netip.Addr
}

var (
	arpa4 = wire.MustName("in-addr.arpa.")
	arpa6 = wire.MustName("ip6.arpa.")
)

// reverse reports whether a name stands below one of the reverse trees.
func reverse(name wire.Name) bool {
	return (len(name) > len(arpa4) && name.Under(arpa4)) || (len(name) > len(arpa6) && name.Under(arpa6))
}

// find looks a name up, in lower case, in a zone that it is in.
func (k *Kubernetes) find(f *found, name wire.Name, z *zone) {
	f.exists, f.service, f.pods = false, nil, 0
	if !f.q.parse(name, z, k.cfg.Zonal) {
		return
	}
	if f.q.part == partNone {
		f.exists = true
		return
	}
	if z.reverse && reverse(name) {
		return
	}
	switch {
	case f.q.part == partService && len(f.q.service) > 0:
		k.findService(f, z)
	case !k.NamespaceExposed(f.q.namespace):
	case f.q.part == partPod:
		k.findPod(f)
	default:
		f.exists = true // the namespace
	}
}

func (k *Kubernetes) findService(f *found, z *zone) {
	r := k.cluster.ByBase(f.q.base, z.imported)
	if r == nil || !r.InNamespace() || !k.configured(f.q.namespace) {
		return
	}
	if k.cfg.IgnoreEmpty && r.Kind == cluster.ClusterIP && r.Ready() == 0 {
		return
	}
	if r.Kind == cluster.ExternalName && r.Target == nil {
		return // an address is no name
	}
	set, ok := r.Find(&f.q.match)
	if !ok {
		return
	}
	f.exists, f.service, f.set = true, r, set
}

// findPod reads the address in a pod's label. Labels further left are not looked at.
func (k *Kubernetes) findPod(f *found) {
	label := f.q.service
	switch {
	case k.cfg.Pods == podsDisabled:
		return
	case len(label) == 0:
		f.exists = true
		return
	}
	addr, ok := parseDashed(label)
	if !ok {
		return
	}
	if k.cfg.Pods == podsInsecure {
		f.exists, f.pods, f.pod = true, 1, addr
		return
	}
	var buf [64]byte
	if !bytes.Equal(dashed(buf[:0], addr), label) {
		return // the pod's address is compared as text: only its usual form names it
	}
	for w := k.cluster.ByPodIP(addr); ; {
		p := w.Next()
		if p == nil {
			break
		}
		if p.Namespace == string(f.q.namespace) {
			f.pods++
		}
	}
	f.exists, f.pod = f.pods > 0, addr
}

// dashed appends an address with dashes for its dots or colons.
func dashed(dst []byte, a netip.Addr) []byte {
	start := len(dst)
	dst = a.AppendTo(dst)
	for i := start; i < len(dst); i++ {
		if dst[i] == '.' || dst[i] == ':' {
			dst[i] = '-'
		}
	}
	return dst
}

// parseDashed reads an address whose dots or colons are dashes: three single dashes make an IPv4 address, everything
// else is read as IPv6. It allocates nothing, also for labels that are no address.
func parseDashed(label []byte) (netip.Addr, bool) {
	if bytes.Count(label, []byte{'-'}) == 3 && !bytes.Contains(label, []byte("--")) {
		return parseDashed4(label)
	}
	return parseDashed6(label)
}

func parseDashed4(s []byte) (netip.Addr, bool) {
	var a [4]byte
	for i := range a {
		v, digits := 0, 0
		for len(s) > 0 && s[0] >= '0' && s[0] <= '9' {
			if v = v*10 + int(s[0]-'0'); digits > 0 && v < 10 || v > 255 {
				return netip.Addr{}, false
			}
			digits++
			s = s[1:]
		}
		if digits == 0 || (i < 3 && (len(s) == 0 || s[0] != '-')) || (i == 3 && len(s) > 0) {
			return netip.Addr{}, false
		}
		a[i] = byte(v)
		if i < 3 {
			s = s[1:]
		}
	}
	return netip.AddrFrom4(a), true
}

// parseDashed6 reads RFC 4291, 2.2, forms 1 and 2.
func parseDashed6(s []byte) (netip.Addr, bool) {
	var a [16]byte
	gap, i := -1, 0
	if bytes.HasPrefix(s, []byte("--")) {
		gap, s = 0, s[2:]
	}
	for len(s) > 0 {
		v, digits := 0, 0
		for len(s) > 0 && hex(s[0]) >= 0 {
			v = v<<4 | hex(s[0])
			digits++
			s = s[1:]
		}
		if digits == 0 || digits > 4 || i == 16 {
			return netip.Addr{}, false
		}
		a[i], a[i+1] = byte(v>>8), byte(v)
		i += 2
		switch {
		case len(s) == 0:
		case s[0] != '-' || len(s) == 1:
			return netip.Addr{}, false
		case s[1] == '-':
			if gap >= 0 {
				return netip.Addr{}, false
			}
			gap, s = i, s[2:]
		default:
			s = s[1:]
		}
	}
	if (gap < 0) != (i == 16) {
		return netip.Addr{}, false
	}
	if gap >= 0 {
		moved := a[gap:i]
		at := 16 - len(moved)
		copy(a[at:], moved)
		clear(a[gap:at])
	}
	return netip.AddrFrom16(a).Unmap(), true
}

func hex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
