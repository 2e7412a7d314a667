package upstream

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/godwit-dns/godwit/loop"
)

// writeTimeout bounds the sending of one frame over TLS.
const writeTimeout = 2 * time.Second

// tlsCarrier carries a stream over TLS (RFC 7858). crypto/tls blocks, so two goroutines of the connection's own read and
// write; what they have goes to the loop's mailbox. They end with the connection and are joined by Group.Close.
type tlsCarrier struct {
	s      *stream
	out    chan []byte // holds as many frames as a connection has questions, so that write never blocks
	cancel context.CancelFunc
}

func newTLS(s *stream) *tlsCarrier {
	g := s.p.m.g
	ctx, cancel := context.WithCancel(g.ctx)
	c := &tlsCarrier{s: s, out: make(chan []byte, maxPipelined), cancel: cancel}
	cfg := s.p.s.TLS
	if cfg.ServerName == "" {
		cfg = cfg.Clone()
		cfg.ServerName = s.p.s.Addr.Addr().WithZone("").String()
	}
	g.wg.Go(func() { c.run(ctx, cfg) })
	return c
}

func (c *tlsCarrier) write(frame []byte) {
	select {
	case c.out <- append([]byte(nil), frame...):
	default:
		// Only a peer that does not read leaves so much unsent; the questions' own time runs out.
		c.s.retired = true
	}
}

func (c *tlsCarrier) close() { c.cancel() }

// post runs f on the loop, unless the stream has been closed meanwhile.
func (c *tlsCarrier) post(f func(s *stream)) {
	c.s.p.m.loop.Post(loop.TaskFunc(func(*loop.Loop) {
		if !c.s.closed {
			f(c.s)
		}
	}))
}

func (c *tlsCarrier) lost(err error) { c.post(func(s *stream) { s.lost(err) }) }

// run connects, then writes until the connection ends.
func (c *tlsCarrier) run(ctx context.Context, cfg *tls.Config) {
	defer c.cancel()
	dialing, stopDialing := context.WithTimeout(ctx, maxDial)
	defer stopDialing()
	var dialer net.Dialer
	if c.s.p.m.g.cfg.Service {
		watchDial(&dialer)
	}
	if from := c.s.p.m.g.cfg.Source; from.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	plain, err := dialer.DialContext(dialing, "tcp", c.s.p.s.Addr.String())
	if err != nil {
		c.lost(err)
		return
	}
	conn := tls.Client(plain, cfg)
	stop := context.AfterFunc(ctx, func() { _ = plain.Close() })
	defer stop()
	defer plain.Close()
	if err := conn.HandshakeContext(dialing); err != nil {
		c.lost(err)
		return
	}
	local := netip.AddrPort{}
	if a, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		local = a.AddrPort()
		local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	}
	c.post(func(s *stream) { s.opened(local) })
	c.s.p.m.g.wg.Go(func() { c.read(conn) })
	for {
		select {
		case frame := <-c.out:
			_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := conn.Write(frame); err != nil {
				c.lost(err)
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// read posts the frames that come until the connection ends, and ends it.
func (c *tlsCarrier) read(conn *tls.Conn) {
	defer c.cancel()
	var length [2]byte
	for {
		_, err := io.ReadFull(conn, length[:])
		if err == nil {
			msg := make([]byte, binary.BigEndian.Uint16(length[:]))
			if _, err = io.ReadFull(conn, msg); err == nil {
				c.post(func(s *stream) { s.received(msg) })
				continue
			}
		}
		c.lost(err)
		return
	}
}
