//go:build !portable

package server

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// TestUDPAllocatesNothing takes the way of a datagram without the system calls that bring and take it.
func TestUDPAllocatesNothing(t *testing.T) {
	r := newRig(t)
	w := r.s.workers[0]
	var b chain.Builder
	b.Add("fast", fast{})
	u := &udpSocket{w: w, fd: -1, local: netip.MustParseAddrPort("0.0.0.0:53"), wild: true}
	table := &Table{Label: "dns://:53", Config: &chain.Config{}}
	table.Add(wire.Root, b.Chain())
	u.table = newPointer(table)
	u.out.begin(u.fd, u.local.Addr(), &w.dropped)
	rec := newReceiver()
	packet := query("wWw.example.org", 5, 1232)
	done := make(chan float64)
	w.Loop.Post(taskFunc(func() {
		run := func() {
			copy(rec.buf[0][:], packet)
			rec.hdr[0].n = uint32(len(packet))
			*(*uint16)(rawPointer(&rec.addr[0])) = unix.AF_INET
			rec.hdr[0].hdr.Namelen = unix.SizeofSockaddrInet4
			u.deliver(rec, 0)
			if u.out.n != 1 {
				panic("no answer was gathered")
			}
			u.out.n, u.out.used = 0, 0
			rec.rearm(1)
		}
		run()
		done <- testing.AllocsPerRun(200, run)
	}))
	if n := <-done; n != 0 {
		t.Errorf("a query allocates %v times", n)
	}
}
