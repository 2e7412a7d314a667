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
	spaces     map[string]*space // of namespaces that exist, or that a Service or slice is in
	services   entries
	imports    entries
	slices     map[string]*sliceEntry
	pods       map[string]*podEntry
	dirty      []*entry // in the order in which they changed
	waiting    int      // how many of dirty the publisher knows of
	spare      *pending // to be used again
	record     serviceBuilder
	slice      sliceBuilder
	key        []byte    // of the object that is being applied
	arrived    time.Time // when the object that is being applied was read; zero when that is not to be measured
	live       bool      // what is held counts as everything, so changes are published at once
	news       bool      // everything has been read from the API server: slices tell of changes, no longer of what was before

	kick chan struct{} // tells the publisher that something is dirty; holds one

	serial, importSerial atomic.Int64 // Unix time of the last change, 0 before the first
	changes              atomic.Uint64
	version              atomic.Uint64 // moves when readers can see what has changed
	told                 uint64        // the changes that it has moved for; writer only

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

// space tells Services whether their namespace exists, so that nobody has to look it up beside them.
type space struct {
	live  atomic.Bool
	users int // entries in it; writer only
}

// spaceOf finds or makes the space of a namespace.
func (s *store) spaceOf(namespace string) *space {
	x := s.spaces[namespace]
	if x == nil {
		x = new(space)
		s.spaces[namespace] = x
	}
	return x
}

// vacate forgets a space that nothing needs.
func (s *store) vacate(namespace string) {
	if x := s.spaces[namespace]; x.users == 0 && !x.live.Load() {
		delete(s.spaces, namespace)
	}
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
	odd             bool   // as in Service
	space           *space
	hash, id        uint32
	generation      uint32
	facts           *serviceFacts // nil: there are only slices
	slices          []*sliceEntry
	published       *Service

	pending   *pending      // changes not yet published; nil for none
	notBefore time.Time     // a build that took t is followed by 4 t of rest
	cost      time.Duration // of a build, at most a little more than it was before
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
		namespaces: map[string]*namespaceEntry{}, spaces: map[string]*space{}, services: entries{byKey: map[string]*entry{}}, imports: entries{byKey: map[string]*entry{}, imported: true},
		slices: map[string]*sliceEntry{}, pods: map[string]*podEntry{},
	}
	s.record.seed, s.slice.seed = s.seed, s.seed
	return s
}

// hashName hashes wire labels: those of a Service and its namespace, with svc behind them, or of a namespace.
func (s *store) hashName(labels []byte, imported bool) uint32 {
	h := maphash.Bytes(s.seed, labels)
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

// moved notes that readers see all changes so far.
func (s *store) moved() {
	if n := s.changes.Load(); n != s.told {
		s.told = n
		s.version.Add(1)
	}
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
	s.moved()
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
	s.settle()
	s.moved()
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
			s.dropSlice(o.key())
			s.trigger(o)
		}
	case kindPod:
		if e := s.pods[o.key()]; e != nil && !s.older(o, e.version) {
			s.dropPod(o.key())
		}
	}
	s.settle()
	s.moved()
}

func (s *store) wake() {
	if len(s.dirty) == s.waiting {
		return
	}
	s.waiting = len(s.dirty)
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
	e := &namespaceEntry{id: s.nsTable.take(), hash: s.hashName(o.name, false), generation: s.generation[kindNamespace]}
	s.nsTable.set(e.id, &name)
	s.nsTable.insert(e.hash, e.id)
	s.namespaces[name] = e
	s.spaceOf(name).live.Store(true)
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
	s.spaceOf(name).live.Store(false)
	s.vacate(name)
	s.changes.Add(1)
}

// entryOf finds or makes the entry of a Service.
func (s *store) entryOf(m *entries, namespace, name string) *entry {
	key := namespace + "/" + name
	if e := m.byKey[key]; e != nil {
		return e
	}
	e := &entry{name: name, namespace: namespace, imported: m.imported, space: s.spaceOf(namespace)}
	e.space.users++
	base, ok := appendLabels(nil, name)
	if ok {
		base, ok = appendLabels(base, namespace)
	}
	if ok {
		e.base = append(base, labelSvc...)
		var plain [3 * 64]byte
		e.odd = string(e.base) != string(appendBase(plain[:0], []byte(name), []byte(namespace)))
		e.hash = s.hashName(e.base, m.imported)
	}
	m.byKey[key] = e
	return e
}

