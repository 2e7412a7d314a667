package cluster

import "encoding/binary"

// Ports are kept as text: for each port its number (4 octets, noPort for none), then protocol and name in lower case,
// each behind its length. Equal sets have equal text, so that slices share one.

// noPort marks the entry that stands for "no ports at all". It counts for the weight of SRV records and is no record.
const noPort = -1

func appendPort(dst []byte, name, protocol []byte, port int32) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(port))
	return appendShort(appendShort(dst, protocol), name)
}

func appendShort(dst, b []byte) []byte {
	b = b[:min(len(b), 255)]
	dst = append(dst, byte(len(b)))
	for _, c := range b {
		dst = append(dst, lower(c))
	}
	return dst
}

// portText is a walk over encoded ports; S is string or []byte.
type portText struct{ rest string }

// next gives the next port. The slices refer to the text.
func (p *portText) next() (number int32, protocol, name string, ok bool) {
	if len(p.rest) < 6 {
		return 0, "", "", false
	}
	r := p.rest
	number = int32(uint32(r[0])<<24 | uint32(r[1])<<16 | uint32(r[2])<<8 | uint32(r[3]))
	n := 5 + int(r[4])
	protocol = r[5:n]
	end := n + 1 + int(r[n])
	name = r[n+1 : end]
	p.rest = r[end:]
	return number, protocol, name, true
}

// matches reports whether a port is meant by m: an empty word means any.
func (m *Match) matches(protocol, name string) bool {
	return (len(m.Port) == 0 || string(m.Port) == name) && (len(m.Protocol) == 0 || string(m.Protocol) == protocol)
}

// count gives how many of the ports are meant by m.
func (m *Match) count(ports string) int {
	n := 0
	for p := (portText{ports}); ; {
		_, protocol, name, ok := p.next()
		if !ok {
			return n
		}
		if m.matches(protocol, name) {
			n++
		}
	}
}
