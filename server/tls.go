package server

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/loop"
)

// DNS over TLS (RFC 7858). The handshake and the records are crypto/tls's, so a connection has two goroutines: one reads
// whole frames and hands them to the connection's home loop, one writes what the loop made of them.

// secureConns bounds the TLS connections of a listener, and with them its goroutines.
const secureConns = 10000

// handshakeLimit is how long a client may take to shake hands.
const handshakeLimit = 5 * time.Second

func (l *Listener) openSecure(addr netip.AddrPort, inherited []int) error {
	for _, fd := range inherited {
		ln, err := InheritListener(fd)
		if err != nil {
			return fmt.Errorf("inherited listener %s: %w", addr, err)
		}
		l.secure = append(l.secure, ln)
	}
	if len(inherited) > 0 {
		return nil
	}
	lc := net.ListenConfig{Control: func(network, _ string, raw syscall.RawConn) error {
		return Share(network, raw, l.s.opt.Freebind)
	}}
	network := "tcp4"
	if addr.Addr().Is6() {
		network = "tcp6"
	}
	ln, err := lc.Listen(context.Background(), network, addr.String())
	if err != nil {
		return bindError("tcp", addr, err)
	}
	l.secure = append(l.secure, ln)
	return nil
}

// acceptSecure accepts until the listener is closed. Its connections go on to the server's end.
func (l *Listener) acceptSecure(ctx context.Context, ln net.Listener) {
	places := make(chan struct{}, secureConns)
	for next := 0; ; next++ {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of descriptors: the next may do
			continue
		}
		select {
		case places <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		c := newSecure(l, l.s.workers[next%len(l.s.workers)], tls.Server(conn, l.tls.Load()))
		l.s.streams.Go(func() {
			defer func() { <-places }()
			c.run(ctx)
		})
	}
}

// secureConn is one TLS connection.
type secureConn struct {
	l             *Listener
	w             *worker
	conn          *tls.Conn
	client, local netip.AddrPort

	mu       sync.Mutex
	changed  *sync.Cond // the fields below; guarded by mu
	out      []byte
	inFlight int
	stream   bool
	ended    bool // no more queries will come
	broken   bool // nothing can be written any more
}

