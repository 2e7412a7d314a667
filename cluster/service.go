package cluster

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math"
	"net/netip"
	"slices"
)

// Kind says how a Service answers.
type Kind uint8

// Kinds of Services.
const (
	ClusterIP    Kind = iota + 1 // by addresses of its own: ClusterIP, NodePort, LoadBalancer, ClusterSetIP
	Headless                     // by the addresses of its endpoints
	ExternalName                 // by another name
)

// Service is the published record of one Service or ServiceImport: all that its answers are made of, ready to copy. It
// never changes; its slices refer to it and may be kept.
type Service struct {
	// First what every answer needs, in as few cache lines as can be: below saturation each costs more than it holds.
	Kind     Kind
	Imported bool   // a ServiceImport
	odd      bool   // nobody can ask for it: its name or its namespace is not one label in lower case
	own      uint16 // how many ports it has itself
	hash     uint32
	space    *space
	base     []byte // wire labels of name.namespace.svc
	v4, v6   []byte // the answers' data: 4 and 16 octets an address, each once; of a Service's own addresses, behind base

	Name      string
	Namespace string

	// Target is where an ExternalName points: a wire name in its own case. Nil when the text is no name or is an address.
	Target []byte
	// External are spec.externalIPs and the load balancer's addresses and names, as text.
	External []string

	seed   maphash.Seed
	ports  string // of a ClusterIP Service, see appendPort
	ips    []netip.Addr
	eps    endpoints
	groups []group
	wide   []byte
	names  []byte
	zones  []string
	built  int // octets of wide and names when the record was built; patching adds to them
}

// endpoint is one address of one slice, in 16 octets. They are sorted by hash, name and address, so that all that belongs
// to one name stands together.
type endpoint struct {
	hash  uint32 // of the wire labels of its name
	addr  uint32 // as in packed
	name  uint32 // as in packed
	group uint16 // which ports it has, with the highest bit set for IPv6
	zone  uint16 // as in packed
}

const groupV6 = 1 << 15

// group is a set of ports that addresses share.
type group struct {
	ports string
	count uint32 // addresses, with repetitions
}

func (s *Service) address(e *endpoint) netip.Addr {
	if e.group&groupV6 != 0 {
		return netip.AddrFrom16([16]byte(s.wide[e.addr*16:]))
	}
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], e.addr)
	return netip.AddrFrom4(a)
}

func (s *Service) labels(e *endpoint) []byte {
	if e.name == 0 {
		return nil
	}
	n := uint32(s.names[e.name-1])
	return s.names[e.name : e.name+n]
}

// appendLabels appends the endpoint's name as wire labels.
func (s *Service) appendLabels(dst []byte, e *endpoint) []byte {
	if l := s.labels(e); l != nil {
		return append(dst, l...)
	}
	at := len(dst)
	dst = appendDashed(append(dst, 0), s.address(e))
	dst[at] = byte(len(dst) - at - 1)
	return dst
}

// sameName reports whether two endpoints have one name. A hostname may spell another endpoint's dashed address.
func (s *Service) sameName(a, b *endpoint) bool { return a.hash == b.hash && s.compareNames(a, b) == 0 }

func (s *Service) compareNames(a, b *endpoint) int {
	var x, y [64]byte
	return bytes.Compare(s.appendLabels(x[:0], a), s.appendLabels(y[:0], b))
}

// compareEndpoints orders endpoints of one hash.
func (s *Service) compareEndpoints(a, b *endpoint) int {
	if c := s.compareNames(a, b); c != 0 {
		return c
	}
	return s.address(a).Compare(s.address(b))
}

// Ready is the number of addresses that endpoints serve, with repetitions.
func (s *Service) Ready() int { return s.eps.len() }

// ClusterIPs are the Service's own addresses; they belong to the Service.
func (s *Service) ClusterIPs() []netip.Addr { return s.ips }

// Base is name.namespace.svc as wire labels, without zone and root.
func (s *Service) Base() []byte { return s.base }

// Ports calls f for each port of a ClusterIP Service: number (-1 for none), protocol and name in lower case.
func (s *Service) Ports(f func(number int32, protocol, name string)) {
	for p := (portText{s.ports}); ; {
		number, protocol, name, ok := p.next()
		if !ok {
			return
		}
		f(number, protocol, name)
	}
}

// serviceFacts is what is kept of a Service or ServiceImport object.
type serviceFacts struct {
	kind     Kind
	ips      []netip.Addr
	ports    string
	external []string
	target   []byte
	version  uint64
	// raw is what a snapshot has to write that the fields above lost.
	targetText string
}

func (f *serviceFacts) equal(o *serviceFacts) bool {
	return f.kind == o.kind && slices.Equal(f.ips, o.ips) && f.ports == o.ports && slices.Equal(f.external, o.external) &&
		f.targetText == o.targetText
}

