package cluster

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// store holds the facts of all objects and publishes what readers look at. mu makes writers one at a time; readers take
// no lock.
type store struct {
	seed    maphash.Seed
	packing packing
	observe Observer
	now     func() time.Time

	mu         sync.Mutex
	generation [kindCount]uint32 // of the list being read; objects of an older one are swept at its end
	fresh      [kindCount]bool   // the list being read replaces what is held, whatever the versions say
	namespaces map[string]*namespaceEntry
	services   entries
	imports    entries
	slices     map[string]*sliceEntry
	pods       map[string]*podEntry
	dirty      []*entry
	record     serviceBuilder
	slice      sliceBuilder
	arrived    time.Time // when the object that is being applied was read; zero when that is not to be measured
	live       bool      // what is held counts as everything, so changes are published at once
	news       bool      // everything has been read from the API server: slices tell of changes, no longer of what was before

	kick chan struct{} // tells the publisher that something is dirty; holds one

	serial, importSerial atomic.Int64 // Unix time of the last change, 0 before the first
	changes              atomic.Uint64

	nsTable   published[string]
	svcTable  published[Service] // Services and ServiceImports by name
	vipTable  index              // Services by address
	extTable  index              // Services by external address
	sliceTab  published[Slice]   // slices by the addresses they serve
	podTable  published[Pod]     // pods by address
	publishes atomic.Uint64      // records built and published
}

// published is a slab with the index that leads to its objects.
type published[T any] struct {
	slab[T]
	index
}

type namespaceEntry struct {
	id, hash, generation uint32
}

// entries are the Services or the ServiceImports by namespace/name.
type entries struct {
	byKey    map[string]*entry
	imported bool
}

// entry is a Service or ServiceImport, or no more than the slices that say they belong to one.
type entry struct {
	name, namespace string
	imported        bool
	base            []byte // wire labels of name.namespace.svc
	hash, id        uint32
	generation      uint32
	facts           *serviceFacts // nil: there are only slices
	slices          []*sliceEntry
	published       *Service

	dirty     bool
	notBefore time.Time   // a rebuild that took t is followed by 4 t of rest
	triggered []time.Time // when the changes not yet published began
	read      []time.Time // when they were read
}

type sliceEntry struct {
	facts      *Slice
	id         uint32
	generation uint32
	version    uint64
	service    *entry
	imported   *entry
}

type podEntry struct {
	id, generation uint32
	version        uint64
}

// Pod is one pod that has an address.
type Pod struct {
	Addr      netip.Addr
	Name      string
	Namespace string
	Labels    []string // key, value, key, value; nil unless Config.PodLabels
}

func newStore(p packing, o Observer, now func() time.Time) *store {
	s := &store{
		seed: maphash.MakeSeed(), packing: p, observe: o, now: now, kick: make(chan struct{}, 1),
		namespaces: map[string]*namespaceEntry{}, services: entries{byKey: map[string]*entry{}}, imports: entries{byKey: map[string]*entry{}, imported: true},
		slices: map[string]*sliceEntry{}, pods: map[string]*podEntry{},
	}
	s.record.seed, s.slice.seed = s.seed, s.seed
	return s
}

// hashName hashes a namespace and a name; they cannot run into each other, since the first is hashed by itself.
func (s *store) hashName(namespace, name []byte, imported bool) uint32 {
	h := maphash.Bytes(s.seed, namespace)*31 + maphash.Bytes(s.seed, name)
	if imported {
		h++
	}
	return uint32(h ^ h>>32)
}

// hashAddr hashes an address.
func (s *store) hashAddr(a netip.Addr) uint32 {
	b := a.As16()
	return uint32(maphash.Bytes(s.seed, b[:]))
}

// changed notes that answers changed.
func (s *store) changed(imported bool) {
	s.changes.Add(1)
	if imported {
		s.importSerial.Store(s.now().Unix())
		return
	}
	s.serial.Store(s.now().Unix())
}

// begin opens a complete list of one kind. A fresh one was asked for without a version: it is the truth even where its
// versions are lower than those held, as after a restored backup.
func (s *store) begin(k kind, fresh bool) {
	s.mu.Lock()
	s.generation[k]++
	s.fresh[k] = fresh
	s.mu.Unlock()
}

// older reports whether an object is older than the one held. An API server may lag behind the one that was read before.
func (s *store) older(o *object, held uint64) bool {
	return o.version != 0 && o.version < held && !s.fresh[o.kind]
}

