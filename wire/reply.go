package wire

import (
	"encoding/binary"
	"slices"
)

// MaxMessage is the largest message (RFC 1035, 4.2.2: the TCP length field).
const MaxMessage = 65535

// Reply is a reply under construction: header, question and records without OPT, in bytes. Records are appended in the
// order of the sections; appending to an earlier section than the last one is a mistake in the program and panics.
// The OPT record is added when the reply is fitted to its client (Fit), from Rcode's upper bits and Options.
type Reply struct {
	Rcode Rcode
	// Options are EDNS options that the reply carries of its own (an upstream's, an extended error). Nil means that the
	// client's are echoed. Owned by the Reply.
	Options []byte
	// OwnOPT says that the reply had an OPT of its own, so Options stand in place of the client's, even when empty.
	OwnOPT bool
	// OwnFlags are the flag bits of that OPT below the version.
	OwnFlags uint16

	b       []byte // the message
	plain   int    // its length without any compression, kept while appending
	owner   int    // offset of the previous record's owner
	section Section
	stride  int     // octets of an answer's record when all are addresses from AppendOwnData, else 0
	qname   int     // length of the question's name
	record  *Record // the record that Transcribe hands out, made once
	minTTL  uint32  // of all records
	maxTTL  uint32
	records int
}

// pointerToQuestion is a compression pointer to offset 12, where the question's name stands in every message.
const pointerToQuestion = 0xC000 | HeaderSize

// Attach gives the reply a buffer to write to. The reply owns it until Detach.
func (m *Reply) Attach(buf []byte) { m.b = buf[:0] }

// Detach takes the buffer back and empties the reply.
func (m *Reply) Detach() []byte {
	b := m.b
	*m = Reply{Options: m.Options[:0], record: m.record}
	return b
}

// Empty reports whether nothing has been written.
func (m *Reply) Empty() bool { return len(m.b) == 0 }

// Reset empties the reply and keeps its buffer.
func (m *Reply) Reset() { *m = Reply{b: m.b[:0], Options: m.Options[:0], record: m.record} }

// Bytes is the message as it stands, without OPT. It is valid until the next change.
func (m *Reply) Bytes() []byte { return m.b }

// PlainLen is the length that the message would have without any name compression and without OPT: what CoreDNS's
// response_size_bytes counts.
func (m *Reply) PlainLen() int { return m.plain }

// Begin writes the header and the question of a reply to r (RFC 1035, 4.1): QR, the opcode, RD and CD as asked (the last
// two for standard queries only), the given flags and rcode. What the reply held is gone.
func (m *Reply) Begin(r *Request, rcode Rcode, flags uint16) {
	m.Reset()
	m.Rcode = rcode
	bits := FlagQR | r.Flags&(0xF<<11) | flags | uint16(rcode&0xF)
	if r.Opcode() == OpQuery {
		bits |= r.Flags & (FlagRD | FlagCD)
	}
	name := r.spelling()
	b := binary.BigEndian.AppendUint16(m.b, r.ID)
	b = binary.BigEndian.AppendUint16(b, bits)
	b = append(b, 0, 1, 0, 0, 0, 0, 0, 0)
	b = append(b, name...)
	b = append(b, byte(r.Type>>8), byte(r.Type), byte(r.Class>>8), byte(r.Class))
	m.b, m.plain, m.qname, m.owner = b, len(b), len(name), 0
}

// Flags gives the header's bits.
func (m *Reply) Flags() uint16 { return binary.BigEndian.Uint16(m.b[2:]) }

// SetFlags sets and clears header bits other than the rcode's and the opcode's.
func (m *Reply) SetFlags(set, clear uint16) {
	binary.BigEndian.PutUint16(m.b[2:], m.Flags()&^clear|set)
}

// SetRcode changes the response code.
func (m *Reply) SetRcode(rcode Rcode) {
	m.Rcode = rcode
	m.b[3] = m.b[3]&0xF0 | byte(rcode&0xF)
}

// Count gives the number of records in a section.
func (m *Reply) Count(s Section) int {
	if len(m.b) < HeaderSize {
		return 0
	}
	return int(binary.BigEndian.Uint16(m.b[6+2*int(s):]))
}

func (m *Reply) added(s Section, n int) {
	if s < m.section {
		panic("wire: records are appended in the order of the sections")
	}
	m.section = s
	if s == Answer {
		m.stride = 0
	}
	at := 6 + 2*int(s)
	binary.BigEndian.PutUint16(m.b[at:], binary.BigEndian.Uint16(m.b[at:])+uint16(n))
}

