package cluster

import (
	"bytes"
	"math"
	"net/netip"

	"github.com/godwit-dns/godwit/wire"
)

// Match says which records of a Service are asked for. All words are lower case; its slices are only read during Find.
type Match struct {
	Port     []byte // a port's name, empty for any
	Protocol []byte // a port's protocol, empty for any
	Endpoint []byte // wire labels of an endpoint's name (for imports with the cluster's label), empty for all
	Zone     []byte // a topology zone, empty for all; only Headless Services have such records
	Prefer   bool   // with Zone: all endpoints when none is in the zone
}

// Set is what Find found: a Service's own addresses or some of its endpoints. It is a value; it refers to the Service and
// to the Match.
type Set struct {
	s      *Service
	m      *Match
	vip    bool
	lo, hi int    // range of endpoints
	zone   uint16 // only endpoints of this zone; 0 for all
	pairs  int    // pairs of address and port, with repetitions: what the weights of SRV records are made of; or uncounted
}

// uncounted stands for pairs that are more than none, of a Service's plain name: only SRV records need the number.
const uncounted = -1

// noZone is a zone's number that no endpoint has.
const noZone = math.MaxUint16

// Find looks for the records that m means. False means that the name does not exist; an empty set with true means that
// it exists without records.
func (s *Service) Find(m *Match) (Set, bool) {
	if m.plain() && s.Kind != ExternalName {
		return s.plain(m)
	}
	set := Set{s: s, m: m, hi: s.eps.len()}
	if len(m.Zone) > 0 && s.Kind != Headless {
		return set, false
	}
	switch {
	case s.Kind == ExternalName:
		return set, len(m.Endpoint) == 0 && len(m.Port) == 0 && len(m.Protocol) == 0
	case s.Kind == ClusterIP && len(m.Endpoint) == 0:
		n := m.count(s.ports)
		set.vip, set.pairs = true, n*len(s.ips)
		return set, n > 0
	case len(m.Endpoint) > 0:
		set.lo, set.hi = s.named(m.Endpoint)
	}
	if len(m.Zone) == 0 {
		set.count()
		return set, set.pairs > 0
	}
	set.zone = noZone
	for i, z := range s.zones {
		if z == string(m.Zone) {
			set.zone = uint16(i) + 1
		}
	}
	if set.count(); set.pairs == 0 && m.Prefer {
		set.zone = 0
		set.count()
	}
	return set, true
}

// plain reports whether the name is the Service's own, without anything in front of it.
func (m *Match) plain() bool { return len(m.Port)+len(m.Protocol)+len(m.Endpoint)+len(m.Zone) == 0 }

// plain is Find for the Service's own name. What an answer of addresses has no use for is not looked at.
func (s *Service) plain(m *Match) (Set, bool) {
	set := Set{s: s, m: m, vip: s.Kind == ClusterIP, pairs: uncounted}
	if set.vip {
		return set, s.own > 0
	}
	set.hi = s.eps.len()
	return set, len(s.v4)+len(s.v6) > 0 // whatever serves an address has ports, if only noPort
}

// counted is the number of pairs.
func (t *Set) counted() int {
	if t.pairs == uncounted {
		if t.vip {
			t.pairs = t.m.count(t.s.ports) * len(t.s.ips)
		} else {
			t.count()
		}
	}
	return t.pairs
}

// named gives the range of endpoints with a name.
func (s *Service) named(labels []byte) (lo, hi int) {
	h := hashLabels(s.seed, labels)
	lo = s.eps.first(h)
	var buf [64]byte
	for ; lo < s.eps.len() && s.eps.at(lo).hash == h; lo++ {
		if bytes.Equal(s.appendLabels(buf[:0], s.eps.at(lo)), labels) {
			break
		}
	}
	for hi = lo; hi < s.eps.len() && s.eps.at(hi).hash == h; hi++ {
		if !bytes.Equal(s.appendLabels(buf[:0], s.eps.at(hi)), labels) {
			break
		}
	}
	return lo, hi
}

// count counts the pairs of address and port.
func (t *Set) count() {
	t.pairs = 0
	if t.lo == 0 && t.hi == t.s.eps.len() && t.zone == 0 {
		for i := range t.s.groups {
			g := &t.s.groups[i]
			t.pairs += int(g.count) * t.m.count(g.ports)
		}
		return
	}
	for i := t.lo; i < t.hi; i++ {
		if e := t.s.eps.at(i); t.zone == 0 || e.zone == t.zone {
			t.pairs += t.m.count(t.ports(e))
		}
	}
}

func (t *Set) ports(e *endpoint) string { return t.s.groups[e.group&^groupV6].ports }

