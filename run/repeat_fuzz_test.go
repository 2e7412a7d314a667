package run

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// FuzzRepeats asks two servers two packets in turns, whatever they are, while time goes on. One may give answers again without
// a walk, the other never does: answers, silence and what is counted must be the same.
func FuzzRepeats(f *testing.F) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4)) // a loop keeps its processor while it waits
	var now atomic.Int64
	now.Store(int64(time.Hour))
	fast, slow := newRepeatRig(f, "udp", &now), newRepeatRig(f, "udp", &now)
	packets := repeatPackets(rand.New(rand.NewPCG(1, 1)))
	for i, p := range packets {
		f.Add(p, packets[(i+7)%len(packets)], byte(i))
	}
	f.Fuzz(func(t *testing.T, one, other []byte, step byte) {
		if min(len(one), len(other)) < 2 || max(len(one), len(other)) > 4096 {
			return
		}
		fast.t, slow.t = t, t
		publishBoth(fast, slow, "cache")
		for round := range 8 {
			for _, packet := range [][]byte{one, other} {
				if got, want := fast.probe(packet), slow.probe(packet); !sameAnswer(got, want) {
					t.Fatalf("round %d: %x\n got %x\nwant %x", round, packet, got, want)
				}
			}
			now.Add(int64(step) * int64(50*time.Millisecond))
		}
		sameCounts(t, 0, fast, slow)
	})
}

// probe gives the answer to a packet, nil if there is none: a turn's answers leave in any order, but all of them before those of
// the next, so two questions are asked behind it, one after the other's answer.
func (r *repeatRig) probe(packet []byte) (answer []byte) {
	r.t.Helper()
	packet = bytes.Clone(packet)
	binary.BigEndian.PutUint16(packet, 0)
	r.send([][]byte{packet})
	for _, id := range []uint16{1, 2} { // even when the answer is there: both servers are to count the same
		behind, err := new(dns.Msg).SetQuestion("web.example.org.", dns.TypeA).Pack()
		if err != nil {
			r.t.Fatal(err)
		}
		binary.BigEndian.PutUint16(behind, id)
		r.send([][]byte{behind})
		for got := uint16(0); got != id; {
			msg, err := r.read()
			if err != nil {
				r.t.Fatalf("%x: %v", packet, err)
			}
			if got = binary.BigEndian.Uint16(msg); got == 0 {
				answer = bytes.Clone(msg)
			}
		}
	}
	return answer
}
