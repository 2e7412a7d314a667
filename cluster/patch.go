package cluster

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// pending is what happened to a Service since it was published.
type pending struct {
	rebuild   bool        // more than its slices changed, or too many of them
	edits     []edit      // the slices that changed, while rebuild is false
	triggered []time.Time // when changes began
	read      []time.Time // when they were read
}

// edit is how one slice changed, each nil for none.
type edit struct {
	of       *sliceEntry
	old, now *Slice
}

const (
	// maxTimes bounds what is kept of the times of changes.
	maxTimes = 64
	// maxEdits is how many changed slices are worth being looked at one by one.
	maxEdits = 32
	// patchSlack is how many octets patches may always add to a record before it is built anew.
	patchSlack = 4096
)

// change notes that an entry has changed and gives what is pending for it.
func (s *store) change(e *entry) *pending {
	p := e.pending
	if p == nil {
		if p, s.spare = s.spare, nil; p == nil {
			p = &pending{}
		}
		e.pending = p
		s.dirty = append(s.dirty, e)
	}
	if s.news && !s.arrived.IsZero() && len(p.read) < maxTimes {
		p.read = append(p.read, s.arrived)
	}
	return p
}

func (p *pending) reset() *pending {
	clear(p.edits)
	*p = pending{edits: p.edits[:0], triggered: p.triggered[:0], read: p.read[:0]}
	return p
}

// edit notes how a slice of e changed. A slice that changes again keeps what was published of it.
func (p *pending) edit(e *entry, of *sliceEntry, old, now *Slice) {
	if p.rebuild || e.published == nil {
		return
	}
	for i := range p.edits {
		if p.edits[i].of == of {
			p.edits[i].now = now
			return
		}
	}
	if len(p.edits) == maxEdits {
		p.rebuild = true
		return
	}
	p.edits = append(p.edits, edit{of, old, now})
}

// cut is a place in the endpoints of a record where one is taken out or, in front of it, put in.
type cut struct {
	at   int
	out  bool
	ep   endpoint
	addr netip.Addr // of ep
}

// patch makes a record of the published one and the slices that changed since: it costs little more than the copy, while
// building looks at each endpoint several times. Nil means that the record has to be built.
func (s *store) patch(e *entry, p *pending) *Service {
	old := e.published
	if old == nil || p.rebuild || e.imported || len(old.wide)+len(old.names) > 2*old.built+patchSlack {
		return nil
	}
	b, r := &s.record, new(Service)
	*r = *old
	r.groups, r.zones = slices.Clone(old.groups), slices.Clip(old.zones)
	b.cuts = b.cuts[:0]
	for _, d := range p.edits {
		if !b.takeOut(r, d.old, d.now) {
			return nil
		}
		b.putIn(r, d.now, d.old)
	}
	if slices.ContainsFunc(r.groups, func(g group) bool { return g.count == 0 }) {
		return nil // who asks for the whole must not be told of ports that nobody has
	}
	if !b.splice(r) {
		return nil
	}
	switch {
	case r.Kind != Headless:
	case len(old.v4)/4+len(old.v6)/16 == old.eps.len() && s.once(e, b.cuts):
		r.packDistinct()
	default:
		b.packEndpoints(r)
	}
	return r
}

// once reports whether no slice of a Service has an address a second time that is to be put in.
func (s *store) once(e *entry, cuts []cut) bool {
	for i := range cuts {
		if !cuts[i].out && s.serves(e, cuts[i].addr) > 1 {
			return false
		}
	}
	return true
}

// serves counts how often the slices of a Service have an address.
func (s *store) serves(e *entry, a netip.Addr) (n int) {
	w := Endpoints{s: s, p: s.sliceTab.probe(s.hashAddr(a)), a: a}
	for sl, _ := w.Next(); sl != nil; sl, _ = w.Next() {
		if sl.Service == e.name && sl.Namespace == e.namespace {
			n++
		}
	}
	return n
}

