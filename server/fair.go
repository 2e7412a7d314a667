package server

import "github.com/godwit-dns/godwit/loop"

// One client must not take the others' answers away. The only queue in front of a loop is the kernel's, and while that has
// room everybody is served: nothing is counted. A socket that a turn does not empty, and whose queue is half full even so,
// is overloaded. Then, in steps:
//
//  1. The next turn receives as much as any, and walks nothing yet (stage.receive).
//  2. The datagrams are counted by client, and each client's newest are served up to an equal share; the rest are dropped
//     unparsed (stage.serve).
//  3. A client that is well above its share in several such turns running is thinned out by a filter in front of the
//     kernel's queue, which receiving alone would not keep from overflowing (thin.go). So is one that is alone in them: a
//     queue that overflows has lost nearly all of those that ask little.
//
// Where clients are alike a stage changes nothing and costs cache, so one that found nobody above the share is not followed
// by another for a while.
const (
	stageSize = rounds * batch
	// leastShare is what a client may always have of a stage: small numbers say little about who asks too much.
	leastShare = 8
	// unstaged is how many turns are as usual after a stage that found nobody above its share.
	unstaged = 8
	// seats is the size of the table of clients, twice of those that there can be.
	seats = 2 * stageSize
)

// client is an address for counting: an IPv6 one, or an IPv4 one in the form that it has among those (RFC 4291, 2.5.5.2).
// IPv6 clients are not taken together by prefix, because the pods of a node usually share one of 64 bits.
type client struct{ hi, lo uint64 }

const mapped = 0xffff << 32

func client4(addr uint32) client { return client{lo: mapped | uint64(addr)} }

func (c client) is4() bool { return c.hi == 0 && c.lo>>32 == mapped>>32 }

// fairness is what a socket knows of its overload.
type fairness struct {
	over bool // the next turn is a stage
	skip int  // turns that are not looked at
	thin thinner
}

// full notes a usual turn that left something in the socket.
func (f *fairness) full(fd int) {
	if f.skip > 0 {
		f.skip--
		return
	}
	f.over, _ = queue(fd)
}

// seat is a client in a stage. What it says is of this stage only while at is.
type seat struct {
	client  client
	at      uint64
	n       int // datagrams
	through int // those that were looked at again
}

// stage is a loop's room for a turn, made at its first overload.
type stage struct {
	slots   [rounds]*receiver
	n       [rounds]int // datagrams in each
	seats   [seats]seat
	of      [stageSize]uint16 // seat of each datagram
	at      uint64            // number of the turn, which makes clearing the seats unnecessary
	clients int
}

func newStage() *stage {
	g := new(stage)
	for i := range g.slots {
		g.slots[i] = newReceiver()
	}
	return g
}

// receive fills the stage. It gives the numbers of calls that brought something and of datagrams, and whether there may be
// more of those.
func (g *stage) receive(s *udpSocket) (calls, total int, more bool) {
	g.n = [rounds]int{}
	for i, r := range g.slots {
		r.prepare(s.wild)
		n := r.receive(s.fd)
		if n > 0 {
			calls++
		}
		g.n[i] = n
		if total += n; n < batch {
			return calls, total, false
		}
	}
	return calls, total, true
}

// count finds the clients of what was received.
func (g *stage) count() {
	g.at++
	g.clients = 0
	for i, r := range g.slots {
		for k := range g.n[i] {
			g.of[i*batch+k] = g.sit(r.client(k))
		}
	}
}

// sit counts a datagram for a client and gives its seat.
func (g *stage) sit(c client) uint16 {
	i := ((c.hi*0x9e3779b97f4a7c15 ^ c.lo) * 0x9e3779b97f4a7c15) >> 32 % seats
	for g.seats[i].at == g.at && g.seats[i].client != c {
		i = (i + 1) % seats
	}
	at := &g.seats[i]
	if at.at != g.at {
		*at = seat{client: c, at: g.at}
		g.clients++
	}
	at.n++
	return uint16(i)
}

// share is how many of the datagrams of a stage each client may have answered.
func share(total, clients int) int {
	if clients <= 1 {
		return total
	}
	return max(leastShare, total/clients)
}

// serve walks what is within the share and gives the number of datagrams that were dropped. A client's newest are served:
// its oldest it may have asked again already.
func (g *stage) serve(s *udpSocket, share int) (dropped int) {
	for i, r := range g.slots {
		for k := range g.n[i] {
			c := &g.seats[g.of[i*batch+k]]
			if c.through++; c.through <= c.n-share {
				dropped++
				continue
			}
			s.deliver(r, k)
		}
	}
	return dropped
}

// readFairly is Ready for an overloaded socket.
func (s *udpSocket) readFairly(l *loop.Loop) bool {
	if s.w.stage == nil {
		s.w.stage = newStage()
	}
	g, f := s.w.stage, &s.fair
	calls, total, more := g.receive(s)
	f.over = false
	if total == 0 {
		return false
	}
	s.w.lastQuery.Store(int64(l.Tick()))
	s.w.calls.Add(uint64(calls))
	s.w.datagrams.Add(uint64(total))
	g.count()
	each := total
	if more { // what is not followed by more takes nobody's place
		each = share(total, g.clients)
	}
	s.repeats.begin(s.table.Load())
	s.w.BeginBatch()
	dropped := g.serve(s, each)
	for i, r := range g.slots {
		s.out.slots(s.fd, r, g.n[i])
	}
	s.out.flush(s.fd) // what is sent may refer to the slots
	for i, r := range g.slots {
		r.rearm(g.n[i])
	}
	s.w.EndBatch()
	if !more {
		s.spill.dry(s.fd, l.Now())
		return false
	}
	s.spill.full(s.fd, l.Now())
	s.w.unfair.Add(l.Index(), uint64(dropped))
	crowded, lost := queue(s.fd)
	if f.over = crowded; !f.thin.blame(s, g, each, lost) {
		f.over, f.skip = false, unstaged
	}
	return true
}
