package cluster

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"slices"
	"unique"
)

// Slice is what is kept of one EndpointSlice: the addresses that are served, packed. It never changes once published.
type Slice struct {
	Service   string // the Service's name; empty when the slice has no such label
	Namespace string
	imported  string // the ServiceImport's name, for slices of other clusters
	cluster   string // the cluster that an imported slice comes from
	ports     string // see appendPort; never empty

	// addrs are sorted by address. v6 addresses stand in wide, names in names behind a length octet, as wire labels.
	addrs []packed
	wide  []byte
	names []byte
	zones []string
}

// packed is one address in 16 octets.
type packed struct {
	addr uint32 // an IPv4 address, or the number of an IPv6 address in wide
	hash uint32 // of the wire labels of its name
	name uint32 // 1 + offset of the labels in names, 0 for the dashed address
	zone uint16 // 1 + number in zones, 0 for none
	v6   bool
}

func (s *Slice) address(i int) netip.Addr {
	p := s.addrs[i]
	if p.v6 {
		return netip.AddrFrom16([16]byte(s.wide[p.addr*16:]))
	}
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], p.addr)
	return netip.AddrFrom4(a)
}

// labels gives the wire labels of an endpoint's own name, nil for the dashed address.
func (s *Slice) labels(i int) []byte {
	at := s.addrs[i].name
	if at == 0 {
		return nil
	}
	n := uint32(s.names[at-1])
	return s.names[at : at+n]
}

func (s *Slice) zone(i int) string {
	if z := s.addrs[i].zone; z > 0 {
		return s.zones[z-1]
	}
	return ""
}

// Len is the number of addresses, with repetitions.
func (s *Slice) Len() int { return len(s.addrs) }

// Addr gives the i-th address.
func (s *Slice) Addr(i int) netip.Addr { return s.address(i) }

// AppendLabels appends the endpoint name of the i-th address as wire labels, without the root.
func (s *Slice) AppendLabels(dst []byte, i int) []byte {
	if l := s.labels(i); l != nil {
		return append(dst, l...)
	}
	at := len(dst)
	dst = appendDashed(append(dst, 0), s.address(i))
	dst[at] = byte(len(dst) - at - 1)
	return dst
}

// Ports calls f for each port of the slice: number (-1 for none), protocol and name in lower case.
func (s *Slice) Ports(f func(number int32, protocol, name string)) {
	for p := (portText{s.ports}); ; {
		number, protocol, name, ok := p.next()
		if !ok {
			return
		}
		f(number, protocol, name)
	}
}

// search gives the first position of an address, false when the slice does not serve it.
func (s *Slice) search(a netip.Addr) (int, bool) {
	return slices.BinarySearchFunc(s.addrs, a, func(p packed, a netip.Addr) int {
		if p.v6 != a.Is6() {
			if p.v6 {
				return 1
			}
			return -1
		}
		if p.v6 {
			b := a.As16()
			return bytes.Compare(s.wide[p.addr*16:p.addr*16+16], b[:])
		}
		b := a.As4()
		v := binary.BigEndian.Uint32(b[:])
		return int(int64(p.addr) - int64(v))
	})
}

// compare orders address i of one slice and address j of another as the addresses of one slice are.
func (s *Slice) compare(i int, o *Slice, j int) int {
	p, q := &s.addrs[i], &o.addrs[j]
	if !p.v6 && !q.v6 {
		return cmp.Compare(p.addr, q.addr)
	}
	return s.address(i).Compare(o.address(j))
}

// missing calls f once for each address that o does not serve.
func (s *Slice) missing(o *Slice, f func(netip.Addr)) {
	j := 0
	for i := range s.addrs {
		if i > 0 && s.compare(i-1, s, i) == 0 {
			continue
		}
		for j < len(o.addrs) && o.compare(j, s, i) < 0 {
			j++
		}
		if j == len(o.addrs) || o.compare(j, s, i) != 0 {
			f(s.address(i))
		}
	}
}

func (s *Slice) equal(o *Slice) bool {
	return s.Service == o.Service && s.imported == o.imported && s.cluster == o.cluster && s.ports == o.ports &&
		slices.Equal(s.addrs, o.addrs) && bytes.Equal(s.wide, o.wide) && bytes.Equal(s.names, o.names) && slices.Equal(s.zones, o.zones)
}

// sliceBuilder packs slices; its buffers are used again.
type sliceBuilder struct {
	seed   maphash.Seed
	built  Slice
	found  []foundAddr
	ports  []byte
	labels []byte
}

type foundAddr struct {
	addr   netip.Addr
	labels []byte // nil for the dashed address
	zone   []byte
}

// options of packing, from the Config.
type packing struct {
	podNames  bool // an endpoint without a hostname is called by its pod's name
	zones     bool // zones are kept
	podLabels bool // labels of pods are kept
}

