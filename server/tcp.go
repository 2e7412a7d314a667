package server

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/loop"
)

// DNS over TCP (RFC 7766) on the loop: a connection's frames are read as they come, walked in place or answered as before
// (repeat.go), and all their answers leave in one write. Answers are in the order of the queries unless one had to wait for somebody.

// Limits of a connection, after which it is not read until it has caught up.
const (
	framesPerTurn  = 16
	inFlightLimit  = 128
	unwrittenLimit = 64 << 10
	connsPerLoop   = 20000
	connsPerClient = connsPerLoop / 10 // of those: one client must not keep the others out
)

// Timeouts where the Corefile names none: the first query, any later one, and a write that does not end.
const (
	readTimeout = 3 * time.Second
	idleTimeout = 10 * time.Second
	stallLimit  = 2 * time.Second
)

type tcpListener struct {
	w     *worker
	l     *Listener
	fd    int
	local netip.AddrPort
	rest  loop.Timer // runs while nothing is accepted for want of descriptors

	repeats repeats // of all its connections
}

// restFor is how long a listener waits when the process has no descriptor left: epoll would tell of the same connection
// over and over.
const restFor = 100 * time.Millisecond

// Fire accepts again.
func (t *tcpListener) Fire(l *loop.Loop) { l.Watch(t.fd, false) }

// Ready accepts what is waiting.
func (t *tcpListener) Ready(*loop.Loop, bool, bool) bool {
	for range 64 {
		fd, client, errno := loop.Accept(t.fd)
		if errno == unix.EINTR || errno == unix.ECONNABORTED {
			continue
		}
		if errno == unix.EMFILE || errno == unix.ENFILE || errno == unix.ENOBUFS || errno == unix.ENOMEM {
			t.w.Loop.Pause(t.fd, false)
			t.w.Loop.After(&t.rest, restFor, t)
		}
		if errno != 0 {
			return false
		}
		if len(t.w.conns) >= connsPerLoop || t.w.connsOf[client.Addr()] >= connsPerClient {
			unix.Close(fd)
			continue
		}
		t.accept(fd, client)
	}
	return true
}

func (t *tcpListener) accept(fd int, client netip.AddrPort) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // answers are gathered here, not by the kernel
	c := &tcpConn{w: t.w, l: t.l, fd: fd, client: client, proto: chain.TCP, repeats: &t.repeats}
	if t.l.spec.Transport == "tls" {
		c.proto = chain.TLS
	}
	c.local = loop.Local(fd)
	if err := t.w.Loop.Add(fd, c, false); err != nil {
		unix.Close(fd)
		return
	}
	t.w.conns[c] = true
	t.w.connsOf[client.Addr()]++
	c.since = t.w.Loop.Now()
	t.w.Loop.After(&c.timer, c.timeout(), c)
}

// close stops accepting. The listener's connections are not read any more and end with their last answer.
func (t *tcpListener) close() {
	t.w.Loop.Stop(&t.rest)
	t.w.Loop.Remove(t.fd)
	unix.Close(t.fd)
	t.repeats.close()
	for c := range t.w.conns {
		if c.l == t.l {
			c.ended = true
			c.settle()
		}
	}
}

// tcpConn is one connection. All of it belongs to its loop.
type tcpConn struct {
	w             *worker
	l             *Listener
	fd            int
	client, local netip.AddrPort
	proto         chain.Proto

	in        []byte // received and not yet walked
	out       []byte // answers not yet written
	asked     int
	inFlight  int
	walking   bool
	streaming bool
	paused    bool
	blocked   bool // the kernel's send buffer is full: waiting for it to be writable
	ended     bool // the client sends no more
	closed    bool
	since     time.Duration // when the last query or answer was through: octets that make neither count for nothing
	timer     loop.Timer
	stream    *tcpStream

	// The frame that is being walked, if its answer is to be kept.
	repeats *repeats // the listener's
	keep    bool
	hash    uint64
	packet  []byte
	walks   *chain.Query
}