// has reports whether an endpoint belongs to the set.
func (t *Set) has(e *endpoint) bool {
	return (t.zone == 0 || e.zone == t.zone) && t.m.count(t.ports(e)) > 0
}

// whole reports whether the set is all that the Service's plain name answers.
func (t *Set) whole() bool {
	if t.vip || t.s.Kind == Headless && t.m.plain() {
		return true
	}
	if t.s.Kind != Headless || t.zone != 0 || len(t.m.Endpoint) > 0 {
		return false
	}
	for i := range t.s.groups {
		if t.m.count(t.s.groups[i].ports) == 0 {
			return false
		}
	}
	return true
}

// Addresses gives the set's IPv4 or IPv6 addresses, each once, as the data of A or AAAA records: 4 or 16 octets each. The
// result is the Service's own or has been appended to buf, which is then returned as the second value for the next use.
func (t *Set) Addresses(v6 bool, buf []byte) (data, scratch []byte) {
	if t.whole() {
		if v6 {
			return t.s.v6, buf
		}
		return t.s.v4, buf
	}
	size := 4
	if v6 {
		size = 16
	}
	buf = buf[:0]
	var seen map[netip.Addr]struct{}
	for i := t.lo; i < t.hi; i++ {
		e := t.s.eps.at(i)
		if (e.group&groupV6 != 0) != v6 || !t.has(e) {
			continue
		}
		a := t.s.address(e)
		at := len(buf)
		if v6 {
			x := a.As16()
			buf = append(buf, x[:]...)
		} else {
			x := a.As4()
			buf = append(buf, x[:]...)
		}
		if seen == nil && at < maxScanned*size {
			if repeated(buf[:at], buf[at:]) {
				buf = buf[:at]
			}
			continue
		}
		if seen == nil {
			seen = remember(buf[:at], size)
		}
		if _, ok := seen[a]; ok {
			buf = buf[:at]
		}
		seen[a] = struct{}{}
	}
	return buf, buf
}

// Own gives what Addresses does where that is the Service's own, which never changes; else nil.
func (t *Set) Own(v6 bool) []byte {
	switch {
	case !t.whole():
		return nil
	case v6:
		return t.s.v6
	}
	return t.s.v4
}

// maxScanned is how many addresses are compared one by one before a map is made of them.
const maxScanned = 128

func repeated(list, one []byte) bool {
	for ; len(list) > 0; list = list[len(one):] {
		if bytes.Equal(list[:len(one)], one) {
			return true
		}
	}
	return false
}

func remember(list []byte, size int) map[netip.Addr]struct{} {
	m := make(map[netip.Addr]struct{}, 2*len(list)/size)
	for ; len(list) > 0; list = list[size:] {
		a, _ := netip.AddrFromSlice(list[:size])
		m[a] = struct{}{}
	}
	return m
}

// weight is the weight of every SRV record of the set: 100 shared among the pairs, at least 1.
func (t *Set) weight() uint16 { return Weight(t.counted()) }

// Weight is the weight of each of n equal SRV records (RFC 2782): their share of 100, at least 1.
func Weight(n int) uint16 {
	if n == 0 {
		return 100
	}
	return max(uint16(math.Floor(100.0/float64(100*n)*100)), 1)
}

// full reports whether nothing appended now could reach a client any more: SRV targets are not compressed (RFC 2782).
func full(m *wire.Reply) bool { return len(m.Bytes()) > wire.MaxMessage }

// AppendSRV appends the set's SRV records to the answer and the targets' addresses to the additional section. The owner
// is the question's name, zone is appended to the targets, with its root. Each target and port is one record; ports that
// are none are left out.
func (t *Set) AppendSRV(m *wire.Reply, owner, zone wire.Name, ttl uint32) {
	w := t.weight()
	var buf [wire.MaxName]byte
	if t.vip {
		t.appendOwnSRV(m, owner, zone, ttl, buf[:0])
		return
	}
	for lo := t.lo; lo < t.hi && !full(m); {
		hi := t.run(lo)
		target := t.target(buf[:0], lo, zone)
		for i := lo; i < hi && target != nil; i++ {
			t.appendPorts(m, lo, i, w, owner, target, ttl)
		}
		lo = hi
	}
	for lo := t.lo; lo < t.hi && !full(m); {
		hi := t.run(lo)
		target := t.target(buf[:0], lo, zone)
		for i := lo; i < hi && target != nil; i++ {
			t.appendGlue(m, lo, i, target, ttl)
		}
		lo = hi
	}
}

