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

// tune sets what is particular to UDP sockets.
func tune(fd int, addr netip.Addr) error {
	var err error
	switch wild := addr.IsUnspecified(); {
	case wild && addr.Is6():
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	case wild: // a bound socket knows its address, and the kernel need not find it out for each datagram
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
	if addr.Is4() {
		// Path MTU discovery is left to others: a fragmented answer is better than none (RFC 9715 concerns larger ones).
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
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
