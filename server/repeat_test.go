package server

import (
	"hash/maphash"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/loop"
)

// seek looks for a packet, keeps a memo of it as a walk would, and reports whether there was one.
func (m *repeats) seek(name string) bool {
	packet := query(name, 1, 0)
	at, hash, keep := m.find(packet, 0)
	if at != nil {
		return true
	}
	if keep {
		set := &m.sets[hash>>32%repeatSets]
		for i, h := range set.hash {
			if h&^lately == hash {
				set.memo[i] = &memo{block: packet, asked: uint16(len(packet)), until: math.MaxInt64}
			}
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
			if phase == 0 && round == 3 && found < names*8/10 {
				t.Errorf("%d of %d found in an empty table", found, names)
			}
		}
		if found < names*8/10 {
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
