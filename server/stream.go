package server

import (
	"encoding/binary"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/loop"
)

// tcpStream is the output of a zone transfer on a connection of a loop: a goroutine makes the messages, the loop writes
// them, and the goroutine waits while the client does not read.
type tcpStream struct {
	c       *tcpConn
	waiting bool       // a WriteMessage has not been answered; owned by the loop
	done    chan error // one place, so that the loop never waits
}

// Stream gives the connection's output to f until it returns (chain.Streamer).
func (c *tcpConn) Stream(f func(w chain.MessageWriter) error) {
	s := &tcpStream{c: c, done: make(chan error, 1)}
	c.stream, c.streaming = s, true
	c.w.s.streams.Go(func() {
		err := f(s)
		c.w.Loop.Post(loop.TaskFunc(func(*loop.Loop) { c.streamed(err) }))
	})
}

// streamed goes on with the connection's next query, or closes it when the transfer broke off: a client must not take
// half a zone for a whole one.
func (c *tcpConn) streamed(err error) {
	c.stream, c.streaming = nil, false
	switch {
	case c.closed:
	case err != nil:
		c.close()
	default:
		c.Do(c.w.Loop)
	}
}

// WriteMessage hands one message to the loop and waits until there is room for the next.
func (s *tcpStream) WriteMessage(msg []byte) error {
	framed := make([]byte, 2, 2+len(msg))
	binary.BigEndian.PutUint16(framed, uint16(len(msg)))
	framed = append(framed, msg...)
	s.c.w.Loop.Post(loop.TaskFunc(func(*loop.Loop) { s.take(framed) }))
	return <-s.done
}

func (s *tcpStream) take(framed []byte) {
	s.waiting = true
	if s.c.closed {
		s.fail(errClosed)
		return
	}
	s.c.out = append(s.c.out, framed...)
	s.c.write()
	s.c.settle()
}

// wake lets the goroutine go on when enough has been written.
func (s *tcpStream) wake() {
	if s.waiting && len(s.c.out) <= unwrittenLimit {
		s.waiting = false
		s.done <- nil
	}
}

func (s *tcpStream) fail(err error) {
	if s.waiting {
		s.waiting = false
		s.done <- err
	}
}