func newServiceFacts(o *object) *serviceFacts {
	f := &serviceFacts{kind: ClusterIP, version: o.version}
	ips := o.clusterIPs
	if len(ips) == 0 {
		ips = append(ips, o.clusterIP)
	}
	switch {
	case o.kind == kindImport && string(o.serviceType) == "Headless":
		f.kind = Headless
	case o.kind == kindService && string(o.serviceType) == "ExternalName":
		f.kind = ExternalName
		f.setTarget(string(o.externalName))
	case o.kind == kindService && string(ips[0]) == "None":
		f.kind = Headless
	}
	if f.kind != ExternalName {
		for _, ip := range ips {
			if a, ok := parseAddr(ip); ok {
				f.ips = append(f.ips, a)
			}
		}
	}
	var ports []byte
	for _, p := range o.ports {
		ports = appendPort(ports, p.name, p.protocol, p.port)
	}
	if len(o.ports) == 0 && o.kind == kindService {
		ports = appendPort(ports, nil, nil, noPort)
	}
	f.ports = intern(ports)
	for _, e := range o.external {
		f.external = append(f.external, string(e))
	}
	return f
}

// setTarget keeps an ExternalName. An address is no name: such a Service has no records.
func (f *serviceFacts) setTarget(s string) {
	f.targetText = s
	if _, isAddr := parseAddr([]byte(s)); isAddr {
		return
	}
	if labels, ok := appendLabels(nil, s); ok && len(labels) < 255 {
		f.target = append(labels, 0)
	}
}

// serviceBuilder builds records; its buffers are used again.
type serviceBuilder struct {
	seed  maphash.Seed
	eps   []endpoint
	order []endpoint
	cuts  []cut
	keys  []uint64
	other []uint64
	set   []uint32
	buf   []byte
}

// hashLabels hashes lower-case wire labels.
func hashLabels(seed maphash.Seed, labels []byte) uint32 {
	return uint32(maphash.Bytes(seed, labels))
}

// build makes the record of an entry that has facts.
func (b *serviceBuilder) build(e *entry) *Service {
	s := &Service{
		Kind: e.facts.kind, Imported: e.imported, Name: e.name, Namespace: e.namespace, seed: b.seed, hash: e.hash, base: e.base,
		odd: e.odd, space: e.space, own: uint16(min((&Match{}).count(e.facts.ports), math.MaxUint16)),
		Target: e.facts.target, External: e.facts.external, ports: e.facts.ports, ips: e.facts.ips,
	}
	b.gather(s, e)
	b.sort(s)
	if s.Kind == Headless {
		b.packEndpoints(s)
	} else {
		s.packOwn()
		e.base = s.base
	}
	s.built = len(s.wide) + len(s.names)
	return s
}

// gather copies the addresses of all slices of the entry into the record, in no order yet.
func (b *serviceBuilder) gather(s *Service, e *entry) {
	b.eps = b.eps[:0]
	for _, sl := range e.slices {
		f := sl.facts
		if len(f.addrs) == 0 {
			continue
		}
		g := s.groupOf(f.ports)
		s.groups[g].count += uint32(len(f.addrs))
		for i := range f.addrs {
			labels, hash := f.labels(i), f.addrs[i].hash
			if e.imported {
				labels = b.imported(f, i)
				hash = hashLabels(b.seed, labels)
			}
			b.eps = append(b.eps, s.encode(f, i, g, labels, hash))
		}
	}
}

// encode makes an endpoint of address i of a slice, whose ports are group g.
func (s *Service) encode(f *Slice, i, g int, labels []byte, hash uint32) endpoint {
	p := &f.addrs[i]
	ep := endpoint{addr: p.addr, hash: hash, group: uint16(g)}
	if p.v6 {
		ep.group |= groupV6
		ep.addr = uint32(len(s.wide) / 16)
		s.wide = append(s.wide, f.wide[p.addr*16:p.addr*16+16]...)
	}
	if p.zone > 0 {
		ep.zone = s.zoneNumber(f.zones[p.zone-1])
	}
	if labels != nil {
		ep.name = uint32(len(s.names)) + 1
		s.names = append(append(s.names, byte(len(labels))), labels...)
	}
	return ep
}

// imported gives the labels of an endpoint of another cluster: its name and the cluster's.
func (b *serviceBuilder) imported(f *Slice, i int) []byte {
	b.buf = f.AppendLabels(b.buf[:0], i)
	if f.cluster != "" {
		b.buf, _ = appendLabels(b.buf, f.cluster)
	}
	return b.buf[:min(len(b.buf), 255)]
}

func (s *Service) groupOf(ports string) int {
	for i := range s.groups {
		if s.groups[i].ports == ports {
			return i
		}
	}
	if len(s.groups) == groupV6-1 {
		return 0
	}
	s.groups = append(s.groups, group{ports: ports})
	return len(s.groups) - 1
}

