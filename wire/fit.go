package wire

import "encoding/binary"

// MinUDP is what every client takes over UDP (RFC 1035, 4.2.1); an advertised size below it counts as it (RFC 6891, 6.2.3).
const MinUDP = 512

// unfragmented is what goes through every IPv6 link in one datagram (RFC 8200, 5, less headers): over UDP a larger reply is
// compressed even where it fits in what the client takes, so that it may stay whole.
const unfragmented = 1220

// Fitter fits replies to their clients. It holds the tables of full compression, so that none are allocated per reply;
// it must not be used by two goroutines at once.
type Fitter struct {
	// Echo says which of the client's EDNS options go back to it unchanged.
	Echo func(code uint16) bool

	table   [1 << 11]uint16 // offsets of names written so far, by hash; 0 is free
	scratch []byte
	names   int
}

// Append appends the finished message for the client of r to out: the reply as it stands where it fits in limit octets,
// else with every name compressed, else cut before the first record that does not fit, with TC set (RFC 2181, 9). Then
// OPT when the client sent one (RFC 6891, 6.1.1): its size repeated, version 0, its DO bit.
// limit is the largest message for the transport; tail is room to be left free behind it (TSIG).
func (f *Fitter) Append(out []byte, m *Reply, r *Request, limit, tail int) []byte {
	start := len(out)
	m.Restore(r)
	opt := f.optLen(m, r)
	room := limit - tail
	if n := len(m.b) + opt; n <= room && (limit == MaxMessage || n <= unfragmented) {
		out = append(out, m.b...)
	} else if m.stride > 0 && m.section == Answer {
		out = m.appendOwn(out, room-opt)
	} else {
		out = f.compress(out, m, room-opt)
	}
	msg := out[start:]
	if !r.EDNS.Present {
		rcode := m.Rcode
		if rcode > 0xF { // only EDNS has room for it (RFC 6891, 6.1.3), and its lower bits mean something else
			rcode = ServFail
		}
		msg[3] = msg[3]&0xF0 | byte(rcode)
		return out
	}
	msg[3] = msg[3]&0xF0 | byte(m.Rcode&0xF)
	binary.BigEndian.PutUint16(msg[10:], binary.BigEndian.Uint16(msg[10:])+1)
	if m.OwnOPT {
		flags := m.OwnFlags&0xFF00 | r.EDNS.Flags&0x8000
		return appendOPT(out, r.EDNS.Size, uint8(m.Rcode>>4), flags, m.Options)
	}
	out = appendOPT(out, r.EDNS.Size, uint8(m.Rcode>>4), r.EDNS.Flags&0xFF00, nil)
	if opt > emptyOPT {
		binary.BigEndian.PutUint16(out[len(out)-2:], uint16(opt-emptyOPT))
		out = f.appendEchoed(out, r.EDNS.Options)
	}
	return out
}

const emptyOPT = 11

func (f *Fitter) optLen(m *Reply, r *Request) int {
	switch {
	case !r.EDNS.Present:
		return 0
	case m.OwnOPT:
		return emptyOPT + len(m.Options)
	}
	n := emptyOPT
	for list := r.EDNS.Options; len(list) > 0; {
		code, data, rest := NextOption(list)
		if f.echoes(code) {
			n += 4 + len(data)
		}
		list = rest
	}
	return n
}

func (f *Fitter) echoes(code uint16) bool {
	switch code {
	case OptionNSID, OptionExpire, OptionCookie, OptionKeepalive, OptionPadding:
		return true
	}
	return f.Echo != nil && f.Echo(code)
}

func (f *Fitter) appendEchoed(out, list []byte) []byte {
	for len(list) > 0 {
		code, data, rest := NextOption(list)
		if f.echoes(code) {
			out = AppendOption(out, code, data)
		}
		list = rest
	}
	return out
}

// compress writes the message with all names compressed (RFC 1035, 4.1.4), as far as it fits in room.
func (f *Fitter) compress(out []byte, m *Reply, room int) []byte {
	start := len(out)
	var c Cursor
	var r Record
	if c.Open(m.b) != nil {
		return append(out, m.b[:HeaderSize]...)
	}
	if short, ok := addresses(out, m.b, c.Offset(), room); ok {
		return short
	}
	clear(f.table[:])
	f.names = 0
	out = append(out, m.b[:c.Offset()]...)
	msg := out[start:]
	clear(msg[6:HeaderSize])
	f.remember(msg, HeaderSize)
	for {
		s, ok, err := c.Next(&r)
		if err != nil || !ok {
			return out
		}
		mark := len(out)
		out = f.record(out, start, &r)
		msg = out[start:]
		if len(msg) > room {
			out = out[:mark]
			out[start+2] |= byte(FlagTC >> 8)
			return out
		}
		at := 6 + 2*int(s)
		binary.BigEndian.PutUint16(msg[at:], binary.BigEndian.Uint16(msg[at:])+1)
	}
}

// appendOwn does what compress does for an answer that AppendOwnData made whole: what fits is known without a look at it.
func (m *Reply) appendOwn(out []byte, room int) []byte {
	start, first, n := len(out), HeaderSize+m.qname+4, m.Count(Answer)
	fits := min(n, max(0, room-first)/m.stride)
	out = append(out, m.b[:first+fits*m.stride]...)
	binary.BigEndian.PutUint16(out[start+6:], uint16(fits))
	if fits < n {
		out[start+2] |= byte(FlagTC >> 8)
	}
	return out
}