// end closes a complete list: what it did not name is gone.
func (s *store) end(k kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.generation[k]
	s.fresh[k] = false
	s.arrived = time.Time{}
	switch k {
	case kindNamespace:
		for name, e := range s.namespaces {
			if e.generation != g {
				s.dropNamespace(name)
			}
		}
	case kindService:
		s.sweepServices(&s.services, g)
	case kindImport:
		s.sweepServices(&s.imports, g)
	case kindSlice:
		for key, e := range s.slices {
			if e.generation != g {
				s.dropSlice(key)
			}
		}
	case kindPod:
		for key, e := range s.pods {
			if e.generation != g {
				s.dropPod(key)
			}
		}
	}
	s.wake()
}

func (s *store) sweepServices(m *entries, g uint32) {
	for key, e := range m.byKey {
		if e.facts != nil && e.generation != g {
			s.dropService(m, key)
		}
	}
}

// upsert takes an object that was added or changed.
func (s *store) upsert(o *object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arrived = o.read
	switch o.kind {
	case kindNamespace:
		s.putNamespace(o)
	case kindService:
		s.putService(&s.services, o)
	case kindImport:
		s.putService(&s.imports, o)
	case kindSlice:
		s.putSlice(o)
	case kindPod:
		s.putPod(o)
	}
	s.wake()
}

// remove takes an object that was deleted.
func (s *store) remove(o *object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arrived = o.read
	switch o.kind {
	case kindNamespace:
		s.dropNamespace(string(o.name))
	case kindService:
		s.removeService(&s.services, o)
	case kindImport:
		s.removeService(&s.imports, o)
	case kindSlice:
		if e := s.slices[o.key()]; e != nil && !s.older(o, e.version) {
			if s.news {
				s.trigger(o)
			}
			s.dropSlice(o.key())
		}
	case kindPod:
		if e := s.pods[o.key()]; e != nil && !s.older(o, e.version) {
			s.dropPod(o.key())
		}
	}
	s.wake()
}

