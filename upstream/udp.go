package upstream

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/wire"
)

// Limits of a server's UDP sockets on one loop. A socket per question would fill a node's connection tracking table, and
// one socket for all would leave an attacker 16 bits to guess.
const (
	minSockets = 16
	maxSockets = 256
	socketAge  = 10 * time.Second
	socketUses = 1000
	perSocket  = 8    // questions in flight for each socket that double the pool
	fullSocket = 4096 // questions in flight on one socket: the ID must stay hard to guess
	maxWrong   = 8    // messages of no question that move a question to TCP
	batch      = 32   // questions that leave with one system call
	slots      = 15   // replies that come with one, where several questions are in flight
	slotSize   = 4352 // room for each of them; not a power of two, so that slots don't share lines of a CPU's cache
)

// pool is a server's rolling set of connected sockets on ports that the kernel chose at random.
//
// The questions of a turn leave together, with one system call, by one socket that is drawn for them; each has an ID of
// its own. To whom does not see them every question has a port and an ID that can't be foreseen, as if it had drawn a
// socket alone: that others share the port helps no forger, whose reply has to hit the ID of the very question that it
// answers.
type pool struct {
	p        *peer
	sockets  []*socket // nil where none is open
	old      []*socket // take no new questions, and are closed when their last has ended
	inFlight int

	turn  *socket // drawn for the questions of this turn; nil before the first
	queue []*try  // those that have not left yet; any of them may have ended meanwhile
	out   []byte  // their messages, one behind the other
	ends  []int   // where each ends in out
}

// socket is one connected UDP socket with the questions that left by it.
type socket struct {
	path
	p     *peer
	fd    int // -1 when closed
	local netip.AddrPort
	born  time.Duration
	uses  int
	ids   []uint16 // of the attempts in who
	who   []*try
	large bool       // a reply may be larger than a slot
	wrong int        // messages that belonged to no question
	gone  [64]uint16 // IDs whose questions ended without their reply, which may still come
	goneN int
}

// send gives t's question a socket and an ID. It leaves at the end of the turn.
func (u *pool) send(t *try) error {
	m := u.p.m
	if u.turn != nil && m.g.cfg.Service && (u.turn.suspect || t.e.uses(&u.turn.path)) {
		u.endTurn()
	}
	if u.turn != nil && u.turn.fd >= 0 {
		m.g.metrics.reused(u.p.s, m.loop.Index(), UDP, true)
	} else {
		s, err := u.draw(t.e)
		if err != nil {
			return err
		}
		u.empty() // the questions of a socket that was closed have ended
		u.turn = s
	}
	u.turn.take(t)
	if len(u.queue) == 0 {
		m.gathered(u)
	}
	u.queue, u.out = append(u.queue, t), append(u.out, t.e.query...)
	u.ends = append(u.ends, len(u.out))
	return nil
}

// endTurn sends what was gathered; the next question draws a socket again.
func (u *pool) endTurn() {
	u.flush()
	if len(u.queue) == 0 { // a failure may have made others be asked meanwhile
		u.turn = nil
	}
}

// flush sends what was gathered.
func (u *pool) flush() {
	s, n := u.turn, len(u.queue)
	if n == 0 || s.fd < 0 {
		u.empty()
		return
	}
	var failed []*try
	var why unix.Errno
	for done := 0; done < n; {
		sent, errno := u.write(done)
		switch errno {
		case 0:
			done += sent
		case unix.EINTR:
		case unix.EAGAIN: // a full buffer is a lost datagram: it is sent again when nothing comes
			done = n
		case unix.ECONNREFUSED: // news of an earlier question
			u.queue = u.queue[:copy(u.queue, u.queue[done:])]
			s.broke(errno)
			return
		default:
			failed, why = append(failed, u.queue[done]), errno
			done++
		}
	}
	u.empty()
	for _, t := range failed {
		if t.socket == s {
			s.drop(t)
			t.fail(ioError("write", unix.SOCK_DGRAM, s.local, u.p.s.Addr, why))
		}
	}
}

// write sends what is gathered from first on, as much as one system call takes, and tells how much that was.
func (u *pool) write(first int) (int, unix.Errno) {
	start, v := 0, &u.p.m.outgoing
	if first > 0 {
		start = u.ends[first-1]
	}
	ends := u.ends[first:min(len(u.ends), first+batch)]
	if len(ends) == 1 {
		_, errno := loop.Write(u.turn.fd, u.out[start:ends[0]])
		return 1, errno
	}
	for i, end := range ends {
		v.put(i, u.out[start:end])
		start = end
	}
	return v.send(u.turn.fd, len(ends))
}