// appendOwner writes an owner name, compressed against the question and the previous owner only.
func (m *Reply) appendOwner(owner Name) {
	m.plain += len(owner)
	at := len(m.b)
	question := Name(m.b[HeaderSize : HeaderSize+m.qname])
	if cut := len(question) - len(owner); cut >= 0 && len(owner) > 1 && question.Under(owner) {
		m.b = binary.BigEndian.AppendUint16(m.b, uint16(pointerToQuestion+cut))
		m.owner = 0
		return
	}
	if m.owner > 0 && m.owner < 0x4000 && m.owner+len(owner) <= len(m.b) && Equal(Name(m.b[m.owner:m.owner+len(owner)]), owner) {
		m.b = binary.BigEndian.AppendUint16(m.b, uint16(0xC000|m.owner))
		return
	}
	m.b = append(m.b, owner...)
	m.owner = at
}

// Append adds a record whose data is already in wire form with uncompressed names. Owner and data are copied.
func (m *Reply) Append(s Section, owner Name, t Type, class Class, ttl uint32, data []byte) {
	m.added(s, 1)
	m.appendOwner(owner)
	m.fixed(t, class, ttl, len(data))
	m.b = append(m.b, data...)
	m.plain += len(data)
}

func (m *Reply) fixed(t Type, class Class, ttl uint32, length int) {
	m.b = append(m.b, byte(t>>8), byte(t), byte(class>>8), byte(class),
		byte(ttl>>24), byte(ttl>>16), byte(ttl>>8), byte(ttl), byte(length>>8), byte(length))
	m.plain += 10
	m.age(ttl)
}

// age takes note of a record's TTL.
func (m *Reply) age(ttl uint32) {
	if m.records == 0 || ttl < m.minTTL {
		m.minTTL = ttl
	}
	m.maxTTL = max(m.maxTTL, ttl)
	m.records++
}

// TTLs gives the smallest and the largest time to live, in seconds, and the number of records.
func (m *Reply) TTLs() (smallest, largest uint32, records int) { return m.minTTL, m.maxTTL, m.records }

// AppendOwnData adds records for the question's own name of one type and class IN, whose data lie one behind the other
// in data, each size octets long: the addresses of a Service.
func (m *Reply) AppendOwnData(s Section, t Type, ttl uint32, data []byte, size int) {
	n := len(data) / size
	alone := s == Answer && m.Count(Answer) == 0
	m.added(s, n)
	if n == 0 {
		return
	}
	stride := ownHead + size
	if alone && addressSize(t) == size {
		m.stride = stride
	}
	m.plain += n * (m.qname + 10 + size)
	m.age(ttl)
	m.records += n - 1
	head := [ownHead]byte{pointerToQuestion >> 8, pointerToQuestion & 0xFF, byte(t >> 8), byte(t), 0, byte(ClassIN),
		byte(ttl >> 24), byte(ttl >> 16), byte(ttl >> 8), byte(ttl), byte(size >> 8), byte(size)}
	at := len(m.b)
	m.b = slices.Grow(m.b, n*stride)[:at+n*stride]
	// Copies of a known size are moves of registers, which for large answers is most of the cost.
	switch to := m.b[at:]; size {
	case 4:
		first, last := binary.LittleEndian.Uint64(head[:]), uint64(binary.LittleEndian.Uint32(head[8:]))
		for ; len(to) >= 4*(ownHead+4) && len(data) >= 4*4; to, data = to[4*(ownHead+4):], data[4*4:] {
			four, d := (*[4 * (ownHead + 4)]byte)(to), (*[4 * 4]byte)(data)
			put4(four[:], first, last, binary.LittleEndian.Uint32(d[:]))
			put4(four[16:], first, last, binary.LittleEndian.Uint32(d[4:]))
			put4(four[32:], first, last, binary.LittleEndian.Uint32(d[8:]))
			put4(four[48:], first, last, binary.LittleEndian.Uint32(d[12:]))
		}
		for ; len(to) >= ownHead+4 && len(data) >= 4; to, data = to[ownHead+4:], data[4:] {
			put4(to, first, last, binary.LittleEndian.Uint32(data))
		}
	case 16:
		for ; len(to) >= ownHead+16 && len(data) >= 16; to, data = to[ownHead+16:], data[16:] {
			*(*[ownHead]byte)(to) = head
			*(*[16]byte)(to[ownHead:]) = [16]byte(data)
		}
	default:
		for ; len(to) > 0; to, data = to[stride:], data[size:] {
			copy(to[copy(to, head[:]):], data[:size])
		}
	}
}

// put4 writes an A record in two words: the first eight octets of what all have in common, and the last four with the data.
func put4(to []byte, first, last uint64, data uint32) {
	binary.LittleEndian.PutUint64(to, first)
	binary.LittleEndian.PutUint64(to[8:], last|uint64(data)<<32)
}

