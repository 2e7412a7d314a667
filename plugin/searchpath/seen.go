package searchpath

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/godwit-dns/godwit/wire"
)

const (
	// stepWithin is how long a stub may take from one name of its walk to the next.
	stepWithin = 10 * time.Second
	// believed is how long a walk counts as seen. Then the stub makes it by itself once more.
	believed = time.Hour
	// pause is how long a walk that came to nothing is left alone.
	pause = 30 * time.Second
)

// seen knows which pods were seen to walk for which names. A stub that walks asks for the name in its first suffix, is told
// that it does not exist, and then asks for it in the second and the third, as nobody does who spells names out: the third
// is the cluster's domain itself, which has no Services. (The second alone would prove nothing: a Service and an endpoint of
// another may be called so.) It is a table of fixed size without locks: an entry that is overwritten costs one walk of a
// stub's own.
type seen struct {
	seed    maphash.Seed
	entries [seenSets * seenWays]atomic.Uint64
}

const (
	seenSets = 4096 // with seenWays, 128 KiB in all
	seenWays = 4
)

// An entry is, from its top: 32 bits of the key, 30 of time in seconds of the loops' clock and one, 2 of progress. Zero is
// no entry.
const (
	progressBits = 2
	timeBits     = 30
	tagShift     = progressBits + timeBits
)

// Progress of an entry: the number of suffixes in which the name was asked for, in their order.
const (
	failed = 0 // a walk came to nothing
	begun  = 1
	proved = 3
)

func newSeen() *seen { return &seen{seed: maphash.MakeSeed()} }

// key is that of a name, without its suffix, for a client.
func (s *seen) key(c *client, base wire.Name) uint64 {
	return maphash.Bytes(s.seed, base) ^ c.id*0x9E3779B97F4A7C15
}

func seconds(now time.Duration) uint64 { return (uint64(now/time.Second) + 1) & (1<<timeBits - 1) }

// age is how long before now an entry was written.
func age(e uint64, now time.Duration) time.Duration {
	return time.Duration(seconds(now)-e>>progressBits&(1<<timeBits-1)) * time.Second
}

// find gives the key's entry, nil for none.
func (s *seen) find(key uint64) (*atomic.Uint64, uint64) {
	set := s.set(key)
	for i := range set {
		if e := set[i].Load(); e != 0 && e>>tagShift == key>>32 {
			return &set[i], e
		}
	}
	return nil, 0
}

func (s *seen) set(key uint64) []atomic.Uint64 {
	at := int(key%seenSets) * seenWays
	return s.entries[at : at+seenWays]
}

// put writes the key's entry, in the place of the oldest of its set if it is new.
func (s *seen) put(key uint64, progress uint64, now time.Duration) {
	at, _ := s.find(key)
	if at == nil {
		set := s.set(key)
		at = &set[0]
		for i := range set {
			e := set[i].Load()
			if e == 0 {
				at = &set[i]
				break
			}
			if age(e, now) > age(at.Load(), now) {
				at = &set[i]
			}
		}
	}
	at.Store(key>>32<<tagShift | seconds(now)<<progressBits | progress)
}

// step notes a query for a name in the second or third suffix of a client, if it follows the one before it.
func (s *seen) step(c *client, name wire.Name, labels int, now time.Duration) {
	for i := 1; i < len(c.labels); i++ {
		suffix := c.search[i]
		if len(name) <= len(suffix) || !name.Under(suffix) || labels-c.labels[i]-1 >= c.ndots {
			continue
		}
		key := s.key(c, name[:len(name)-len(suffix)])
		if _, e := s.find(key); e != 0 && e&(1<<progressBits-1) == uint64(i) && age(e, now) <= stepWithin {
			s.put(key, uint64(i)+1, now)
		}
	}
}

// begin notes a query for a name that is missing in the first suffix, and reports whether the walk that follows is known.
func (s *seen) begin(key uint64, now time.Duration) bool {
	_, e := s.find(key)
	progress := e & (1<<progressBits - 1)
	switch {
	case e == 0:
	case progress == failed && age(e, now) <= pause:
		return false
	case progress == proved && age(e, now) <= believed:
		return true
	}
	s.put(key, begun, now)
	return false
}

// note takes down that a walk may have begun, if nothing is known of it.
func (s *seen) note(key uint64, now time.Duration) {
	_, e := s.find(key)
	if e == 0 || age(e, now) > believed || e&(1<<progressBits-1) == begun && age(e, now) > stepWithin {
		s.put(key, begun, now)
	}
}

// within reports whether a query for a name in the first suffix may be a later step of a walk for a longer name: in another
// suffix, or as it is. A walk for that name was noted then, not long ago.
func (s *seen) within(c *client, name wire.Name, now time.Duration) bool {
	suffixes := [...]wire.Name{c.search[1], c.search[2], wire.Root}
	for _, suffix := range suffixes {
		if _, e := s.find(s.key(c, name[:len(name)-len(suffix)])); e != 0 && age(e, now) <= believed {
			return true
		}
	}
	return false
}