// timeout is how long the connection may wait for what it waits for now.
func (c *tcpConn) timeout() time.Duration {
	t, first := c.l.timeout.Load(), c.asked == 0
	switch {
	case c.blocked && t.Write > 0:
		return t.Write
	case c.blocked:
		return stallLimit
	case first && t.Read > 0:
		return t.Read
	case first:
		return readTimeout
	case t.Idle > 0:
		return t.Idle
	}
	return idleTimeout
}

// Fire closes a connection on which nothing happened; one that waits for its own answers is given more time.
func (c *tcpConn) Fire(l *loop.Loop) {
	if c.closed {
		return
	}
	limit, waited := c.timeout(), l.Now()-c.since
	switch {
	case !c.blocked && (c.inFlight > 0 || c.streaming):
		l.After(&c.timer, limit, c)
	case waited >= limit:
		c.close()
	default:
		l.After(&c.timer, limit-waited, c)
	}
}

// Ready reads and writes.
func (c *tcpConn) Ready(_ *loop.Loop, readable, writable bool) bool {
	if c.closed {
		return false
	}
	if c.paused && readable && writable { // nobody asked for reading: the connection has failed
		c.close()
		return false
	}
	if writable && len(c.out) > 0 {
		c.write()
	}
	if c.closed {
		return false
	}
	if readable && !c.paused && !c.ended {
		c.read()
	}
	return c.frames()
}

const readSize = 16 << 10

func (c *tcpConn) read() {
	if c.in == nil { // most connections are empty again when they have been walked, so one buffer serves them all
		c.in, c.w.spareIn = c.w.spareIn, nil
	}
	if cap(c.in)-len(c.in) < readSize/4 {
		grown := make([]byte, len(c.in), max(2*cap(c.in), readSize))
		copy(grown, c.in)
		c.in = grown
	}
	free := c.in[len(c.in):cap(c.in)]
	n, errno := loop.Read(c.fd, free)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
	case errno != 0:
		c.close()
	case n == 0:
		c.ended = true
	default:
		c.in = c.in[:len(c.in)+int(n)]
		c.w.lastQuery.Store(int64(c.w.Loop.Now()))
	}
}

// frames walks the whole frames that are there, then writes all answers at once. It reports whether more are waiting.
func (c *tcpConn) frames() (again bool) {
	if c.closed {
		return false
	}
	used, count := 0, 0
	c.walking = true
	c.repeats.begin(c.l.table.Load())
	c.w.BeginBatch()
	for ; !c.closed && !c.full(); count++ {
		rest := c.in[used:]
		if len(rest) < 2 {
			break
		}
		n := int(binary.BigEndian.Uint16(rest))
		if n > maxQuery {
			c.ended, used = true, len(c.in) // no query is as long: whatever follows is not DNS
			break
		}
		if len(rest) < 2+n {
			break
		}
		if count == framesPerTurn {
			again = true
			break
		}
		c.deliver(rest[2 : 2+n])
		used += 2 + n
		if c.asked++; c.asked == c.l.timeout.Load().Queries {
			c.ended, used = true, len(c.in)
			break
		}
	}
	c.walking = false
	if used > 0 {
		c.since = c.w.Loop.Now()
	}
	if !c.closed {
		c.in = c.in[:copy(c.in, c.in[used:])]
		c.write()
		c.settle()
	}
	c.w.EndBatch()
	// What was left because too much was unwritten goes on if that has gone since: no event tells of it.
	return !c.closed && (again || !c.full() && c.waiting())
}

func (c *tcpConn) full() bool {
	return c.inFlight >= inFlightLimit || len(c.out) > unwrittenLimit || c.streaming
}