// ownHead is the length of a record without its data when the owner is a pointer.
const ownHead = 12

// addressSize is the length of the data of A and AAAA, 0 for other types.
func addressSize(t Type) int {
	switch t {
	case TypeA:
		return 4
	case TypeAAAA:
		return 16
	}
	return 0
}

// AppendName adds a record whose data is one name: CNAME, NS, PTR, DNAME.
func (m *Reply) AppendName(s Section, owner Name, t Type, ttl uint32, target Name) {
	m.Append(s, owner, t, ClassIN, ttl, target)
}

// AppendSRV adds an SRV record (RFC 2782).
func (m *Reply) AppendSRV(s Section, owner Name, ttl uint32, priority, weight, port uint16, target Name) {
	m.added(s, 1)
	m.appendOwner(owner)
	m.fixed(TypeSRV, ClassIN, ttl, 6+len(target))
	m.b = append(m.b, byte(priority>>8), byte(priority), byte(weight>>8), byte(weight), byte(port>>8), byte(port))
	m.b = append(m.b, target...)
	m.plain += 6 + len(target)
}

// SOA is the data of an SOA record (RFC 1035, 3.3.13); times are seconds.
type SOA struct {
	MName, RName                            Name
	Serial, Refresh, Retry, Expire, Minimum uint32
}

// AppendData appends the record data.
func (s *SOA) AppendData(dst []byte) []byte {
	dst = append(dst, s.MName...)
	dst = append(dst, s.RName...)
	for _, v := range [5]uint32{s.Serial, s.Refresh, s.Retry, s.Expire, s.Minimum} {
		dst = binary.BigEndian.AppendUint32(dst, v)
	}
	return dst
}

// AppendSOA adds an SOA record.
func (m *Reply) AppendSOA(sec Section, owner Name, ttl uint32, soa *SOA) {
	m.added(sec, 1)
	m.appendOwner(owner)
	n := len(soa.MName) + len(soa.RName) + 20
	m.fixed(TypeSOA, ClassIN, ttl, n)
	m.b = soa.AppendData(m.b)
	m.plain += n
}

// AppendTXT adds a TXT record of one string of at most 255 octets; more is cut.
func (m *Reply) AppendTXT(s Section, owner Name, class Class, ttl uint32, text string) {
	text = text[:min(len(text), 255)]
	m.added(s, 1)
	m.appendOwner(owner)
	m.fixed(TypeTXT, class, ttl, 1+len(text))
	m.b = append(m.b, byte(len(text)))
	m.b = append(m.b, text...)
	m.plain += 1 + len(text)
}

// SetEDE replaces the reply's extended error (RFC 8914): a code and a text for people.
func (m *Reply) SetEDE(code uint16, text string) {
	m.OwnOPT = true
	m.Options = binary.BigEndian.AppendUint16(m.Options[:0], OptionEDE)
	m.Options = binary.BigEndian.AppendUint16(m.Options, uint16(2+len(text)))
	m.Options = binary.BigEndian.AppendUint16(m.Options, code)
	m.Options = append(m.Options, text...)
}

// Restore puts the client's question over the reply's when the names have the same length: same name, its own spelling.
func (m *Reply) Restore(r *Request) {
	if o := r.OriginalName(); len(o) == m.qname {
		copy(m.b[HeaderSize:], o)
	}
}

// SetID changes the message's ID.
func (m *Reply) SetID(id uint16) { binary.BigEndian.PutUint16(m.b, id) }

// AnswersOriginal reports whether the reply's question is the one the client asked.
func (m *Reply) AnswersOriginal(r *Request) bool {
	end := HeaderSize + m.qname
	typ, class := r.Original()
	return len(m.b) >= end+4 && Equal(Name(m.b[HeaderSize:end]), r.OriginalName()) &&
		Type(binary.BigEndian.Uint16(m.b[end:])) == typ && Class(binary.BigEndian.Uint16(m.b[end+2:])) == class
}

// SetTTL gives every record the same time to live, in seconds, in place.
func (m *Reply) SetTTL(ttl uint32) {
	if m.records > 0 && m.minTTL == ttl && m.maxTTL == ttl {
		return
	}
	m.minTTL, m.maxTTL = ttl, ttl
	b := m.b
	for off := HeaderSize + m.qname + 4; off < len(b); {
		if b[off] >= 0xC0 { // a pointer, as nearly every owner is
			off += 2
		} else if next, err := skipName(b, off); err == nil {
			off = next
		} else {
			return
		}
		if off+10 > len(b) {
			return
		}
		binary.BigEndian.PutUint32(b[off+4:], ttl)
		off += 10 + int(binary.BigEndian.Uint16(b[off+8:]))
	}
}