// differs calls f for each endpoint that o does not have in the same way, until f reports false. Endpoints that share an
// address count as different, so that both directions agree on which are.
func (s *Slice) differs(o *Slice, f func(i int) bool) bool {
	if o == nil || o.ports != s.ports {
		o = &Slice{}
	}
	j := 0
	for i := range s.addrs {
		for j < len(o.addrs) && o.compare(j, s, i) < 0 {
			j++
		}
		same := j < len(o.addrs) && o.compare(j, s, i) == 0 && s.addrs[i].hash == o.addrs[j].hash &&
			bytes.Equal(s.labels(i), o.labels(j)) && s.zone(i) == o.zone(j) && s.alone(i) && o.alone(j)
		if !same && !f(i) {
			return false
		}
	}
	return true
}

// alone reports whether no other endpoint of the slice has the address of endpoint i.
func (s *Slice) alone(i int) bool {
	return (i == 0 || s.compare(i-1, s, i) != 0) && (i+1 == len(s.addrs) || s.compare(i+1, s, i) != 0)
}

// takeOut notes the endpoints that a slice no longer has; false when one is not found.
func (b *serviceBuilder) takeOut(r *Service, was, is *Slice) bool {
	if was == nil || len(was.addrs) == 0 {
		return true
	}
	g := r.groupOf(was.ports)
	return was.differs(is, func(i int) bool {
		at := r.position(was, i, g)
		if at < 0 {
			return false
		}
		b.cuts = append(b.cuts, cut{at: at, out: true})
		r.groups[g].count--
		return true
	})
}

// position finds endpoint i of a slice in the record, -1 when it is not there.
func (s *Service) position(f *Slice, i, g int) int {
	h := f.addrs[i].hash
	for at := s.eps.first(h); at < s.eps.len() && s.eps.at(at).hash == h; at++ {
		x := s.eps.at(at)
		zone := ""
		if x.zone > 0 {
			zone = s.zones[x.zone-1]
		}
		if int(x.group&^groupV6) == g && s.address(x) == f.address(i) && bytes.Equal(s.labels(x), f.labels(i)) && zone == f.zone(i) {
			return at
		}
	}
	return -1
}

// putIn notes the endpoints that a slice has and did not have.
func (b *serviceBuilder) putIn(r *Service, is, was *Slice) {
	if is == nil || len(is.addrs) == 0 {
		return
	}
	g := r.groupOf(is.ports)
	is.differs(was, func(i int) bool {
		r.groups[g].count++
		ep := r.encode(is, i, g, is.labels(i), is.addrs[i].hash)
		at := r.eps.first(ep.hash)
		for at < r.eps.len() && r.eps.at(at).hash == ep.hash && r.compareEndpoints(r.eps.at(at), &ep) < 0 {
			at++
		}
		b.cuts = append(b.cuts, cut{at: at, ep: ep, addr: is.address(i)})
		return true
	})
}

// splice makes the endpoints of a record of those that it has and the cuts. False means that one endpoint was to be taken
// out twice: another that is the same was meant.
func (b *serviceBuilder) splice(r *Service) bool {
	slices.SortFunc(b.cuts, func(x, y cut) int {
		switch {
		case x.at != y.at:
			return x.at - y.at
		case x.out || y.out:
			return cmp.Compare(rank(x), rank(y))
		case x.ep.hash != y.ep.hash:
			return cmp.Compare(x.ep.hash, y.ep.hash)
		}
		return r.compareEndpoints(&x.ep, &y.ep)
	})
	next, ok := r.eps.splice(b.cuts)
	r.eps = next
	return ok
}

func rank(c cut) int {
	if c.out {
		return 1
	}
	return 0
}

// packDistinct writes the addresses of endpoints of which no two have the same.
func (s *Service) packDistinct() {
	wide := s.countWide()
	v4, v6 := make([]byte, 0, 4*(s.eps.len()-wide)), make([]byte, 0, 16*wide)
	for e := range s.eps.all {
		if e.group&groupV6 == 0 {
			v4 = append(v4, byte(e.addr>>24), byte(e.addr>>16), byte(e.addr>>8), byte(e.addr))
		} else {
			v6 = append(v6, s.wide[e.addr*16:e.addr*16+16]...)
		}
	}
	s.v4, s.v6 = v4, v6
}
