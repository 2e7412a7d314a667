package server

import (
	"encoding/binary"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

func zoneIndex(zone string) uint32 {
	if i, err := net.InterfaceByName(zone); err == nil {
		return uint32(i.Index)
	}
	return 0
}

// rawAddr reads the socket address that the kernel wrote. The zone of a link-local address is not resolved to a name:
// answers go back to the raw address.
func rawAddr(raw *[28]byte) netip.AddrPort {
	port := binary.BigEndian.Uint16(raw[2:])
	if *(*uint16)(unsafe.Pointer(&raw[0])) == unix.AF_INET6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(raw[8:24])), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(raw[4:8])), port)
}

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