func (s *Service) zoneNumber(zone string) uint16 {
	for i, have := range s.zones {
		if have == zone {
			return uint16(i) + 1
		}
	}
	if len(s.zones) == 1<<16-2 {
		return 0
	}
	s.zones = append(s.zones, zone)
	return uint16(len(s.zones))
}

// sort puts the endpoints in order: by hash first, which costs no comparison of names, then what has one hash.
func (b *serviceBuilder) sort(s *Service) {
	if len(b.eps) == 0 {
		return
	}
	b.keys = b.keys[:0]
	for i := range b.eps {
		b.keys = append(b.keys, uint64(b.eps[i].hash)<<32|uint64(i))
	}
	b.keys, b.other = sortByHash(b.keys, b.other)
	b.order = b.order[:0]
	for _, k := range b.keys {
		b.order = append(b.order, b.eps[uint32(k)])
	}
	for lo := 0; lo < len(b.order); {
		hi := lo + 1
		for hi < len(b.order) && b.order[hi].hash == b.order[lo].hash {
			hi++
		}
		if hi-lo > 1 {
			slices.SortFunc(b.order[lo:hi], func(x, y endpoint) int { return s.compareEndpoints(&x, &y) })
		}
		lo = hi
	}
	s.eps = endpointsOf(b.order)
}

// sortByHash sorts keys by their upper 32 bits, one octet after the other from the lowest: what sorting costs is what a
// change of a large Service costs. Both slices may be used again.
func sortByHash(keys, other []uint64) (sorted, spare []uint64) {
	if len(keys) < 64 {
		slices.Sort(keys)
		return keys, other
	}
	other = slices.Grow(other[:0], len(keys))[:len(keys)]
	for shift := 32; shift < 64; shift += 8 {
		var at [257]uint32
		for _, k := range keys {
			at[int(byte(k>>shift))+1]++
		}
		for i := 1; i < len(at); i++ {
			at[i] += at[i-1]
		}
		for _, k := range keys {
			d := &at[byte(k>>shift)]
			other[*d] = k
			*d++
		}
		keys, other = other, keys
	}
	return keys, other
}

// countWide counts the endpoints with an IPv6 address.
func (s *Service) countWide() (n int) {
	for e := range s.eps.all {
		n += int(e.group >> 15)
	}
	return n
}

// packEndpoints writes the addresses of all endpoints, each once.
func (b *serviceBuilder) packEndpoints(s *Service) {
	s.v4, s.v6 = nil, nil
	wide := s.countWide()
	if narrow := s.eps.len() - wide; narrow > 0 {
		s.v4 = make([]byte, 0, 4*narrow)
		b.clearSet(narrow)
	}
	var seen map[netip.Addr]struct{}
	if wide > 0 {
		s.v6 = make([]byte, 0, 16*wide)
		seen = make(map[netip.Addr]struct{}, wide)
	}
	for e := range s.eps.all {
		if e.group&groupV6 == 0 {
			if b.add(e.addr) {
				s.v4 = binary.BigEndian.AppendUint32(s.v4, e.addr)
			}
			continue
		}
		a := s.address(e)
		if _, ok := seen[a]; !ok {
			seen[a] = struct{}{}
			s.v6 = append(s.v6, s.wide[e.addr*16:e.addr*16+16]...)
		}
	}
}

// clearSet empties the set of IPv4 addresses and makes room for n.
func (b *serviceBuilder) clearSet(n int) {
	size := 8
	for size < 2*n {
		size *= 2
	}
	b.set = slices.Grow(b.set[:0], size)[:size]
	clear(b.set)
}

// add puts an IPv4 address into the set and reports whether it was not there. 0.0.0.0 marks a free place; it is no
// endpoint's address, and would only be repeated if it were.
func (b *serviceBuilder) add(a uint32) bool {
	mask := uint32(len(b.set) - 1)
	for i := a * 0x9E3779B1 >> 7; ; i++ {
		switch b.set[i&mask] {
		case a:
			return a == 0
		case 0:
			b.set[i&mask] = a
			return true
		}
	}
}

// packOwn writes the Service's own addresses, each once, behind its name: who finds the name has them at hand.
func (s *Service) packOwn() {
	b := append(make([]byte, 0, len(s.base)+16*len(s.ips)), s.base...)
	narrow := len(b)
	for i, a := range s.ips {
		if a.Is4() && !slices.Contains(s.ips[:i], a) {
			x := a.As4()
			b = append(b, x[:]...)
		}
	}
	wide := len(b)
	for i, a := range s.ips {
		if a.Is6() && !slices.Contains(s.ips[:i], a) {
			x := a.As16()
			b = append(b, x[:]...)
		}
	}
	s.base, s.v4, s.v6 = b[:narrow:narrow], b[narrow:wide:wide], b[wide:]
}
