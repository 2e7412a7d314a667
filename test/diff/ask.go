package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// reply is what one server made of a question.
type reply struct {
	messages [][]byte // none when it stayed silent
	closed   bool     // it closed the connection
	refused  bool     // nothing listens there
}

// pair is a value for each server: CoreDNS and Godwit.
type pair[T any] [2]T

// quiet is how long silence has to last where it is likely.
const quiet = 300 * time.Millisecond

// ask sends a question to both servers from the same address and port, so that answers that tell them are alike.
func ask(q *question, to pair[netip.AddrPort], id uint16, wait time.Duration) (pair[reply], error) {
	packet := append([]byte{}, q.packet...)
	if len(packet) >= 2 {
		binary.BigEndian.PutUint16(packet, id)
	}
	if q.proto == "udp" {
		return askUDP(q, packet, to, wait)
	}
	return askStream(q, packet, to, wait)
}

func askUDP(q *question, packet []byte, to pair[netip.AddrPort], wait time.Duration) (got pair[reply], err error) {
	var local netip.AddrPort
	if q.at.Is4() {
		local = netip.AddrPortFrom(loopback, 0)
	} else {
		local = netip.AddrPortFrom(netip.IPv6Loopback(), 0)
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(local))
	if err != nil {
		return got, err
	}
	defer conn.Close()
	for _, addr := range to {
		if _, err := conn.WriteToUDPAddrPort(packet, addr); err != nil {
			return got, err
		}
	}
	deadline := time.Now().Add(wait)
	if q.silent {
		deadline = time.Now().Add(quiet)
	}
	buf := make([]byte, 65536)
	for n := 0; n < 2; {
		conn.SetReadDeadline(deadline)
		size, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return got, err
			}
			if n == 1 && time.Until(deadline) < 0 && q.silent { // one answered: give the other its full time
				q.silent = false
				deadline = time.Now().Add(wait)
				continue
			}
			return got, nil
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		for i := range to {
			if from == to[i] && got[i].messages == nil {
				got[i].messages = [][]byte{append([]byte{}, buf[:size]...)}
				n++
			}
		}
	}
	return got, nil
}

// askStream asks over TCP or TLS: both connections begin at the same local port.
func askStream(q *question, packet []byte, to pair[netip.AddrPort], wait time.Duration) (got pair[reply], err error) {
	if q.silent {
		wait = quiet
	}
	var conns pair[net.Conn]
	port := 0
	for i, addr := range to {
		conns[i], err = dialFrom(port, addr)
		if errors.Is(err, syscall.ECONNREFUSED) {
			got[i].refused = true
			continue
		}
		if err != nil {
			return got, err
		}
		defer conns[i].Close()
		port = conns[i].LocalAddr().(*net.TCPAddr).Port
	}
	var wg sync.WaitGroup
	for i, c := range conns {
		if c == nil {
			continue
		}
		wg.Go(func() {
			c.SetDeadline(time.Now().Add(wait))
			if q.proto == "tls" {
				c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // a comparison, not a secret
			}
			got[i] = exchange(c, q, packet)
		})
	}
	wg.Wait()
	return got, nil
}

func dialFrom(port int, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Timeout: 2 * time.Second, Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		return errors.Join(err, failed)
	}}
	from := loopback.AsSlice()
	if to.Addr().Is6() {
		from = net.IPv6loopback
	}
	d.LocalAddr = &net.TCPAddr{IP: from, Port: port}
	c, err := d.DialContext(context.Background(), "tcp", to.String())
	if err != nil && port != 0 && errors.Is(err, syscall.EADDRINUSE) { // another's by now: alike ports are a convenience
		return dialFrom(0, to)
	}
	return c, err
}

func exchange(c net.Conn, q *question, packet []byte) (r reply) {
	frame := binary.BigEndian.AppendUint16(nil, uint16(len(packet)))
	if _, err := c.Write(append(frame, packet...)); err != nil {
		r.closed = true
		return r
	}
	for ends := 0; ; {
		var head [2]byte
		_, err := io.ReadFull(c, head[:])
		if err == nil {
			b := make([]byte, binary.BigEndian.Uint16(head[:]))
			if _, err = io.ReadFull(c, b); err == nil {
				r.messages = append(r.messages, b)
			}
		}
		if err != nil {
			r.closed = !errors.Is(err, os.ErrDeadlineExceeded)
			return r
		}
		if ends += transferEnds(r.messages[len(r.messages)-1]); !q.stream || ends >= 2 {
			return r
		}
	}
}

// transferEnds counts what ends a zone transfer: two SOA records, or a message that is not part of one.
func transferEnds(b []byte) int {
	m := new(dns.Msg)
	if m.Unpack(b) != nil || m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0 {
		return 2
	}
	n := 0
	for _, rr := range m.Answer {
		if rr.Header().Rrtype == dns.TypeSOA {
			n++
		}
	}
	if n == 1 && len(m.Answer) == 1 && len(m.Ns) > 0 { // an IXFR's "nothing newer" has one alone; it comes by itself
		return 2
	}
	return n
}
