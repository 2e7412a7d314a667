package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"strconv"
)

// The name server behind those that forward: it answers A and AAAA for every name with one address made of the name's
// hash, all other types with no record, over UDP in batches and over TCP as many as have come at once. It runs on the
// generator's core, so that what it costs is not billed to the server that is measured.

// answerer makes answers with one TTL.
type answerer struct{ ttl uint32 }

// upstreamMain is the process: upstream ADDRESS:PORT TTL.
func upstreamMain(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: bench upstream ADDRESS:PORT TTL")
	}
	ttl, err := strconv.ParseUint(args[1], 10, 32)
	if err != nil {
		return err
	}
	a := answerer{uint32(ttl)}
	fd, err := udpSocket(args[0])
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp4", args[0])
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(4) // the UDP loop keeps one while it waits
	debug.SetGCPercent(-1)
	go a.streams(l)
	d := newDatagrams()
	for {
		n := d.receive(fd)
		for i := range n {
			size := min(int(d.hdr[i].n), echoSlot)
			d.iov[i].SetLen(len(a.answer(d.buf[i][:size])))
		}
		if n > 0 {
			d.send(fd, n)
			d.reset(n)
		}
	}
}

func (a answerer) streams(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			fmt.Println("accept:", err)
			return
		}
		go func() {
			defer c.Close()
			_ = a.stream(c) // the client's end of a connection is no error
		}()
	}
}

func (a answerer) stream(c net.Conn) error {
	in, out := bufio.NewReaderSize(c, 64<<10), bufio.NewWriterSize(c, 64<<10)
	buf := make([]byte, 2+echoSlot)
	for {
		if in.Buffered() < 2 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		if _, err := io.ReadFull(in, buf[:2]); err != nil {
			return err
		}
		n := bigEndian(buf)
		if n > echoSlot {
			return errors.New("a query that is too long")
		}
		if _, err := io.ReadFull(in, buf[2:2+n]); err != nil {
			return err
		}
		msg := a.answer(buf[2 : 2+n])
		binary.BigEndian.PutUint16(buf, uint16(len(msg)))
		if _, err := out.Write(buf[:2+len(msg)]); err != nil {
			return err
		}
	}
}

// answer makes the answer in the buffer of the query, which has room behind it. What is no query comes back as it is.
func (a answerer) answer(b []byte) []byte {
	end := 12
	for end < len(b) && b[end] != 0 {
		end += 1 + int(b[end])
	}
	if end += 5; len(b) < 12 || end > len(b) {
		return b
	}
	sum := uint64(14695981039346656037) // FNV-1a
	for _, c := range b[12 : end-4] {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		sum = (sum ^ uint64(c)) * 1099511628211
	}
	edns := b[11] > 0
	b[2], b[3] = b[2]|0x80, 0x80 // QR and what came; RA
	clear(b[6:12])
	typ := bigEndian(b[end-4:])
	out := b[:end]
	if typ == 1 || typ == 28 {
		out[7] = 1
		out = append(out, 0xC0, 12, 0, byte(typ), 0, 1)
		out = binary.BigEndian.AppendUint32(out, a.ttl)
		if typ == 1 {
			out = append(out, 0, 4, 10, byte(sum>>16), byte(sum>>8), byte(sum))
		} else {
			out = append(out, 0, 16, 0xFD, 0, 0, 0, 0, 0, 0, 0)
			out = binary.BigEndian.AppendUint64(out, sum)
		}
	}
	if edns {
		out[11] = 1
		out = append(out, 0, 0, 41, 0x04, 0xD0, 0, 0, 0, 0, 0, 0)
	}
	return out
}
