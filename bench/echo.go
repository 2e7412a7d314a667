package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ruler: a process that does to a datagram the least that an answer takes. It receives up to 64 at a time by one
// blocking call, sets QR, appends 16 octets to each and sends them back by one call. The calls are raw, so the Go
// runtime has no part in its cost; it does not allocate after its start, so that a collection never has to wait for it.

const echoBatch = 64

// echoSlot is large enough for any query and its answer.
const echoSlot = 4608

type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// datagrams is a batch of receive and send slots.
type datagrams struct {
	hdr  [echoBatch]mmsghdr
	iov  [echoBatch]unix.Iovec
	addr [echoBatch]unix.RawSockaddrInet4
	buf  [echoBatch][echoSlot]byte
}

func newDatagrams() *datagrams {
	d := new(datagrams)
	for i := range d.hdr {
		d.iov[i].Base = &d.buf[i][0]
		h := &d.hdr[i].hdr
		h.Iov, h.Iovlen = &d.iov[i], 1
		h.Name = (*byte)(unsafe.Pointer(&d.addr[i]))
	}
	d.reset(echoBatch)
	return d
}

func (d *datagrams) reset(n int) {
	for i := range n {
		d.iov[i].SetLen(echoSlot)
		d.hdr[i].hdr.Namelen = unix.SizeofSockaddrInet4
	}
}

// receive blocks for the first datagram and takes those that are there with it.
func (d *datagrams) receive(fd int) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&d.hdr[0])), echoBatch, unix.MSG_WAITFORONE, 0, 0)
	if errno != 0 {
		runtime.Gosched() // a signal of the runtime's
		return 0
	}
	return int(n)
}

func (d *datagrams) send(fd, n int) {
	for done := 0; done < n; {
		k, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&d.hdr[done])), uintptr(n-done), 0, 0, 0)
		if errno != 0 {
			done++ // one that can't be sent does not keep the others
			continue
		}
		done += int(k)
	}
}

// tally is how many calls received how many datagrams, in a file that the harness maps too. The other way goes answer: how
// many octets the answers of a series have, where they are so many that their copies cost; 0 is the usual few.
type tally struct{ receives, datagrams, answer atomic.Uint64 }

// mapTally maps the file, made if need be. The mapping is never taken away.
func mapTally(path string) (*tally, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(int64(unsafe.Sizeof(tally{}))); err != nil {
		return nil, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(unsafe.Sizeof(tally{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap %s: %w", path, err)
	}
	return (*tally)(unsafe.Pointer(&b[0])), nil
}

// echoMain is the process: echo ADDRESS:PORT TALLYFILE.
func echoMain(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: bench echo ADDRESS:PORT TALLYFILE")
	}
	fd, err := udpSocket(args[0])
	if err != nil {
		return err
	}
	count, err := mapTally(args[1])
	if err != nil {
		return err
	}
	streams, err := newEchoStream(args[0])
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(4) // the UDP loop keeps one while it waits
	debug.SetGCPercent(-1)
	go streams.run()
	d, records := newDatagrams(), new([echoSlot]byte)
	tail := []byte{0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 1, 0, 1}
	for {
		n := d.receive(fd)
		if n == 0 {
			continue
		}
		count.receives.Add(1)
		count.datagrams.Add(uint64(n))
		for i := range n {
			b, size := &d.buf[i], min(int(d.hdr[i].n), echoSlot-len(tail))
			b[2] |= 0x84
			b[7] = 1
			end := size + copy(b[size:], tail)
			// A large answer has to be brought into its place by any server.
			if long := min(int(count.answer.Load()), echoSlot); long > end {
				end += copy(b[end:long], records[:])
			}
			d.iov[i].SetLen(end)
		}
		d.send(fd, n)
		d.reset(n)
	}
}

// udpSocket makes a blocking socket with the receive buffer that Godwit asks for too.
func udpSocket(addr string) (int, error) {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20) // less is not an error
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}); err != nil {
		return 0, fmt.Errorf("bind %s: %w", addr, err)
	}
	return fd, nil
}

func bigEndian(b []byte) int { return int(binary.BigEndian.Uint16(b)) }