func newSecure(l *Listener, w *worker, conn *tls.Conn) *secureConn {
	c := &secureConn{l: l, w: w, conn: conn}
	c.changed = sync.NewCond(&c.mu)
	c.client = addrPort(conn.RemoteAddr())
	c.local = addrPort(conn.LocalAddr())
	return c
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func (c *secureConn) run(ctx context.Context) {
	defer c.conn.Close()
	shake, cancel := context.WithTimeout(ctx, handshakeLimit)
	err := c.conn.HandshakeContext(shake)
	cancel()
	if err != nil {
		return
	}
	stop := context.AfterFunc(c.l.s.ctx, c.abort)
	defer stop()
	closed := context.AfterFunc(ctx, func() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer closed()
	var writer sync.WaitGroup
	writer.Go(c.write)
	c.read(ctx)
	c.mu.Lock()
	c.ended = true
	c.changed.Broadcast()
	c.mu.Unlock()
	writer.Wait()
}

// abort ends the connection with the server, whatever it still waits for.
func (c *secureConn) abort() {
	c.mu.Lock()
	c.broken = true
	c.changed.Broadcast()
	c.mu.Unlock()
	c.conn.Close()
}

// read takes frames from the connection until it ends, and pauses while too much of it is unanswered.
func (c *secureConn) read(ctx context.Context) {
	t := c.l.timeout.Load()
	limit, left := orDefault(t.Read, readTimeout), t.Queries
	buf := make([]byte, 0, readSize)
	fresh := true // a new query may take its time; octets that make none do not prolong it
	for ctx.Err() == nil {
		if !c.room() {
			return
		}
		if fresh {
			_ = c.conn.SetReadDeadline(time.Now().Add(limit))
		}
		n, err := c.conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		whole, ok := wholeFrames(buf)
		if fresh = whole > 0; fresh {
			limit = orDefault(t.Idle, idleTimeout)
			asked := c.hand(append([]byte(nil), buf[:whole]...), left)
			if left > 0 && asked == left {
				return
			}
			left -= min(asked, left)
			buf = buf[:copy(buf, buf[whole:])]
		}
		if err != nil || !ok {
			return
		}
	}
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// wholeFrames gives the length of the frames that are complete; false when what follows is no query.
func wholeFrames(b []byte) (n int, ok bool) {
	for len(b)-n >= 2 {
		size := int(binary.BigEndian.Uint16(b[n:]))
		if size > maxQuery {
			return n, false
		}
		if len(b)-n < 2+size {
			break
		}
		n += 2 + size
	}
	return n, true
}

func (c *secureConn) room() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.broken && (c.inFlight >= inFlightLimit || len(c.out) > unwrittenLimit || c.stream) {
		c.changed.Wait()
	}
	return !c.broken
}

// hand gives whole frames to the loop, most of them at most unless that is 0, and tells how many.
func (c *secureConn) hand(frames []byte, most int) (count int) {
	end := 0
	for end < len(frames) && (most == 0 || count < most) {
		end += 2 + int(binary.BigEndian.Uint16(frames[end:]))
		count++
	}
	frames = frames[:end]
	c.mu.Lock()
	c.inFlight += count
	c.mu.Unlock()
	c.w.Loop.Post(loop.TaskFunc(func(l *loop.Loop) {
		c.w.lastQuery.Store(int64(l.Now()))
		for b := frames; len(b) > 0; {
			n := int(binary.BigEndian.Uint16(b))
			c.deliver(b[2 : 2+n])
			b = b[2+n:]
		}
	}))
	return count
}

func (c *secureConn) deliver(packet []byte) {
	q := c.w.Get()
	q.Client, q.Local, q.Proto, q.Start, q.Back.Socket = c.client, c.local, chain.TLS, c.w.Loop.Now(), c
	var scratch [512]byte
	ok, answer := gate(&q.Request, packet, scratch[:0])
	if !ok {
		c.w.refused()
		c.answered(answer)
		c.w.Put(q)
		return
	}
	c.w.Start(q, c.l.table.Load(), c)
}

// Finish hands the answer to the writer.
func (c *secureConn) Finish(q *chain.Query, out chain.Outcome) {
	if !Complete(q, out) {
		c.answered(nil)
		return
	}
	c.answered(c.w.fit(c.w.scratch[:0], q, q.Limit()))
}

// answered appends a message, copied, or none, as the end of one query.
func (c *secureConn) answered(msg []byte) {
	c.mu.Lock()
	c.inFlight--
	if len(msg) > 0 {
		c.out = binary.BigEndian.AppendUint16(c.out, uint16(len(msg)))
		c.out = append(c.out, msg...)
	}
	c.changed.Broadcast()
	c.mu.Unlock()
}

// write writes all that has gathered in one go, until the connection has ended and nothing is owed to it.
func (c *secureConn) write() {
	var b []byte
	for {
		c.mu.Lock()
		for len(c.out) == 0 && !c.broken && !(c.ended && c.inFlight == 0 && !c.stream) {
			c.changed.Wait()
		}
		if c.broken {
			c.out = nil
		}
		b, c.out = c.out, b[:0]
		c.changed.Broadcast()
		c.mu.Unlock()
		if len(b) == 0 {
			return
		}
		_ = c.conn.SetWriteDeadline(time.Now().Add(orDefault(c.l.timeout.Load().Write, stallLimit)))
		if _, err := c.conn.Write(b); err != nil {
			c.mu.Lock()
			c.broken = true
			c.changed.Broadcast()
			c.mu.Unlock()
			c.conn.Close()
			return
		}
	}
}

// Stream gives the connection's output to f until it returns (chain.Streamer).
func (c *secureConn) Stream(f func(w chain.MessageWriter) error) {
	c.mu.Lock()
	c.stream = true
	c.mu.Unlock()
	c.l.s.streams.Go(func() {
		if f(c) != nil {
			c.conn.Close() // a client must not take half a zone for a whole one
		}
		c.mu.Lock()
		c.stream = false
		c.changed.Broadcast()
		c.mu.Unlock()
	})
}

// WriteMessage appends one message of a stream and waits while too much is unwritten.
func (c *secureConn) WriteMessage(msg []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.broken && len(c.out) > unwrittenLimit {
		c.changed.Wait()
	}
	if c.broken {
		return errClosed
	}
	c.out = binary.BigEndian.AppendUint16(c.out, uint16(len(msg)))
	c.out = append(c.out, msg...)
	c.changed.Broadcast()
	return nil
}
