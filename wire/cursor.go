package wire

import "encoding/binary"

// Cursor walks the records of a message in order. It copies nothing.
type Cursor struct {
	msg  []byte
	off  int
	left [3]uint16
	sec  Section
}

// Open sets the cursor on the first record of msg, behind its questions.
func (c *Cursor) Open(msg []byte) error {
	if len(msg) < HeaderSize {
		return ErrShort
	}
	off := HeaderSize
	for range binary.BigEndian.Uint16(msg[4:]) {
		next, err := skipName(msg, off)
		if err != nil {
			return err
		}
		if next+4 > len(msg) {
			return ErrShort
		}
		off = next + 4
	}
	*c = Cursor{msg: msg, off: off, left: [3]uint16{
		binary.BigEndian.Uint16(msg[6:]), binary.BigEndian.Uint16(msg[8:]), binary.BigEndian.Uint16(msg[10:]),
	}}
	return nil
}

// Record is one record of a message. Its slices refer to the message, or to the record's own buffers once changed, and
// are valid until the cursor's next step.
type Record struct {
	Type  Type
	Class Class
	TTL   uint32

	msg     []byte
	at      int // where the record begins
	data    int // where its data begins
	end     int
	owner   [MaxName]byte
	ownLen  int    // length of owner once read or changed
	changed []byte // data when changed
	isNew   bool
}

// Next reads the next record into r and gives its section; false at the end. An error means that the message breaks
// off or lies.
func (c *Cursor) Next(r *Record) (Section, bool, error) {
	at := c.off
	typ, data, more, err := c.step()
	if !more {
		return 0, false, err
	}
	fixed := c.msg[data-10:]
	r.Type, r.Class, r.TTL = typ, Class(binary.BigEndian.Uint16(fixed[2:])), binary.BigEndian.Uint32(fixed[4:])
	r.msg, r.at, r.data, r.end = c.msg, at, data, c.off
	r.ownLen, r.changed, r.isNew = 0, r.changed[:0], false
	return c.sec, true, nil
}

// Pass passes the next record and gives its section, as Next does for those who need no more of it.
func (c *Cursor) Pass() (Section, bool, error) {
	_, _, more, err := c.step()
	return c.sec, more, err
}

// step passes the next record, whose section is then c.sec, and gives its type and where its data begins; they end at c.off.
func (c *Cursor) step() (typ Type, data int, more bool, err error) {
	for c.sec <= Additional && c.left[c.sec] == 0 {
		c.sec++
	}
	if c.sec > Additional {
		return 0, 0, false, nil
	}
	typ, data, next, ok := skipRecord(c.msg, c.off)
	if !ok {
		return 0, 0, false, ErrShort
	}
	c.left[c.sec]--
	c.off = next
	return typ, data, true, nil
}

// Offset is where the next record begins.
func (c *Cursor) Offset() int { return c.off }

// Owner is the owner's name, decompressed and in its own case; nil when it does not parse.
func (r *Record) Owner() Name {
	if r.ownLen == 0 {
		n, _, err := ReadName(r.owner[:0], r.msg, r.at)
		if err != nil {
			return nil
		}
		r.ownLen = len(n)
	}
	return r.owner[:r.ownLen]
}

// SetOwner changes the owner.
func (r *Record) SetOwner(n Name) { r.ownLen = copy(r.owner[:], n) }

// RawData is the data as it stands in the message: names in it may be compressed.
func (r *Record) RawData() []byte { return r.msg[r.data:r.end] }

// TTLOffset is where the TTL stands in the message.
func (r *Record) TTLOffset() int { return r.data - 6 }

// SetData replaces the data; names in it must not be compressed. The bytes are copied.
func (r *Record) SetData(data []byte) {
	r.changed = append(r.changed[:0], data...)
	r.isNew = true
}

// Data appends the data with every name in it decompressed (RFC 3597, 4) to dst.
func (r *Record) Data(dst []byte) ([]byte, error) {
	if r.isNew {
		return append(dst, r.changed...), nil
	}
	return expandData(dst, r.msg, r.Type, r.data, r.end)
}

// TargetOffset gives where in uncompressed data of this type the (first) name begins, and false for types whose data
// have none.
func TargetOffset(t Type, data []byte) (int, bool) {
	l := layoutOf(t)
	if l.names == 0 {
		return 0, false
	}
	at := int(l.fixed)
	if t == TypeNAPTR {
		at = naptrStrings(data, 0, len(data))
	}
	return at, at < len(data)
}