// run gives the end of the endpoints that share the name of the one at lo.
func (t *Set) run(lo int) int {
	hi := lo + 1
	for hi < t.hi && t.s.sameName(t.s.eps.at(lo), t.s.eps.at(hi)) {
		hi++
	}
	return hi
}

// target writes the name of endpoint i; nil when it would be longer than a name may be.
func (t *Set) target(buf []byte, i int, zone wire.Name) wire.Name {
	e := t.s.eps.at(i)
	if len(t.s.labels(e))+64+len(t.s.base)+len(zone) > wire.MaxName &&
		len(t.s.appendLabels(nil, e))+len(t.s.base)+len(zone) > wire.MaxName {
		return nil
	}
	return append(append(t.s.appendLabels(buf, e), t.s.base...), zone...)
}

// appendPorts appends a record for each port of endpoint i that no endpoint of the run before it had.
func (t *Set) appendPorts(m *wire.Reply, lo, i int, w uint16, owner, target wire.Name, ttl uint32) {
	e := t.s.eps.at(i)
	if t.zone != 0 && e.zone != t.zone {
		return
	}
	ports := t.ports(e)
	for p := (portText{ports}); ; {
		rest := p.rest
		number, protocol, name, ok := p.next()
		if !ok {
			return
		}
		if number == noPort || !t.m.matches(protocol, name) || t.m.portBefore(ports[:len(ports)-len(rest)], number) {
			continue
		}
		repeated := false
		for j := lo; j < i && !repeated; j++ {
			o := t.s.eps.at(j)
			repeated = (t.zone == 0 || o.zone == t.zone) && t.m.portBefore(t.ports(o), number)
		}
		if !repeated {
			m.AppendSRV(wire.Answer, owner, ttl, 0, w, uint16(number), target)
		}
	}
}

// portBefore reports whether a port with this number that m means is among ports.
func (m *Match) portBefore(ports string, number int32) bool {
	for p := (portText{ports}); ; {
		n, protocol, name, ok := p.next()
		if !ok {
			return false
		}
		if n == number && m.matches(protocol, name) {
			return true
		}
	}
}

// appendGlue appends the address of endpoint i unless an endpoint of the run before it has it. The set's ports decide
// here as for the records: an endpoint that has none of them but noPort gives no record and no glue.
func (t *Set) appendGlue(m *wire.Reply, lo, i int, target wire.Name, ttl uint32) {
	e := t.s.eps.at(i)
	if !t.glues(e) {
		return
	}
	a := t.s.address(e)
	for j := i - 1; j >= lo && t.s.address(t.s.eps.at(j)) == a; j-- {
		if t.glues(t.s.eps.at(j)) {
			return
		}
	}
	appendAddress(m, target, a, ttl)
}

func (t *Set) glues(e *endpoint) bool {
	if t.zone != 0 && e.zone != t.zone {
		return false
	}
	return t.m.real(t.ports(e))
}

// real reports whether a port that m means has a number.
func (m *Match) real(ports string) bool {
	for p := (portText{ports}); ; {
		n, protocol, name, ok := p.next()
		if !ok {
			return false
		}
		if n != noPort && m.matches(protocol, name) {
			return true
		}
	}
}

func appendAddress(m *wire.Reply, owner wire.Name, a netip.Addr, ttl uint32) {
	if a.Is4() {
		x := a.As4()
		m.Append(wire.Additional, owner, wire.TypeA, wire.ClassIN, ttl, x[:])
		return
	}
	x := a.As16()
	m.Append(wire.Additional, owner, wire.TypeAAAA, wire.ClassIN, ttl, x[:])
}

// appendOwnSRV appends the records of a Service with addresses of its own; their target is the Service's name.
func (t *Set) appendOwnSRV(m *wire.Reply, owner, zone wire.Name, ttl uint32, buf []byte) {
	if len(t.s.base)+len(zone) > wire.MaxName || len(t.s.ips) == 0 || !t.m.real(t.s.ports) {
		return
	}
	target := wire.Name(append(append(buf, t.s.base...), zone...))
	for p := (portText{t.s.ports}); ; {
		rest := p.rest
		number, protocol, name, ok := p.next()
		if !ok {
			break
		}
		before := t.s.ports[:len(t.s.ports)-len(rest)]
		if number != noPort && t.m.matches(protocol, name) && !t.m.portBefore(before, number) {
			m.AppendSRV(wire.Answer, owner, ttl, 0, t.weight(), uint16(number), target)
		}
	}
	for _, a := range t.s.ips {
		appendAddress(m, target, a, ttl)
	}
}

// Empty reports whether the set has no pair of address and port.
func (t *Set) Empty() bool { return t.counted() == 0 }
