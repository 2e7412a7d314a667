package server

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// plenty answers with many addresses, in an order of chance once the answer is repeated.
type plenty struct {
	steady
	data []byte
}

func newPlenty(n int) *plenty {
	p := &plenty{data: make([]byte, 4*n)}
	for i := range n {
		p.data[4*i+2], p.data[4*i+3] = byte(i>>8), byte(i)
	}
	return p
}

func (p *plenty) Serve(q *chain.Query) chain.Outcome {
	p.walked++
	q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA)
	q.Reply.AppendOwnData(wire.Answer, wire.TypeA, 5, p.data, 4)
	return chain.Answered
}

func (p *plenty) Repeat(_ *chain.Query, r *chain.Repeat) bool {
	r.Shuffled, r.Lasting = true, true
	r.Guards = append(r.Guards, chain.Guard{Version: &p.version, Check: func(time.Duration) (int, time.Duration, bool) {
		return -1, math.MaxInt64, true
	}})
	return true
}

// serve has the bed's socket ask p.
func (b *bed) serve(p *plenty) {
	var c chain.Builder
	c.Add("plenty", p)
	t := &Table{Label: "dns://:53", Config: &chain.Config{}}
	t.Add(wire.Root, c.Chain())
	b.u.table.Store(t)
	b.u.repeats.begin(t)
}

// ask sends a packet through the socket and gives the answer.
func (b *bed) ask(t *testing.T, packet, buf []byte) []byte {
	if b.fill(t, packet) != 1 {
		t.Fatal("the packet has not come")
	}
	r := b.u.w.receiver
	b.u.w.BeginBatch()
	b.u.deliver(r, 0)
	b.u.out.slots(b.u.fd, r, 1)
	b.u.out.flush(b.u.fd)
	r.rearm(1)
	b.u.w.EndBatch()
	n, err := b.client.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// TestRepeatsGiveEveryOrder repeats answers that are kept, that are long, and that are cut: each address must come as often
// as the others, at the first place and at any.
func TestRepeatsGiveEveryOrder(t *testing.T) {
	for _, c := range []struct{ addresses, sent int }{{2, 2}, {5, 5}, {60, 60}, {100, 74}, {500, 74}} {
		t.Run(fmt.Sprint(c.addresses), func(t *testing.T) {
			b, p := newBed(t, true), newPlenty(c.addresses)
			b.serve(p)
			packet, buf := query("www.example.org.", 1, 1232), make([]byte, 4096)
			const rounds = 5000
			first, sent := make([]int, c.addresses), make([]int, c.addresses)
			var walk string // but for the addresses
			for round := range rounds {
				packet[0], packet[1] = byte(round>>8), byte(round)
				got := b.ask(t, packet, buf)
				if got[0] != packet[0] || got[1] != packet[1] || int(got[7]) != c.sent || (got[2]&2 != 0) != (c.sent < c.addresses) {
					t.Fatalf("%x", got)
				}
				seen := map[int]bool{}
				for i := range c.sent {
					data := got[len(packet)-11+16*i+12:][:4]
					which := int(data[2])<<8 | int(data[3])
					if seen[which] || which >= c.addresses {
						t.Fatalf("address %d in %x", which, got)
					}
					seen[which] = true
					if round >= 2 { // no walk
						sent[which]++
						if i == 0 {
							first[which]++
						}
					}
					clear(data)
				}
				if round == 0 {
					walk = string(got[2:])
				} else if string(got[2:]) != walk {
					t.Fatalf("got %x\nwant %x", got[2:], walk)
				}
			}
			if p.walked != 2 {
				t.Errorf("%d walks", p.walked)
			}
			for i := range c.addresses {
				fair(t, fmt.Sprintf("%d is first", i), first[i], rounds-2, 1/float64(c.addresses))
				fair(t, fmt.Sprintf("%d is sent", i), sent[i], rounds-2, float64(c.sent)/float64(c.addresses))
			}
		})
	}
}

// TestDecksAreFew asks for more long answers than a socket has room for their addresses: the rest is walked, and what goes
// makes room.
func TestDecksAreFew(t *testing.T) {
	b, p := newBed(t, true), newPlenty(2000)
	b.serve(p)
	const size = 2000 * 16
	buf := make([]byte, 4096)
	ask := func(i int) { b.ask(t, query(fmt.Sprintf("n%d.example.org.", i), 1, 1232), buf) }
	const names = maxDecks/size + 20
	for range 2 {
		for i := range names {
			ask(i)
		}
	}
	m := &b.u.repeats
	if m.decks > maxDecks || m.decks <= maxDecks-size {
		t.Errorf("%d octets of decks, want %d to %d", m.decks, maxDecks-size, maxDecks)
	}
	p.walked = 0
	for i := range names {
		ask(i)
	}
	if p.walked != 20 {
		t.Errorf("%d walks, want 20", p.walked)
	}
	at, _, _ := m.find(query("n0.example.org.", 1, 1232), 0)
	m.put(at, nil)
	if m.decks > maxDecks-size {
		t.Errorf("%d octets of decks after one went", m.decks)
	}
}

// fair allows five standard deviations.
func fair(t *testing.T, what string, got, n int, p float64) {
	t.Helper()
	if want := float64(n) * p; math.Abs(float64(got)-want) > 5*math.Sqrt(want*(1-p)) {
		t.Errorf("%s %d times of %d, want about %.0f", what, got, n, want)
	}
}

func benchmarkRepeats(b *testing.B, addresses int) {
	bed, p := newBed(b, true), newPlenty(addresses)
	bed.serve(p)
	msg := query("service-1.load-1.svc.cluster.local.", 1, 4096)
	bed.fill(b, msg)
	bed.u.w.BeginBatch()
	b.ReportAllocs()
	for b.Loop() {
		copy(bed.u.w.receiver.slot(0), msg)
		bed.walk(0)
	}
	if p.walked > 10 {
		b.Errorf("%d walks of %d", p.walked, b.N)
	}
}

// BenchmarkRepeat1, 5 and 500 answer again with as many addresses; the last has to be cut.
func BenchmarkRepeat1(b *testing.B)   { benchmarkRepeats(b, 1) }
func BenchmarkRepeat5(b *testing.B)   { benchmarkRepeats(b, 5) }
func BenchmarkRepeat500(b *testing.B) { benchmarkRepeats(b, 500) }