// forget drops an entry that nothing speaks of any more. A dirty one is dropped by the publisher.
func (s *store) forget(m *entries, e *entry) {
	if e.facts == nil && len(e.slices) == 0 && e.published == nil && e.pending == nil {
		delete(m.byKey, e.namespace+"/"+e.name)
		e.space.users--
		s.vacate(e.namespace)
	}
}

func (s *store) putService(m *entries, o *object) {
	s.key = o.appendKey(s.key[:0])
	e := m.byKey[string(s.key)]
	if e == nil {
		e = s.entryOf(m, intern(o.namespace), intern(o.name))
	}
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
	s.change(e).rebuild = true
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
	s.change(e).rebuild = true
	s.changed(m.imported)
}

func (s *store) putSlice(o *object) {
	s.key = o.appendKey(s.key[:0])
	e := s.slices[string(s.key)]
	if e != nil {
		e.generation = s.generation[kindSlice]
		if s.older(o, e.version) {
			return
		}
	}
	var old *Slice
	if e != nil {
		old = e.facts
	}
	f := s.slice.build(o, s.packing, old)
	if e != nil && e.facts.equal(f) {
		e.version = o.version
		return
	}
	f = f.clone()
	if e == nil {
		e = &sliceEntry{id: s.sliceTab.take(), generation: s.generation[kindSlice]}
		s.slices[string(s.key)] = e
	}
	e.version, e.facts = o.version, f
	s.publishSlice(e, old)
	s.attach(e, old)
	s.trigger(o)
	s.changed(f.imported != "" && f.Service == "")
}

// publishSlice makes reverse lookups see the slice. What is new is entered before what is gone is taken out, so that an
// address that stays is found at every moment.
func (s *store) publishSlice(e *sliceEntry, old *Slice) {
	f := e.facts
	s.sliceTab.set(e.id, f)
	indexed := func(x *Slice) *Slice {
		if x == nil || x.Service == "" {
			return &Slice{}
		}
		return x
	}
	was, is := indexed(old), indexed(f)
	is.missing(was, func(a netip.Addr) { s.sliceTab.insert(s.hashAddr(a), e.id) })
	was.missing(is, func(a netip.Addr) { s.sliceTab.remove(s.hashAddr(a), e.id) })
}

// attach ties a slice to the Service and the ServiceImport that it names now.
func (s *store) attach(e *sliceEntry, old *Slice) {
	f := e.facts
	s.tie(&s.services, &e.service, e, old, f.Service)
	s.tie(&s.imports, &e.imported, e, old, f.imported)
}

func (s *store) tie(m *entries, to **entry, e *sliceEntry, old *Slice, name string) {
	namespace := e.facts.Namespace
	if have := *to; have != nil {
		if have.name == name && have.namespace == namespace {
			s.change(have).edit(have, e, old, e.facts)
			return
		}
		s.untie(to, e, old)
	}
	if name == "" {
		return
	}
	*to = s.entryOf(m, namespace, name)
	(*to).slices = append((*to).slices, e)
	s.change(*to).edit(*to, e, nil, e.facts)
}

func (s *store) untie(to **entry, e *sliceEntry, old *Slice) {
	if have := *to; have != nil {
		have.slices = slices.DeleteFunc(have.slices, func(x *sliceEntry) bool { return x == e })
		s.change(have).edit(have, e, old, nil)
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
	s.untie(&e.service, e, old)
	s.untie(&e.imported, e, old)
	s.publishSlice(e, old)
	s.sliceTab.release(e.id)
	delete(s.slices, key)
	s.changed(imported)
}

// trigger notes when the change began that an EndpointSlice brings, for the programming latency.
func (s *store) trigger(o *object) {
	if !s.news || len(o.triggered) == 0 {
		return
	}
	at, err := time.Parse(time.RFC3339Nano, string(o.triggered))
	if err != nil {
		return
	}
	if e := s.services.byKey[string(o.namespace)+"/"+string(o.label(labelServiceName))]; e != nil && e.pending != nil && len(e.pending.triggered) < maxTimes {
		e.pending.triggered = append(e.pending.triggered, at)
	}
}