func (u *pool) empty() {
	clear(u.queue)
	u.queue, u.out, u.ends = u.queue[:0], u.out[:0], u.ends[:0]
}

// draw gives a socket for a question of e, opened when its place is empty or its time is over.
func (u *pool) draw(e *exchange) (*socket, error) {
	if len(u.sockets) == 0 {
		u.sockets = make([]*socket, minSockets, maxSockets)
	}
	if u.inFlight > perSocket*len(u.sockets) && len(u.sockets) < maxSockets {
		u.sockets = u.sockets[:2*len(u.sockets)]
	}
	m := u.p.m
	i := m.below(len(u.sockets))
	if m.g.cfg.Service {
		i = u.sound(i, e)
	}
	s := u.sockets[i]
	if s != nil && (s.uses >= socketUses || m.now()-s.born >= socketAge) {
		u.retire(i)
		s = nil
	}
	if s != nil && len(s.ids) >= fullSocket {
		return nil, ErrTooMany
	}
	m.g.metrics.reused(u.p.s, m.loop.Index(), UDP, s != nil)
	if s != nil {
		return s, nil
	}
	s, err := u.open()
	if err != nil {
		return u.fallback(err)
	}
	u.sockets[i] = s
	return s, nil
}

// fallback gives any open socket when no other can be opened.
func (u *pool) fallback(err error) (*socket, error) {
	for _, s := range u.sockets {
		if s != nil && len(s.ids) < fullSocket {
			return s, nil
		}
	}
	return nil, err
}

func (u *pool) open() (*socket, error) {
	m := u.p.m
	fd, local, err := open(unix.SOCK_DGRAM, u.p.s.Addr, m.g.cfg.Source)
	if err != nil {
		return nil, err
	}
	s := &socket{p: u.p, fd: fd, local: local, born: m.now()}
	if err := m.loop.AddPatient(fd, s, false); err != nil {
		unix.Close(fd)
		return nil, err
	}
	m.keepSweeping()
	return s, nil
}

// retire takes a socket out of the draw.
func (u *pool) retire(i int) {
	s := u.sockets[i]
	u.sockets[i] = nil
	if len(s.ids) == 0 {
		s.close()
		return
	}
	u.old = append(u.old, s)
}

// tidy closes sockets past their time, all of them when the server is gone, and reports whether any is open.
func (u *pool) tidy(gone bool) bool {
	now := u.p.m.now()
	if n := len(u.sockets); n > minSockets && u.inFlight < n { // the load has gone
		for i := n / 2; i < n; i++ {
			if u.sockets[i] != nil {
				u.retire(i)
			}
		}
		u.sockets = u.sockets[:n/2]
	}
	open := len(u.old) > 0
	for i, s := range u.sockets {
		if s != nil && (gone || now-s.born >= socketAge || s.dead(now)) {
			u.retire(i)
			open = open || len(s.ids) > 0
		} else if s != nil {
			open = true
		}
	}
	return open
}

func (u *pool) close() {
	for i, s := range u.sockets {
		if s != nil {
			u.retire(i)
		}
	}
	for len(u.old) > 0 {
		s := u.old[len(u.old)-1]
		u.old = u.old[:len(u.old)-1]
		s.abandon(ErrClosed)
	}
}

// take gives t an ID of its own among the questions on this socket.
func (s *socket) take(t *try) {
	m := s.p.m
	id := uint16(m.rand.Uint64())
	for s.find(id) >= 0 {
		id = uint16(m.rand.Uint64())
	}
	t.id, t.socket, t.wrong = id, s, s.wrong
	s.ids, s.who = append(s.ids, id), append(s.who, t)
	s.uses++
	s.large = s.large || t.e.large
	s.p.udp.inFlight++
	q := t.e.query
	q[0], q[1] = byte(id>>8), byte(id)
}

func (s *socket) find(id uint16) int {
	for i, have := range s.ids {
		if have == id {
			return i
		}
	}
	return -1
}