func (s *store) wake() {
	if len(s.dirty) == 0 {
		return
	}
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func (s *store) putNamespace(o *object) {
	if e := s.namespaces[string(o.name)]; e != nil {
		e.generation = s.generation[kindNamespace]
		return
	}
	name := string(o.name)
	e := &namespaceEntry{id: s.nsTable.take(), hash: s.hashName(o.name, nil, false), generation: s.generation[kindNamespace]}
	s.nsTable.set(e.id, &name)
	s.nsTable.insert(e.hash, e.id)
	s.namespaces[name] = e
	s.changes.Add(1)
}

func (s *store) dropNamespace(name string) {
	e := s.namespaces[name]
	if e == nil {
		return
	}
	s.nsTable.remove(e.hash, e.id)
	s.nsTable.release(e.id)
	delete(s.namespaces, name)
	s.changes.Add(1)
}

// entryOf finds or makes the entry of a Service.
func (s *store) entryOf(m *entries, namespace, name string) *entry {
	key := namespace + "/" + name
	if e := m.byKey[key]; e != nil {
		return e
	}
	hash := s.hashName([]byte(namespace), []byte(name), m.imported)
	e := &entry{name: name, namespace: namespace, imported: m.imported, hash: hash}
	base, ok := appendLabels(nil, name)
	if ok {
		base, ok = appendLabels(base, namespace)
	}
	if ok {
		e.base = append(base, "\x03svc"...)
	}
	m.byKey[key] = e
	return e
}

func (s *store) markDirty(e *entry) {
	if s.news && !s.arrived.IsZero() && len(e.read) < maxTriggers {
		e.read = append(e.read, s.arrived)
	}
	if !e.dirty {
		e.dirty = true
		s.dirty = append(s.dirty, e)
	}
}

// forget drops an entry that nothing speaks of any more. A dirty one is dropped by the publisher.
func (s *store) forget(m *entries, e *entry) {
	if e.facts == nil && len(e.slices) == 0 && e.published == nil && !e.dirty {
		delete(m.byKey, e.namespace+"/"+e.name)
	}
}

func (s *store) putService(m *entries, o *object) {
	e := s.entryOf(m, intern(o.namespace), intern(o.name))
	e.generation = s.generation[o.kind]
	f := newServiceFacts(o)
	if e.facts != nil {
		if s.older(o, e.facts.version) {
			return
		}
		if e.facts.equal(f) {
			e.facts.version = f.version
			return
		}
	}
	e.facts = f
	s.markDirty(e)
	s.changed(m.imported)
}

func (s *store) removeService(m *entries, o *object) {
	if e := m.byKey[o.key()]; e != nil && e.facts != nil && !s.older(o, e.facts.version) {
		s.dropService(m, o.key())
	}
}

func (s *store) dropService(m *entries, key string) {
	e := m.byKey[key]
	if e == nil || e.facts == nil {
		return
	}
	e.facts = nil
	s.markDirty(e)
	s.changed(m.imported)
}

func (s *store) putSlice(o *object) {
	key := o.key()
	e := s.slices[key]
	if e != nil {
		e.generation = s.generation[kindSlice]
		if s.older(o, e.version) {
			return
		}
	}
	f := s.slice.build(o, s.packing)
	if e != nil && e.facts.equal(f) {
		e.version = o.version
		return
	}
	if e == nil {
		e = &sliceEntry{id: s.sliceTab.take(), generation: s.generation[kindSlice]}
		s.slices[key] = e
	}
	old := e.facts
	e.version, e.facts = o.version, f
	s.publishSlice(e, old)
	s.attach(e, old)
	if s.news {
		s.trigger(o)
	}
	s.changed(f.imported != "" && f.Service == "")
}

// publishSlice makes reverse lookups see the slice. What is new is entered before what is gone is taken out, so that an
// address that stays is found at every moment.
func (s *store) publishSlice(e *sliceEntry, old *Slice) {
	f := e.facts
	s.sliceTab.set(e.id, f)
	indexed := func(x *Slice) bool { return x != nil && x.Service != "" }
	if indexed(f) {
		for i := range f.addrs {
			a := f.address(i)
			if i > 0 && a == f.address(i-1) {
				continue
			}
			if indexed(old) {
				if _, had := old.search(a); had {
					continue
				}
			}
			s.sliceTab.insert(s.hashAddr(a), e.id)
		}
	}
	if indexed(old) {
		for i := range old.addrs {
			a := old.address(i)
			if i > 0 && a == old.address(i-1) {
				continue
			}
			if indexed(f) {
				if _, has := f.search(a); has {
					continue
				}
			}
			s.sliceTab.remove(s.hashAddr(a), e.id)
		}
	}
}

// attach ties a slice to the Service and the ServiceImport that it names now.
func (s *store) attach(e *sliceEntry, old *Slice) {
	f := e.facts
	s.tie(&s.services, &e.service, e, f.Namespace, f.Service)
	s.tie(&s.imports, &e.imported, e, f.Namespace, f.imported)
}

func (s *store) tie(m *entries, to **entry, e *sliceEntry, namespace, name string) {
	if have := *to; have != nil {
		if have.name == name && have.namespace == namespace {
			s.markDirty(have)
			return
		}
		s.untie(to, e)
	}
	if name == "" {
		return
	}
	*to = s.entryOf(m, namespace, name)
	(*to).slices = append((*to).slices, e)
	s.markDirty(*to)
}

func (s *store) untie(to **entry, e *sliceEntry) {
	if have := *to; have != nil {
		have.slices = slices.DeleteFunc(have.slices, func(x *sliceEntry) bool { return x == e })
		s.markDirty(have)
		*to = nil
	}
}

func (s *store) dropSlice(key string) {
	e := s.slices[key]
	if e == nil {
		return
	}
	imported := e.facts.imported != "" && e.facts.Service == ""
	old := e.facts
	e.facts = &Slice{}
	s.untie(&e.service, e)
	s.untie(&e.imported, e)
	s.publishSlice(e, old)
	s.sliceTab.release(e.id)
	delete(s.slices, key)
	s.changed(imported)
}

// trigger notes when the change began that an EndpointSlice brings, for the programming latency.
func (s *store) trigger(o *object) {
	if len(o.triggered) == 0 {
		return
	}
	at, err := time.Parse(time.RFC3339Nano, string(o.triggered))
	if err != nil {
		return
	}
	if e := s.services.byKey[string(o.namespace)+"/"+string(o.label(labelServiceName))]; e != nil && len(e.triggered) < maxTriggers {
		e.triggered = append(e.triggered, at)
	}
}

// maxTriggers bounds what is kept of the times of changes to one Service between two publications.
const maxTriggers = 64
