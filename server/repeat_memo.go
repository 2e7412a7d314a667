package server

import (
	"encoding/binary"
	"math"
	"sync/atomic"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

// memo is one kept answer (repeat.go). It is a cache line: of thousands of them none is warm when its packet comes.
type memo struct {
	block []byte // the packet, the answer's header without ID, and the answer from where it is not as the packet
	asked uint16 // octets of the packet; 0 for a memo without one
	same  uint16 // octets from the start of both in which the answer, but for its header, is as the packet
	// first is where in the answer the records are that come in another order each time, octets their length; 0 for none.
	first, octets uint16
	until         time.Duration
	at            uint64 // the sum of the guards' versions, which only grow, when they were asked last
	*effects
	renewal *renewal
}

// newMemo makes a memo with room for a block of size octets, in the lines behind its own if it is as short as most: so what an
// answer needs lies on one page.
func newMemo(size int) *memo {
	switch {
	case size <= 2*64:
		m := new(struct {
			memo
			block [2 * 64]byte
		})
		m.memo.block = m.block[:0]
		return &m.memo
	case size <= 4*64:
		m := new(struct {
			memo
			block [4 * 64]byte
		})
		m.memo.block = m.block[:0]
		return &m.memo
	}
	return &memo{block: make([]byte, 0, size)}
}

// effects are what many memos have in common, in a cache line.
type effects struct {
	tally   metrics.Tally // of what the handlers would count
	version [maxGuards]*atomic.Uint64
	took    *metrics.HistogramShard
}

// has is what makes effects others.
type has struct {
	version [maxGuards]*atomic.Uint64
	cells   [maxCells]*atomic.Uint64
	took    *metrics.HistogramShard
}

// renewal is what asking the guards takes.
type renewal struct {
	guards []chain.Guard
	ttls   []uint16 // where in the memo's rest the answer's times to live are
	stock  stock    // of a memo without its records
}

const keptHeader = wire.HeaderSize - 2

func (k *memo) packet() []byte { return k.block[:k.asked] }
func (k *memo) header() []byte { return k.block[k.asked:][:keptHeader] }
func (k *memo) rest() []byte   { return k.block[k.asked+keptHeader:] }

// size gives the octets of the answer.
func (k *memo) size() int { return int(k.same) + len(k.rest()) }

// over writes the answer over its packet, but for the ID, and gives its size.
func (k *memo) over(packet []byte) int {
	copy(packet[2:], k.header())
	return int(k.same) + copy(packet[k.same:], k.rest())
}

// stands reports whether the answer is what a walk would give now.
func (k *memo) stands(now time.Duration) bool {
	if now >= k.until {
		return k.renew(now)
	}
	if k.moved() != k.at {
		return k.renew(now)
	}
	return true
}

// moved is the sum of the guards' versions.
func (e *effects) moved() (sum uint64) {
	for _, v := range e.version {
		if v == nil {
			break
		}
		sum += v.Load()
	}
	return sum
}

// renew asks the guards.
func (k *memo) renew(now time.Duration) bool {
	k.until, k.at = math.MaxInt64, k.moved() // first: what changes while a guard looks is found next time
	for i := range k.renewal.guards {
		g := &k.renewal.guards[i]
		ttl, until, ok := g.Check(now)
		if !ok {
			return false
		}
		k.until = min(k.until, until)
		if ttl < 0 {
			continue
		}
		for _, at := range k.renewal.ttls {
			binary.BigEndian.PutUint32(k.rest()[at:], uint32(ttl))
		}
	}
	return true
}

// count does what a walk would do besides the answer.
func (e *effects) count(w *worker) {
	e.tally.Add(1)
	if e.took != nil {
		w.AtBatchEnd(e.took)
	}
}