// layout says where names stand in the data of a type: after fixed octets, that many names, then anything.
type layout struct {
	fixed, names uint8
	compress     bool // RFC 3597, 4: only the types of RFC 1035 may be compressed when sent
}

func layoutOf(t Type) layout {
	switch t {
	case TypeNS, TypeMD, TypeMF, TypeCNAME, TypeMB, TypeMG, TypeMR, TypePTR:
		return layout{0, 1, true}
	case TypeSOA, TypeMINFO:
		return layout{0, 2, true}
	case TypeMX:
		return layout{2, 1, true}
	case TypeDNAME, TypeNXT, TypeNSEC:
		return layout{0, 1, false}
	case TypeAFSDB, TypeRT, TypeKX, TypeSVCB, TypeHTTPS:
		// RFC 1183 lets RT and AFSDB be compressed on the way in; RFC 9460 forbids it for SVCB, and then nothing changes.
		return layout{2, 1, t == TypeRT || t == TypeAFSDB}
	case TypeRP:
		return layout{0, 2, false}
	case TypePX:
		return layout{2, 2, false}
	case TypeSRV:
		return layout{6, 1, false}
	case TypeSIG, TypeRRSIG:
		return layout{18, 1, false}
	case TypeNAPTR:
		return layout{4, 1, false}
	}
	return layout{}
}

// naptrStrings gives the offset behind NAPTR's order, preference and three strings (RFC 3403, 4.1).
func naptrStrings(msg []byte, off, end int) int {
	off += 4
	for range 3 {
		if off >= end {
			return end
		}
		off += 1 + int(msg[off])
	}
	return min(off, end)
}

func expandData(dst, msg []byte, t Type, off, end int) ([]byte, error) {
	l := layoutOf(t)
	if l.names == 0 || off == end { // data may be left out (RFC 2136, 2.4)
		return append(dst, msg[off:end]...), nil
	}
	head := off + int(l.fixed)
	if t == TypeNAPTR {
		head = naptrStrings(msg, off, end)
	}
	if head > end {
		return dst, ErrShort
	}
	dst = append(dst, msg[off:head]...)
	for range l.names {
		var err error
		if dst, head, err = ReadName(dst, msg, head); err != nil {
			return dst, err
		}
		if head > end {
			return dst, ErrShort
		}
	}
	return append(dst, msg[head:end]...), nil
}

// plainLen is the length without compression of the record of type t at owner, whose data are msg[data:end], or an error when a
// name in it is broken. The name of the question, which most records begin with, has qname octets.
func plainLen(msg []byte, t Type, owner, data, end, qname int) (int, error) {
	n := qname
	if msg[owner] != 0xC0 || msg[owner+1] != HeaderSize {
		var err error
		if n, _, err = plainName(msg, owner); err != nil {
			return 0, err
		}
	}
	n += 10
	if data == end {
		return n, nil
	}
	l := layoutOf(t)
	head := data + int(l.fixed)
	if t == TypeNAPTR {
		head = naptrStrings(msg, data, end)
	}
	if head > end {
		return 0, ErrShort
	}
	n += head - data
	for range l.names {
		name, next, err := plainName(msg, head)
		if err != nil {
			return 0, err
		}
		if next > end {
			return 0, ErrShort
		}
		n, head = n+name, next
	}
	if rest, fixed := restOf(t); fixed && end-head != rest {
		return 0, ErrShort
	}
	return n + end - head, nil
}

// plainName is the length of the name at off without compression, and the offset behind it.
func plainName(msg []byte, off int) (n, next int, err error) {
	var scratch [MaxName]byte
	name, next, err := ReadName(scratch[:0], msg, off)
	return len(name), next, err
}

// restOf gives how many octets follow the names in data of a type, where that is fixed: one more or less, and a client
// would not read the message at all.
func restOf(t Type) (octets int, fixed bool) {
	switch t {
	case TypeA:
		return 4, true
	case TypeAAAA:
		return 16, true
	case TypeSOA:
		return 20, true
	case TypeNS, TypeMD, TypeMF, TypeCNAME, TypeMB, TypeMG, TypeMR, TypePTR, TypeMINFO, TypeMX, TypeRP, TypeAFSDB, TypeRT,
		TypePX, TypeSRV, TypeNAPTR, TypeKX, TypeDNAME:
		return 0, true
	}
	return 0, false
}
