package server

import (
	"hash/maphash"
	"math"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

// seek looks for a packet, keeps a memo of it as a walk would, and reports whether there was one.
func (m *repeats) seek(name string) bool {
	packet := query(name, 1, 0)
	at, hash, keep := m.find(packet, 0)
	if at != nil {
		return true
	}
	if keep {
		if set, i := m.at(hash); set != nil {
			set.memo[i] = &memo{block: packet, asked: uint16(len(packet)), until: math.MaxInt64}
		}
	}
	return false
}

func newRepeats() *repeats { return &repeats{seed: maphash.MakeSeed(), table: new(Table)} }

// TestRepeatsFollowWhatIsAsked moves on to other names, again and again: those of before must make room soon.
func TestRepeatsFollowWhatIsAsked(t *testing.T) {
	m := newRepeats()
	const names = 2 * repeatSets // half of what there is room for
	for phase := range 5 {
		found := 0
		for round := range 10 {
			found = 0
			for i := range names {
				if m.seek(strconv.Itoa(phase) + "." + strconv.Itoa(i) + ".example.") {
					found++
				}
			}
			if phase == 0 && round == 3 && found < names*95/100 {
				t.Errorf("%d of %d found in an empty table", found, names)
			}
		}
		if found < names*95/100 {
			t.Errorf("phase %d: %d of %d found", phase, found, names)
		}
	}
}

// TestNamesAskedOnceDriveNothingOut asks some names often, beside a hundred times as many that never come again.
func TestNamesAskedOnceDriveNothingOut(t *testing.T) {
	m := newRepeats()
	const names = 500
	once, found, asked := 0, 0, 0
	for round := range 100 {
		for i := range names {
			hit := m.seek("often." + strconv.Itoa(i) + ".example.")
			if round >= 3 {
				asked++
				if hit {
					found++
				}
			}
			for range 2 { // the second time they are kept
				m.seek("once." + strconv.Itoa(once) + ".example.")
				m.seek("once." + strconv.Itoa(once) + ".example.")
				once++
			}
		}
	}
	if found < asked*95/100 {
		t.Errorf("%d of %d found", found, asked)
	}
}

// TestNothingIsKeptWhereLittleIsFound asks for many more names than there are places, one after the other at random, and
// then for few.
func TestNothingIsKeptWhereLittleIsFound(t *testing.T) {
	m := newRepeats()
	random := rand.New(rand.NewPCG(1, 1))
	const many, few = 25 * repeatSets, 1000
	for asked := 0; m.skip == 0; asked++ {
		if asked == 1<<20 {
			t.Fatal("all are kept still")
		}
		m.seek(strconv.Itoa(random.IntN(many)) + ".example.")
	}
	m.skip = 0 // they are over
	found := 0
	for range 100 * few {
		if m.seek(strconv.Itoa(random.IntN(few)) + ".other.example.") {
			found++
		}
	}
	if found < 95*few {
		t.Errorf("%d of %d found", found, 100*few)
	}
}

// TestNothingIsLookedForWhereNothingCanBeKept refuses answer after answer, then keeps one.
func TestNothingIsLookedForWhereNothingCanBeKept(t *testing.T) {
	l, err := loop.New(0, loop.System())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m, q := newRepeats(), chain.NewWorker(l, 1).Get()
	asked := 0
	wanted := func(now time.Duration) bool { // whether the answer to a packet that comes again is to be kept
		asked++
		packet := query(strconv.Itoa(asked)+".example.", 1, 0)
		m.find(packet, now)
		_, hash, keep := m.find(packet, now)
		if keep {
			m.keep(q, hash, packet, nil) // which no router gave: it can't be kept
		}
		return keep
	}
	now := q.Now()
	for i := range maxVain {
		if !wanted(now) {
			t.Fatalf("after %d refusals no answer is wanted", i)
		}
	}
	if wanted(now) || wanted(now+refusedFor-1) {
		t.Error("answers that could not be kept are wanted still")
	}
	if !wanted(now + refusedFor) {
		t.Error("nothing is tried again")
	}
	m.kept = true
	for range 2 * maxVain {
		wanted(now + refusedFor)
	}
	if !wanted(now + refusedFor) {
		t.Error("where an answer was kept no other is wanted")
	}
}

// TestEffectsEnd has more effects than there may be: all begins anew, and no count is lost. When the socket is closed nothing is
// counted any more.
func TestEffectsEnd(t *testing.T) {
	r := metrics.New(1)
	repeated, one, versions := r.Counter("repeated", ""), r.Counter("one", ""), make([]atomic.Uint64, maxEffects+1)
	m := repeats{metrics: r, repeated: repeated}
	table := new(Table)
	m.begin(table)
	of := func(i int) *effects {
		return m.effectsOf(&chain.Repeat{Cells: []*atomic.Uint64{one.Cell()}, Guards: []chain.Guard{{Version: &versions[i]}}})
	}
	for i := range maxEffects {
		e := of(i)
		e.tally.Add(1)
		if of(i) != e {
			t.Fatalf("other effects for the same, at %d", i)
		}
	}
	if of(maxEffects) != nil {
		t.Error("there is room for one more")
	}
	m.begin(table)
	last := of(maxEffects)
	last.tally.Add(1)
	m.close()
	last.tally.Add(1)
	m.begin(table)
	if repeated.Value() != maxEffects+1 || one.Value() != maxEffects+1 || m.table != nil {
		t.Errorf("%d and %d counted of %d", repeated.Value(), one.Value(), maxEffects+1)
	}
}

// later leaves every query parked.
type later struct{}

func (later) Serve(q *chain.Query) chain.Outcome {
	if _, ok := q.Park(); !ok {
		return chain.Failed
	}
	return chain.Parked
}

func (later) Resume(*chain.Query, chain.Event) chain.Outcome { return chain.Failed }

// TestNothingIsLookedForWhereAllAnswersComeLater parks every query, as a server that only forwards does: none is answered within its
// batch.
func TestNothingIsLookedForWhereAllAnswersComeLater(t *testing.T) {
	bed := newBed(t, false)
	var b chain.Builder
	b.Add("later", later{})
	table := &Table{Label: "dns://:53", Config: &chain.Config{}}
	table.Add(wire.Root, b.Chain())
	bed.u.table.Store(table)
	m := &bed.u.repeats
	m.begin(table)
	bed.u.w.BeginBatch()
	for i := range maxVain {
		if m.idle > 0 {
			t.Fatalf("idle after %d", i)
		}
		packet := query(strconv.Itoa(i)+".example.", 1, 0)
		for range 2 { // the second time it is to be kept
			if bed.fill(t, packet) != 1 {
				t.Fatal("the packet has not come")
			}
			bed.walk(0)
			bed.u.w.receiver.rearm(1)
		}
	}
	if now := bed.u.w.Loop.Now(); m.idle <= now {
		t.Errorf("packets are looked for at %v, idle until %v", now, m.idle)
	}
}
