package cluster

import (
	"cmp"
	"net/netip"
	"slices"
)

// Namespace reports whether a namespace exists (and passes Config.NamespaceSelector).
func (c *Cluster) Namespace(name []byte) bool {
	s := c.store
	for p := s.nsTable.probe(s.hashName(name, false)); ; {
		id, ok := p.next()
		if !ok {
			return false
		}
		if n := s.nsTable.get(id); n != nil && *n == string(name) {
			return true
		}
	}
}

const labelSvc = "\x03svc"

// appendBase appends the wire labels of name.namespace.svc.
func appendBase(dst, name, namespace []byte) []byte {
	dst = append(append(dst, byte(len(name))), name...)
	dst = append(append(dst, byte(len(namespace))), namespace...)
	return append(dst, labelSvc...)
}

// Service finds the record of a Service, nil when there is none.
func (c *Cluster) Service(namespace, name []byte) *Service { return c.find(namespace, name, false) }

// Import finds the record of a ServiceImport, nil when there is none.
func (c *Cluster) Import(namespace, name []byte) *Service { return c.find(namespace, name, true) }

func (c *Cluster) find(namespace, name []byte, imported bool) *Service {
	var buf [3 * 64]byte
	return c.ByBase(appendBase(buf[:0], name, namespace), imported)
}

// ByBase finds the record of a Service or ServiceImport by the wire labels of name.namespace.svc in lower case, nil when
// there is none.
func (c *Cluster) ByBase(base []byte, imported bool) *Service {
	s := c.store
	for p := s.svcTable.probe(s.hashName(base, imported)); ; {
		id, ok := p.next()
		if !ok {
			return nil
		}
		if r := s.svcTable.get(id); r != nil && r.Imported == imported && string(r.base) == string(base) && !r.odd {
			return r
		}
	}
}

// InNamespace reports whether the Service's namespace exists (and passes Config.NamespaceSelector).
func (r *Service) InNamespace() bool { return r.space.live.Load() }

// owns reports whether a is an address of the Service itself.
func (r *Service) owns(a netip.Addr) bool {
	if r.Kind != ClusterIP || !a.Is4() {
		return r.hasIP(a)
	}
	b := a.As4()
	for i := 0; i < len(r.v4); i += 4 {
		if [4]byte(r.v4[i:]) == b {
			return true
		}
	}
	return false
}

func (r *Service) hasIP(a netip.Addr) bool { return slices.Contains(r.ips, a) }

func (r *Service) hasExternal(text string) bool { return slices.Contains(r.External, text) }

// Services walks over the Services that have an address. The zero Services has none.
type Services struct {
	s        *store
	p        probe
	a        netip.Addr
	external bool
}

// ByClusterIP finds the Services whose own address a is.
func (c *Cluster) ByClusterIP(a netip.Addr) Services {
	return Services{s: c.store, p: c.store.vipTable.probe(c.store.hashAddr(a)), a: a}
}

// ByExternalIP finds the Services whose external address a is.
func (c *Cluster) ByExternalIP(a netip.Addr) Services {
	return Services{s: c.store, p: c.store.extTable.probe(c.store.hashAddr(a)), a: a, external: true}
}

// Next gives the next Service, nil at the end.
func (w *Services) Next() *Service {
	for {
		id, ok := w.p.next()
		if !ok {
			return nil
		}
		r := w.s.svcTable.get(id)
		switch {
		case r == nil || r.Imported:
		case w.external && r.hasExternalAddr(w.a), !w.external && r.owns(w.a):
			return r
		}
	}
}

func (r *Service) hasExternalAddr(a netip.Addr) bool {
	for _, t := range r.External {
		if x, ok := parseAddr([]byte(t)); ok && x == a {
			return true
		}
	}
	return false
}

// Endpoints walks over the endpoints that serve an address, whatever their Service.
type Endpoints struct {
	s  *store
	p  probe
	a  netip.Addr
	at *Slice
	i  int
}

// ByEndpointIP finds the endpoints with address a.
func (c *Cluster) ByEndpointIP(a netip.Addr) Endpoints {
	return Endpoints{s: c.store, p: c.store.sliceTab.probe(c.store.hashAddr(a)), a: a}
}

// Next gives the slice of the next endpoint and the endpoint's number in it; nil at the end.
func (w *Endpoints) Next() (*Slice, int) {
	if w.at != nil && w.i+1 < len(w.at.addrs) && w.at.address(w.i+1) == w.a {
		w.i++
		return w.at, w.i
	}
	for {
		id, ok := w.p.next()
		if !ok {
			w.at = nil
			return nil, 0
		}
		sl := w.s.sliceTab.get(id)
		if sl == nil || sl.Service == "" {
			continue
		}
		if i, ok := sl.search(w.a); ok {
			w.at, w.i = sl, i
			return sl, i
		}
	}
}

// Pods walks over the pods that have an address.
type Pods struct {
	s *store
	p probe
	a netip.Addr
}

// ByPodIP finds the pods with address a; there are none unless Config.Pods.
func (c *Cluster) ByPodIP(a netip.Addr) Pods {
	return Pods{c.store, c.store.podTable.probe(c.store.hashAddr(a)), a}
}

// Next gives the next pod, nil at the end.
func (w *Pods) Next() *Pod {
	for {
		id, ok := w.p.next()
		if !ok {
			return nil
		}
		if p := w.s.podTable.get(id); p != nil && p.Addr == w.a {
			return p
		}
	}
}

// All gives every Service, or every ServiceImport, sorted by name and namespace. It is meant for zone transfers: it takes
// the writers' lock while it collects, and allocates.
func (c *Cluster) All(imported bool) []*Service {
	s := c.store
	s.mu.Lock()
	m := &s.services
	if imported {
		m = &s.imports
	}
	list := make([]*Service, 0, len(m.byKey))
	for _, e := range m.byKey {
		if e.published != nil {
			list = append(list, e.published)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b *Service) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Namespace, b.Namespace))
	})
	return list
}

// Slices gives the EndpointSlices of a Service, as All for zone transfers.
func (c *Cluster) Slices(r *Service) []*Slice {
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &s.services
	if r.Imported {
		m = &s.imports
	}
	e := m.byKey[r.Namespace+"/"+r.Name]
	if e == nil {
		return nil
	}
	var list []*Slice
	for _, x := range e.slices {
		list = append(list, x.facts)
	}
	return list
}
