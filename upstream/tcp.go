package upstream

import (
	"encoding/binary"
	"io"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/loop"
)

// maxUnsent bounds what waits for a peer that reads too slowly.
const maxUnsent = 1 << 18

// readsInARow bounds the reads of one connection before others have their turn.
const readsInARow = 64

// tcp carries a stream over a plain connection of the loop's own.
type tcp struct {
	s   *stream
	fd  int    // -1 when closed
	out []byte // not yet sent
	in  []byte // read and not yet taken
	on  bool   // watched for being writable

	gathered bool // asked for the end of the turn
}

func newTCP(s *stream) (*tcp, error) {
	m := s.p.m
	fd, local, err := open(unix.SOCK_STREAM, s.p.s.Addr, m.g.cfg.Source)
	if err != nil {
		return nil, err
	}
	if m.g.cfg.Service {
		watchPeer(fd)
	}
	c := &tcp{s: s, fd: fd, on: true}
	s.local = local
	if err := m.loop.AddPatient(fd, c, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return c, nil
}

// Ready goes on with connecting, sending and reading.
func (c *tcp) Ready(_ *loop.Loop, readable, writable bool) bool {
	if !c.s.ready && !c.connected() {
		return false
	}
	if writable && c.fd >= 0 {
		c.flush()
	}
	if readable && c.fd >= 0 {
		c.read()
	}
	return false
}

// connected reports whether the connection is up; a failed one is lost.
func (c *tcp) connected() bool {
	ok, err := pending(c.fd)
	if err != nil {
		c.s.lost(dialError(unix.SOCK_STREAM, c.s.p.s.Addr, "connect", err))
		return false
	}
	if ok {
		c.s.opened(loop.Local(c.fd))
	}
	return ok
}

// write gathers a frame. The questions of a turn leave with one system call, and one segment.
func (c *tcp) write(frame []byte) {
	c.out = append(c.out, frame...)
	if c.s.ready && !c.gathered {
		c.gathered = true
		c.s.p.m.gathered(c)
	}
}

// endTurn sends what was gathered. What fails is found by the next read, which is told of it.
func (c *tcp) endTurn() {
	c.gathered = false
	if c.s.p.m.g.cfg.Service {
		c.s.p.last = nil // each turn draws anew
	}
	if c.fd < 0 || len(c.out) == 0 {
		return
	}
	n, errno := loop.Write(c.fd, c.out)
	if errno == 0 {
		c.out = c.out[:copy(c.out, c.out[n:])]
	}
	if len(c.out) > 0 && !c.on {
		c.on = true
		c.s.p.m.loop.Watch(c.fd, true)
	}
}

// flush sends what is left.
func (c *tcp) flush() {
	for len(c.out) > 0 {
		n, errno := loop.Write(c.fd, c.out)
		switch errno {
		case 0:
			c.out = c.out[:copy(c.out, c.out[n:])]
		case unix.EINTR:
		case unix.EAGAIN:
			if len(c.out) > maxUnsent {
				c.failed("write", unix.ENOBUFS)
			}
			return
		default:
			c.failed("write", errno)
			return
		}
	}
	if c.on {
		c.on = false
		c.s.p.m.loop.Watch(c.fd, false)
	}
}

func (c *tcp) failed(op string, errno unix.Errno) {
	c.s.lost(ioError(op, unix.SOCK_STREAM, c.s.local, c.s.p.s.Addr, errno))
}

// read takes whole frames (RFC 1035, 4.2.2) as they come.
func (c *tcp) read() {
	for range readsInARow {
		if cap(c.in)-len(c.in) < 2048 {
			c.in = append(make([]byte, 0, 2*cap(c.in)+4096), c.in...)
		}
		n, errno := loop.Read(c.fd, c.in[len(c.in):cap(c.in)])
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			return
		case errno != 0:
			c.failed("read", errno)
			return
		case n == 0:
			c.s.lost(io.EOF)
			return
		}
		free := cap(c.in) - len(c.in)
		c.in = c.in[:len(c.in)+n]
		if !c.frames() || n < free { // less than there was room for: there is no more, and waiting tells of what comes
			return
		}
	}
}

// frames hands out the whole frames that have come and reports whether the connection is still there.
func (c *tcp) frames() bool {
	off := 0
	for len(c.in)-off >= 2 {
		n := int(binary.BigEndian.Uint16(c.in[off:]))
		if len(c.in)-off < 2+n {
			break
		}
		c.s.received(c.in[off+2 : off+2+n])
		off += 2 + n
		if c.fd < 0 {
			return false
		}
	}
	c.in = c.in[:copy(c.in, c.in[off:])]
	return true
}

func (c *tcp) close() {
	if c.fd < 0 {
		return
	}
	c.s.p.m.loop.Remove(c.fd)
	unix.Close(c.fd)
	c.fd = -1
}