// build packs o into a slice that is valid until the next one. Addresses of type FQDN are left out: they are names, which
// no address record can be made of. What is as it was before, when there was a slice, is taken from there.
func (b *sliceBuilder) build(o *object, opt packing, before *Slice) *Slice {
	if before == nil {
		before = &Slice{}
	}
	s := &b.built
	*s = Slice{
		Service:   keep(before.Service, o.label(labelServiceName)),
		Namespace: keep(before.Namespace, o.namespace),
		imported:  keep(before.imported, o.label(labelMultiService)),
		ports:     keep(before.ports, b.portText(o)),
		addrs:     s.addrs[:0], wide: s.wide[:0], names: s.names[:0],
	}
	if s.imported != "" {
		s.cluster = keep(before.cluster, o.label(labelSourceCluster))
	}
	b.collect(o, opt)
	byAddr := func(x, y foundAddr) int { return x.addr.Compare(y.addr) }
	if !slices.IsSortedFunc(b.found, byAddr) {
		slices.SortStableFunc(b.found, byAddr)
	}
	for _, f := range b.found {
		p := packed{}
		if f.labels != nil {
			p.name = uint32(len(s.names)) + 1
			s.names = append(append(s.names, byte(len(f.labels))), f.labels...)
		}
		if len(f.zone) > 0 {
			p.zone = s.zoneNumber(f.zone)
		}
		if p.v6 = f.addr.Is6(); p.v6 {
			p.addr = uint32(len(s.wide) / 16)
			a := f.addr.As16()
			s.wide = append(s.wide, a[:]...)
		} else {
			a := f.addr.As4()
			p.addr = binary.BigEndian.Uint32(a[:])
		}
		s.addrs = append(s.addrs, p)
	}
	clear(b.found)
	b.hash(s, before)
	return s
}

// hash hashes the names of the endpoints.
func (b *sliceBuilder) hash(s, before *Slice) {
	j := 0
	for i := range s.addrs {
		for j < len(before.addrs) && before.compare(j, s, i) < 0 {
			j++
		}
		if j < len(before.addrs) && before.compare(j, s, i) == 0 && bytes.Equal(before.labels(j), s.labels(i)) {
			s.addrs[i].hash = before.addrs[j].hash
			continue
		}
		b.labels = s.AppendLabels(b.labels[:0], i)
		s.addrs[i].hash = hashLabels(b.seed, b.labels)
	}
}

// collect reads the addresses and chooses their names: hostname, then the pod's name where that is wanted, then none.
func (b *sliceBuilder) collect(o *object, opt packing) {
	b.found, b.labels = b.found[:0], b.labels[:0]
	if string(o.addressType) == "FQDN" {
		return
	}
	for _, e := range o.endpoints {
		addr, ok := parseAddr(e.address)
		if !ok {
			continue
		}
		f := foundAddr{addr: addr}
		name := e.hostname
		if len(name) == 0 && opt.podNames && len(e.target) < 64 {
			name = e.target
		}
		if len(name) > 0 {
			// Labels are appended to one buffer that may move; earlier slices keep the old one alive.
			start := len(b.labels)
			out, ok := appendLabels(b.labels, string(name))
			b.labels = out
			if ok && len(out)-start < 128 {
				f.labels = out[start:len(out):len(out)]
			}
		}
		if opt.zones {
			f.zone = e.zone
		}
		b.found = append(b.found, f)
	}
}

func (b *sliceBuilder) portText(o *object) []byte {
	b.ports = b.ports[:0]
	for _, p := range o.ports {
		b.ports = appendPort(b.ports, p.name, p.protocol, p.port)
	}
	if len(o.ports) == 0 {
		b.ports = appendPort(b.ports, nil, nil, noPort)
	}
	return b.ports
}

// clone gives a slice that stays.
func (s *Slice) clone() *Slice {
	c := *s
	c.addrs, c.wide, c.names = tight(s.addrs), tight(s.wide), tight(s.names)
	return &c
}

// tight copies a list into one that has no room to spare.
func tight[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	c := make([]T, len(list))
	copy(c, list)
	return c
}

// keep gives have when it is the text that b spells: most objects that are read are as they were.
func keep(have string, b []byte) string {
	if have == string(b) {
		return have
	}
	return intern(b)
}

func (s *Slice) zoneNumber(zone []byte) uint16 {
	z := string(bytes.ToLower(zone))
	for i, have := range s.zones {
		if have == z {
			return uint16(i) + 1
		}
	}
	if len(s.zones) == 1<<16-2 {
		return 0
	}
	s.zones = append(s.zones, intern([]byte(z)))
	return uint16(len(s.zones))
}

// intern makes equal texts one string.
func intern(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unique.Make(string(b)).Value()
}
