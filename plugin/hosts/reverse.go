package hosts

import (
	"net/netip"

	"github.com/godwit-dns/godwit/wire"
)

const (
	in4 = "\x07in-addr\x04arpa\x00"
	in6 = "\x03ip6\x04arpa\x00"
)

// nibbles is the number of labels of an IPv6 address below ip6.arpa.
const nibbles = 32

// reversed gives the address that a lower-case reverse name stands for. As in CoreDNS up to three labels before a whole
// IPv6 address are passed over, and an IPv4 address in the form of IPv6 is an IPv4 address.
func reversed(n wire.Name) (netip.Addr, bool) {
	labels := n.Labels() - 2
	switch {
	case labels == 4 && n.Under(wire.Name(in4)):
		return reversed4(n)
	case labels >= nibbles && labels < nibbles+4 && n.Under(wire.Name(in6)):
		for range labels - nibbles {
			n = n.Parent()
		}
		return reversed6(n)
	}
	return netip.Addr{}, false
}

func reversed4(n wire.Name) (netip.Addr, bool) {
	var a [4]byte
	for i := 3; i >= 0; i-- {
		v, ok := octet(n.Label())
		if !ok {
			return netip.Addr{}, false
		}
		a[i] = v
		n = n.Parent()
	}
	return netip.AddrFrom4(a), true
}

// octet reads a decimal number up to 255 without leading zeros.
func octet(label []byte) (byte, bool) {
	v := 0
	for _, c := range label {
		if c < '0' || c > '9' || v > 255 {
			return 0, false
		}
		v = 10*v + int(c-'0')
	}
	return byte(v), v <= 255 && (len(label) == 1 || label[0] != '0')
}

func reversed6(n wire.Name) (netip.Addr, bool) {
	var a [16]byte
	for i := nibbles - 1; i >= 0; i-- {
		label := n.Label()
		v, ok := hexDigit(label)
		if !ok {
			return netip.Addr{}, false
		}
		a[i/2] |= v << (4 * (1 - i%2))
		n = n.Parent()
	}
	return netip.AddrFrom16(a).Unmap(), true
}

func hexDigit(label []byte) (byte, bool) {
	if len(label) != 1 {
		return 0, false
	}
	switch c := label[0]; {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
