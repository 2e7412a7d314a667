//go:build !portable

package server

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlSize holds one IP_PKTINFO or IPV6_PKTINFO message.
const controlSize = 40

// readControl finds the address a datagram was sent to and, for link-local ones, the interface it came in by.
func readControl(b []byte) (to netip.Addr, ifindex uint32) {
	const header = unix.SizeofCmsghdr
	for len(b) >= header {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		if int(h.Len) < header || int(h.Len) > len(b) {
			return
		}
		data := b[header:h.Len]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= 12:
			return netip.AddrFrom4([4]byte(data[8:12])), 0
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= 20:
			to = netip.AddrFrom16([16]byte(data[:16]))
			if to.IsLinkLocalUnicast() {
				ifindex = *(*uint32)(unsafe.Pointer(&data[16]))
			}
			return
		}
		b = b[min(len(b), int(h.Len+7)&^7):]
	}
	return
}

// turnControl makes of the control message that came with a datagram the one that an answer to it needs.
func turnControl(b []byte) {
	const header = unix.SizeofCmsghdr
	if len(b) < header+12 {
		return
	}
	switch h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0])); {
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO:
		copy(b[header+4:], b[header+8:header+12]) // ipi_spec_dst is where it was sent to
		clear(b[header : header+4])               // the way back is the routing table's
	case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(b) >= header+20:
		if to := netip.AddrFrom16([16]byte(b[header:])); !to.IsLinkLocalUnicast() {
			clear(b[header+16 : header+20])
		}
	}
}

// writeControl makes the control message that gives an answer its source address, and its length.
func writeControl(b *[controlSize]byte, from netip.Addr, ifindex uint32) int {
	const header = unix.SizeofCmsghdr
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	if from.Is4() {
		h.Level, h.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
		h.SetLen(header + 12)
		a := from.As4()
		clear(b[header : header+12])
		copy(b[header+4:], a[:]) // ipi_spec_dst
		return header + 16       // aligned to 8
	}
	h.Level, h.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
	h.SetLen(header + 20)
	a := from.As16()
	copy(b[header:], a[:])
	*(*uint32)(unsafe.Pointer(&b[header+16])) = ifindex
	return header + 24
}

// wholeUpTo is the size of an answer that reaches everybody in one piece: an IPv6 packet of the smallest MTU (RFC 8200, 5)
// less its headers, as the DNS Flag Day 2020 has it.
const wholeUpTo = 1232

// wholeAgain is after how many calls without larger answers they are sent whole again.
const wholeAgain = 1000

// fragments tells the kernel whether it may cut an IPv4 socket's datagrams into fragments. Small ones go without: they need no
// identification (RFC 6864, 4), the search for which costs a fiftieth of a query. With larger ones it may, and leaves path MTU
// discovery to others: a fragmented answer is better than none.
type fragments struct {
	ipv4, allowed bool
	calls         int // without a larger answer since they are allowed
}

func (f *fragments) begin(fd int, addr netip.Addr) {
	f.ipv4 = addr.Is4()
	f.allow(fd, false)
}

func (f *fragments) allow(fd int, allowed bool) {
	if !f.ipv4 {
		return
	}
	mode := unix.IP_PMTUDISC_DO
	if allowed {
		mode = unix.IP_PMTUDISC_DONT
	}
	f.allowed, f.calls = allowed, 0
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, mode)
}

// before is told before each call how long its longest answer is.
func (f *fragments) before(fd, longest int) {
	switch {
	case longest > wholeUpTo && !f.allowed:
		f.allow(fd, true)
	case longest > wholeUpTo:
		f.calls = 0
	case f.allowed:
		if f.calls++; f.calls >= wholeAgain {
			f.allow(fd, false)
		}
	}
}

// tune sets what is particular to UDP sockets.
func tune(fd int, addr netip.Addr) error {
	var err error
	switch wild := addr.IsUnspecified(); {
	case wild && addr.Is6():
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	case wild: // a bound socket knows its address, and the kernel need not find it out for each datagram
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer) // less is not an error
	}
	return err
}

// allowAnyAddress lets a socket be bound to an address that no interface has yet.
func allowAnyAddress(fd int, ipv6 bool) error {
	if ipv6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
}