// Ready reads what has come: no more than there are questions, since waiting tells of whatever else there is.
func (s *socket) Ready(*loop.Loop, bool, bool) bool {
	m := s.p.m
	n := min(len(s.ids), slots)
	if n <= 1 || s.large {
		size, errno := loop.Read(s.fd, m.buf)
		if s.readable(errno) {
			s.datagram(m.buf[:size])
		}
		return false
	}
	for i := range n {
		m.incoming.put(i, m.buf[i*slotSize:][:slotSize])
	}
	n, errno := m.incoming.receive(s.fd, n)
	if s.readable(errno) {
		for i := 0; i < n && s.fd >= 0; i++ {
			msg := m.buf[i*slotSize:][:m.incoming.size(i)]
			if len(msg) == slotSize { // more than anybody asked for: the rest of it is lost
				msg[2] |= byte(wire.FlagTC >> 8)
			}
			s.datagram(msg)
		}
	}
	return false
}

// readable reports whether something was read. An error that is the peer's ends the socket.
func (s *socket) readable(errno unix.Errno) bool {
	switch errno {
	case 0:
		return true
	case unix.EINTR, unix.EAGAIN:
	default:
		s.broke(errno)
	}
	return false
}

// datagram finds the question that a message replies to.
func (s *socket) datagram(msg []byte) {
	if len(msg) < 2 {
		s.odd()
		return
	}
	id := uint16(msg[0])<<8 | uint16(msg[1])
	if i := s.find(id); i >= 0 {
		s.p.heardBy(&s.path)
		s.who[i].replied(msg)
		return
	}
	for _, late := range s.gone[:min(s.goneN, len(s.gone))] {
		if late == id {
			s.p.heardBy(&s.path)
			return
		}
	}
	s.odd()
}

// odd counts a message that belongs to no question: somebody may be guessing. Questions that saw too many go to TCP,
// where there is nothing to guess.
func (s *socket) odd() {
	m := s.p.m
	s.wrong++
	m.g.metrics.wrong.Inc(m.loop.Index())
	for i := 0; i < len(s.who); {
		t := s.who[i]
		if s.wrong-t.wrong <= maxWrong {
			i++
			continue
		}
		t.again(TCP)
		i = 0
	}
}

// forget takes an attempt off the socket whose reply may still come.
func (s *socket) forget(t *try) {
	s.gone[s.goneN%len(s.gone)] = t.id
	s.goneN++
	s.drop(t)
}

// drop takes an attempt off the socket.
func (s *socket) drop(t *try) {
	i := s.find(t.id)
	if i < 0 {
		return
	}
	last := len(s.ids) - 1
	s.ids[i], s.who[i] = s.ids[last], s.who[last]
	s.who[last] = nil
	s.ids, s.who = s.ids[:last], s.who[:last]
	u := &s.p.udp
	u.inFlight--
	if last == 0 {
		u.settle(s)
	}
}

// settle closes an old socket whose last question has ended.
func (u *pool) settle(s *socket) {
	for i, o := range u.old {
		if o == s {
			u.old = append(u.old[:i], u.old[i+1:]...)
			s.close()
			return
		}
	}
}

// broke ends all attempts on the socket: the peer or the network refused one of them (ICMP), and does not say which.
// Those that have not left yet are not meant, and leave by another socket.
func (s *socket) broke(errno unix.Errno) {
	u := &s.p.udp
	var unsent []*try
	if u.turn == s {
		for _, t := range u.queue {
			if t.socket == s {
				s.drop(t)
				t.socket = nil
				unsent = append(unsent, t)
			}
		}
		u.empty()
		u.turn = nil
	}
	for i, o := range u.sockets {
		if o == s { // so that what is asked next does not come here
			u.retire(i)
			break
		}
	}
	if s.fd >= 0 && len(s.ids) > 0 {
		s.abandon(ioError("read", unix.SOCK_DGRAM, s.local, s.p.s.Addr, errno))
	}
	for _, t := range unsent {
		if err := u.send(t); err != nil {
			t.fail(err)
		}
	}
}

// abandon fails every attempt on a socket that takes no new ones, and closes it.
func (s *socket) abandon(err error) {
	for len(s.who) > 0 && s.fd >= 0 {
		t := s.who[len(s.who)-1]
		s.drop(t)
		t.fail(err)
	}
	s.close()
}

func (s *socket) close() {
	if s.fd < 0 {
		return
	}
	s.p.m.loop.Remove(s.fd)
	unix.Close(s.fd)
	s.fd = -1
}