// settle stops or resumes reading as the connection is full or not, and closes it when all is done.
func (c *tcpConn) settle() {
	if c.closed {
		return
	}
	if c.ended && c.inFlight == 0 && len(c.out) == 0 && !c.streaming && !c.waiting() {
		c.close()
		return
	}
	full := c.full() || c.ended
	if full != c.paused || len(c.out) > 0 != c.blocked {
		c.paused, c.blocked = full, len(c.out) > 0
		if full {
			c.w.Loop.Pause(c.fd, c.blocked)
		} else {
			c.w.Loop.Watch(c.fd, c.blocked)
		}
		if c.blocked {
			c.since = c.w.Loop.Now()
			c.w.Loop.After(&c.timer, c.timeout(), c)
		}
	}
	if len(c.in) == 0 && c.in != nil {
		if cap(c.in) <= 2*readSize {
			c.w.spareIn = c.in
		}
		c.in = nil
	}
	if len(c.out) == 0 && c.out != nil {
		if cap(c.out) <= 2*unwrittenLimit {
			c.w.spareOut = c.out
		}
		c.out = nil
	}
}

// waiting reports whether a whole frame has not been walked yet.
func (c *tcpConn) waiting() bool {
	return len(c.in) >= 2 && len(c.in) >= 2+int(binary.BigEndian.Uint16(c.in))
}

// deliver answers a frame, or walks it.
func (c *tcpConn) deliver(packet []byte) {
	if c.repeat(packet) {
		return
	}
	q := c.w.Get()
	q.Client, q.Local, q.Proto, q.Start, q.Back.Socket = c.client, c.local, c.proto, c.w.Loop.Now(), c
	c.room()
	at := len(c.out)
	ok, answer := gate(&q.Request, packet, append(c.out, 0, 0))
	if !ok {
		c.w.refused()
		if answer != nil {
			binary.BigEndian.PutUint16(answer[at:], uint16(len(answer)-at-2))
			c.out = answer
		}
		c.w.Put(q)
		return
	}
	c.inFlight++
	if c.keep {
		c.walks = q
	}
	c.w.Start(q, c.l.table.Load(), c)
	if c.walks != nil {
		c.walks = nil
		c.repeats.notKept(c.w.Loop.Now())
	}
}

// Finish appends the end of a query to what is to be written.
func (c *tcpConn) Finish(q *chain.Query, out chain.Outcome) {
	c.inFlight--
	if c.closed {
		return
	}
	if Complete(q, out) {
		c.room()
		at := len(c.out)
		c.out = c.w.fit(append(c.out, 0, 0), q, q.Limit())
		binary.BigEndian.PutUint16(c.out[at:], uint16(len(c.out)-at-2))
		if q == c.walks && out == chain.Answered {
			c.walks = nil
			c.repeats.keep(q, c.hash, c.packet, c.out[at+2:])
		}
	}
	if !c.walking { // it had been parked: nobody else will write
		c.since = c.w.Loop.Now()
		c.write()
		if c.closed {
			return
		}
		if len(c.in) > 0 && !c.full() {
			c.w.Loop.Post(c) // frames that waited for room
		}
		c.settle()
	}
}

// room gives the connection a buffer for answers: the one that the last connection has no more use for.
func (c *tcpConn) room() {
	if c.out == nil {
		c.out, c.w.spareOut = c.w.spareOut[:0], nil
	}
}

// Do goes on with frames that had to wait.
func (c *tcpConn) Do(*loop.Loop) {
	if !c.closed && c.frames() {
		c.w.Loop.Post(c)
	}
}

func (c *tcpConn) write() {
	for len(c.out) > 0 {
		n, errno := loop.Write(c.fd, c.out)
		if errno == unix.EINTR {
			continue
		}
		if errno == unix.EAGAIN {
			return
		}
		if errno != 0 {
			c.close()
			return
		}
		c.since = c.w.Loop.Now()
		c.out = c.out[:copy(c.out, c.out[n:])]
	}
	if c.stream != nil {
		c.stream.wake()
	}
}

func (c *tcpConn) close() {
	if c.closed {
		return
	}
	c.closed = true
	delete(c.w.conns, c)
	if c.w.connsOf[c.client.Addr()]--; c.w.connsOf[c.client.Addr()] == 0 {
		delete(c.w.connsOf, c.client.Addr())
	}
	c.w.Loop.Stop(&c.timer)
	c.w.Loop.Remove(c.fd)
	unix.Close(c.fd)
	c.in, c.out = nil, nil
	if c.stream != nil {
		c.stream.fail(errClosed)
	}
}

var errClosed = errors.New("the client closed the connection")
