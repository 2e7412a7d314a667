package cluster

import "sync/atomic"

// index maps 32-bit hashes to ids. One goroutine writes (the store's mutex makes it one at a time), any number read with
// plain loads and without locks. A hit is a hint: the reader looks at the object behind the id and compares it with what
// it searched for, so that a reader who comes late gets a miss, never a wrong object.
type index struct {
	table atomic.Pointer[indexTable]
	live  int // entries; writer only
	dead  int // slots of removed entries; writer only
}

type indexTable struct {
	mask  uint32
	slots []atomic.Uint64 // hash<<32 | id+firstID; freeSlot and deadSlot are no entries
}

const (
	freeSlot = 0
	deadSlot = 1
	firstID  = 2
	minSlots = 16
)

func newIndexTable(slots int) *indexTable {
	return &indexTable{mask: uint32(slots - 1), slots: make([]atomic.Uint64, slots)}
}

func (t *indexTable) put(h uint32, v uint64) (reused bool) {
	for i := h; ; i++ {
		slot := &t.slots[i&t.mask]
		if old := slot.Load(); old == freeSlot || old == deadSlot {
			slot.Store(v)
			return old == deadSlot
		}
	}
}

// insert adds an entry. The object must be reachable under id before.
func (x *index) insert(h, id uint32) {
	t := x.table.Load()
	if t == nil || (x.live+x.dead+1)*3 > len(t.slots)*2 {
		t = x.rebuild(t)
	}
	if t.put(h, uint64(h)<<32|uint64(id+firstID)) {
		x.dead--
	}
	x.live++
}

// remove takes one entry out; it is not an error when there is none.
func (x *index) remove(h, id uint32) {
	t := x.table.Load()
	if t == nil {
		return
	}
	want := uint64(h)<<32 | uint64(id+firstID)
	for i := h; ; i++ {
		slot := &t.slots[i&t.mask]
		switch slot.Load() {
		case freeSlot:
			return
		case want:
			slot.Store(deadSlot)
			x.live--
			x.dead++
			return
		}
	}
}

// rebuild publishes a table with room for twice the live entries and without the dead ones.
func (x *index) rebuild(old *indexTable) *indexTable {
	slots := minSlots
	for slots < (x.live+1)*2 {
		slots *= 2
	}
	t := newIndexTable(slots)
	if old != nil {
		for i := range old.slots {
			if v := old.slots[i].Load(); v > deadSlot {
				t.put(uint32(v>>32), v)
			}
		}
	}
	x.dead = 0
	x.table.Store(t)
	return t
}

// probe walks over the ids that are filed under one hash.
type probe struct {
	t *indexTable
	h uint32
	i uint32
}

func (x *index) probe(h uint32) probe { return probe{x.table.Load(), h, h} }

// next gives the next id, false when there are no more.
func (p *probe) next() (uint32, bool) {
	if p.t == nil {
		return 0, false
	}
	for {
		v := p.t.slots[p.i&p.t.mask].Load()
		if v == freeSlot {
			return 0, false
		}
		p.i++
		if uint32(v>>32) == p.h && uint32(v) >= firstID {
			return uint32(v) - firstID, true
		}
	}
}

// slab keeps published objects under small numbers. One writer, readers without locks; numbers are used again.
type slab[T any] struct {
	all  atomic.Pointer[[]atomic.Pointer[T]] // a longer one takes its place; who still reads the old one is late
	free []uint32                            // writer only
	used uint32                              // numbers ever given out; writer only
}

// take reserves a number whose object is nil until set.
func (s *slab[T]) take() uint32 {
	if n := len(s.free); n > 0 {
		id := s.free[n-1]
		s.free = s.free[:n-1]
		return id
	}
	var old []atomic.Pointer[T]
	if p := s.all.Load(); p != nil {
		old = *p
	}
	if int(s.used) == len(old) {
		longer := make([]atomic.Pointer[T], len(old)+len(old)/8+64)
		for i := range old {
			longer[i].Store(old[i].Load())
		}
		s.all.Store(&longer)
	}
	s.used++
	return s.used - 1
}

func (s *slab[T]) set(id uint32, v *T) { (*s.all.Load())[id].Store(v) }

func (s *slab[T]) get(id uint32) *T { return (*s.all.Load())[id].Load() }

// release empties a number and lets it be used again.
func (s *slab[T]) release(id uint32) {
	s.set(id, nil)
	s.free = append(s.free, id)
}