// addresses does what compress does for a message of addresses alone whose owners are all pointers, however many: there
// is nothing to compress, so it is copied as far as it fits. It reports false, and appends nothing, for any other.
func addresses(out, msg []byte, first, room int) ([]byte, bool) {
	fits, end, cut := [3]uint16{}, first, false
	for s := 0; s < len(fits) && !cut; s++ {
		for range binary.BigEndian.Uint16(msg[6+2*s:]) {
			if end+12 > len(msg) || msg[end] < 0xC0 {
				return out, false
			}
			if t := Type(binary.BigEndian.Uint16(msg[end+2:])); t != TypeA && t != TypeAAAA {
				return out, false
			}
			next := end + 12 + int(binary.BigEndian.Uint16(msg[end+10:]))
			if next > len(msg) {
				return out, false
			}
			if cut = next > room; cut {
				break
			}
			end = next
			fits[s]++
		}
	}
	start := len(out)
	out = append(out, msg[:end]...)
	for s, n := range fits {
		binary.BigEndian.PutUint16(out[start+6+2*s:], n)
	}
	if cut {
		out[start+2] |= byte(FlagTC >> 8)
	}
	return out, true
}

func (f *Fitter) record(out []byte, start int, r *Record) []byte {
	out = f.name(out, start, r.Owner())
	out = append(out, byte(r.Type>>8), byte(r.Type), byte(r.Class>>8), byte(r.Class),
		byte(r.TTL>>24), byte(r.TTL>>16), byte(r.TTL>>8), byte(r.TTL), 0, 0)
	at := len(out)
	data, err := r.Data(f.scratch[:0])
	if err != nil {
		return out
	}
	f.scratch = data
	l := layoutOf(r.Type)
	if len(data) == 0 {
		l.names = 0
	}
	head := int(l.fixed)
	if r.Type == TypeNAPTR {
		head = naptrStrings(data, 0, len(data))
	}
	if l.names > 0 {
		out = append(out, data[:head]...)
		data = data[head:]
	}
	for range l.names {
		n := Name(data[:nameLen(data)])
		if l.compress {
			out = f.name(out, start, n)
		} else {
			out = f.plainName(out, start, n)
		}
		data = data[len(n):]
	}
	out = append(out, data...)
	binary.BigEndian.PutUint16(out[at-2:], uint16(len(out)-at))
	return out
}

// nameLen is the length of the uncompressed name at the head of b, which is known to be whole.
func nameLen(b []byte) int {
	n := 0
	for b[n] != 0 {
		n += 1 + int(b[n])
	}
	return n + 1
}

// name appends n, pointing to the longest ending of it that was written before, and remembers what is new.
func (f *Fitter) name(out []byte, start int, n Name) []byte {
	first := len(out)
	for len(n) > 1 {
		if at, ok := f.find(out[start:], n); ok {
			out = binary.BigEndian.AppendUint16(out, uint16(0xC000|at))
			f.rememberUpTo(out[start:], first-start, len(out)-2-start)
			return out
		}
		out = append(out, n[:1+int(n[0])]...)
		n = n.Parent()
	}
	out = append(out, 0)
	f.rememberUpTo(out[start:], first-start, len(out)-1-start)
	return out
}

// plainName appends n as it is and remembers what of it is new: nothing may be compressed there, but owners may point
// there.
func (f *Fitter) plainName(out []byte, start int, n Name) []byte {
	first, fresh := len(out)-start, 0
	for rest := n; len(rest) > 1; rest = rest.Parent() {
		if _, ok := f.find(out[start:], rest); ok {
			break
		}
		fresh += 1 + int(rest[0])
	}
	out = append(out, n...)
	f.rememberUpTo(out[start:], first, first+fresh)
	return out
}

func (f *Fitter) remember(msg []byte, off int) {
	end := off + nameLen(msg[off:]) - 1
	f.rememberUpTo(msg, off, end)
}

// rememberUpTo enters every name that begins in [off, end) into the table.
func (f *Fitter) rememberUpTo(msg []byte, off, end int) {
	for off < end && off < 0x4000 && f.names < len(f.table)*3/4 {
		slot := f.hashAt(msg, off)
		for f.table[slot] != 0 {
			slot = (slot + 1) % uint32(len(f.table))
		}
		f.table[slot] = uint16(off)
		f.names++
		off += 1 + int(msg[off])
	}
}

func (f *Fitter) find(msg []byte, n Name) (int, bool) {
	h := uint32(2166136261)
	for _, c := range n {
		h = (h ^ uint32(lower[c])) * 16777619
	}
	for slot := h % uint32(len(f.table)); f.table[slot] != 0; slot = (slot + 1) % uint32(len(f.table)) {
		if sameAt(msg, int(f.table[slot]), n) {
			return int(f.table[slot]), true
		}
	}
	return 0, false
}

func (f *Fitter) hashAt(msg []byte, off int) uint32 {
	h := uint32(2166136261)
	for {
		c := msg[off]
		if c >= 0xC0 {
			off = int(c&0x3F)<<8 | int(msg[off+1])
			continue
		}
		h = (h ^ uint32(c)) * 16777619
		if c == 0 {
			return h % uint32(len(f.table))
		}
		for _, b := range msg[off+1 : off+1+int(c)] {
			h = (h ^ uint32(lower[b])) * 16777619
		}
		off += 1 + int(c)
	}
}

// sameAt compares the name at off with n without regard to case. A label's length octet is below 64, so comparing
// lowered octets compares lengths too.
func sameAt(msg []byte, off int, n Name) bool {
	for i := 0; ; {
		c := msg[off]
		if c >= 0xC0 {
			off = int(c&0x3F)<<8 | int(msg[off+1])
			continue
		}
		if n[i] != c {
			return false
		}
		if c == 0 {
			return true
		}
		if !Equal(Name(msg[off+1:off+1+int(c)]), n[i+1:i+1+int(c)]) {
			return false
		}
		off += 1 + int(c)
		i += 1 + int(c)
	}
}
