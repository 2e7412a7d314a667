package wire

import "encoding/binary"

// Request is one query as fields. Nothing in it refers to the packet it was read from, so it may outlive it; handlers
// change the fields, and what is sent upstream is built from them. The zero Request is ready for use; a Request is
// reused by calling Parse again.
type Request struct {
	ID    uint16
	Flags uint16 // the header's second word as it came
	Type  Type
	Class Class
	EDNS  EDNS
	// Length is the octets of the packet that were read: the whole query, without what may trail it.
	Length int
	TSIG   bool // the last additional record is a TSIG (RFC 8945); its bytes are not kept here
	Notify NotifySOA
	Known  NotifySOA // the SOA that an IXFR query carries: what its sender has (RFC 1995, 3)

	nameLen  uint8
	labels   uint8
	origLen  uint8
	renamed  bool              // the name is not the one that was asked for
	name     [MaxName + 1]byte // lower case; changed by SetName
	original [MaxName + 1]byte // as the client spelled it; never changed after Parse
	asked    Type              // type and class as the client asked
	askedCls Class
	options  []byte // backing of EDNS.Options, reused
}

// NotifySOA says whether a NOTIFY carried the new SOA (RFC 1996, 3.7), or an IXFR the old one, and its serial.
type NotifySOA struct {
	Present bool
	Serial  uint32
}

// EDNS is the OPT record of a query (RFC 6891, 6.1).
type EDNS struct {
	Present bool
	Size    uint16 // the requestor's UDP payload size as it came
	Version uint8
	DO      bool
	Flags   uint16 // the OPT's lower 16 TTL bits, DO included
	// Options is the raw option list (code, length, data). It is owned by the Request and valid until the next Parse.
	Options []byte
}

// Verdict says what Parse made of a packet.
type Verdict uint8

// Verdicts of Parse, in the order in which they are decided.
const (
	Accepted    Verdict = iota + 1
	TooShort            // no whole header: no answer, since any answer would serve an attacker
	IsResponse          // QR is set (RFC 1035, 4.1.1): no answer
	BadOpcode           // neither QUERY nor NOTIFY: NOTIMP (RFC 1035, 4.1.1)
	BadCounts           // not one question, or more records than a query can have: FORMERR (RFC 9619, 4)
	BadQuestion         // the question does not parse: FORMERR
	BadRecords          // a record after the question does not parse: FORMERR, with the question
	BadVersion          // EDNS version above 0: BADVERS (RFC 6891, 6.1.3)
	verdictsTotal
)

// Name is the name asked for, in lower case. It is valid until SetName or Parse.
func (r *Request) Name() Name { return r.name[:r.nameLen] }

// OriginalName is the name as the client spelled it, whatever rewriting did since. It is valid until Parse.
func (r *Request) OriginalName() Name { return r.original[:r.origLen] }

// Original gives the type and class that the client asked for.
func (r *Request) Original() (Type, Class) { return r.asked, r.askedCls }

// Labels counts the labels of Name, without the root's.
func (r *Request) Labels() int { return int(r.labels) }

// SetName changes the name asked for; n need not be lower case and must be a whole, uncompressed name.
func (r *Request) SetName(n Name) {
	r.nameLen = uint8(copy(r.name[:], n))
	ToLower(r.name[:r.nameLen])
	r.labels = uint8(r.Name().Labels())
	r.renamed = !Equal(r.Name(), r.OriginalName())
}

// Opcode gives the kind of message.
func (r *Request) Opcode() Opcode { return Opcode(r.Flags >> 11 & 0xF) }

// RD reports whether recursion is desired.
func (r *Request) RD() bool { return r.Flags&FlagRD != 0 }

// CD reports whether the client wants no validation on its behalf (RFC 4035, 3.2.2).
func (r *Request) CD() bool { return r.Flags&FlagCD != 0 }

// AD reports whether the client understands the AD bit (RFC 6840, 5.7).
func (r *Request) AD() bool { return r.Flags&FlagAD != 0 }

// DO reports whether the client wants DNSSEC records (RFC 3225, 3).
func (r *Request) DO() bool { return r.EDNS.DO }

// Renamed reports whether the name, type or class is no longer what the client asked for.
func (r *Request) Renamed() bool {
	return r.renamed || r.Type != r.asked || r.Class != r.askedCls
}

// Parse reads a query. The header is judged before anything behind it is looked at, so that a packet that lies about
// its counts costs nothing. After BadQuestion and what comes before it only ID and Flags are valid; after BadRecords
// the question is; after BadVersion everything is.
func (r *Request) Parse(msg []byte) Verdict {
	if len(msg) < HeaderSize {
		return TooShort
	}
	r.ID = binary.BigEndian.Uint16(msg)
	r.Flags = binary.BigEndian.Uint16(msg[2:])
	r.EDNS = EDNS{}
	r.TSIG = false
	r.Notify, r.Known = NotifySOA{}, NotifySOA{}
	if r.Flags&FlagQR != 0 {
		return IsResponse
	}
	if op := r.Opcode(); op != OpQuery && op != OpNotify {
		return BadOpcode
	}
	// RFC 1996, 3.7: NOTIFY may carry an SOA; RFC 1995, 3: IXFR carries one; OPT and TSIG are additional.
	answers, authority, additional := binary.BigEndian.Uint16(msg[6:]), binary.BigEndian.Uint16(msg[8:]), binary.BigEndian.Uint16(msg[10:])
	if binary.BigEndian.Uint16(msg[4:]) != 1 || answers > 1 || authority > 1 || additional > 2 {
		return BadCounts
	}
	off, ok := r.question(msg)
	if !ok {
		return BadQuestion
	}
	r.Length = off
	if answers|authority|additional != 0 && !r.records(msg, off, int(answers), int(authority), int(additional)) {
		return BadRecords
	}
	if r.EDNS.Version != 0 {
		return BadVersion
	}
	return Accepted
}

// question reads the question: the labels are checked, then the name is copied and lowered eight octets at a time.
func (r *Request) question(msg []byte) (int, bool) {
	off, labels := HeaderSize, 0
	for {
		if off >= len(msg) {
			return 0, false
		}
		c := int(msg[off])
		off++
		if c == 0 {
			break
		}
		// A pointer can't be right here: there is no earlier name (RFC 1035, 4.1.4).
		if c > MaxLabel {
			return 0, false
		}
		off += c
		labels++
	}
	n := off - HeaderSize
	if n > MaxName || off+4 > len(msg) {
		return 0, false
	}
	copy(r.original[:], msg[HeaderSize:off])
	for i := 0; i < n; i += 8 {
		w := binary.LittleEndian.Uint64(r.original[i:])
		binary.LittleEndian.PutUint64(r.name[i:], lower8(w))
	}
	r.nameLen, r.origLen, r.labels = uint8(n), uint8(n), uint8(labels)
	r.Type = Type(binary.BigEndian.Uint16(msg[off:]))
	r.Class = Class(binary.BigEndian.Uint16(msg[off+2:]))
	r.asked, r.askedCls, r.renamed = r.Type, r.Class, false
	return off + 4, true
}

// lower8 lowers eight octets at once. Length octets are below 64 and no octet of a word disturbs another.
func lower8(w uint64) uint64 {
	const ones = 0x0101010101010101
	heptets := w & (0x7F * ones)
	aboveZ := heptets + (0x7F-'Z')*ones
	fromA := heptets + (0x80-'A')*ones
	capital := (fromA &^ aboveZ) & ^w & (0x80 * ones)
	return w | capital>>2
}

// records walks the few records that a query can have and keeps OPT, TSIG and a NOTIFY's SOA.
func (r *Request) records(msg []byte, off, answers, authority, additional int) bool {
	for i := range answers + authority + additional {
		typ, data, next, ok := skipRecord(msg, off)
		if !ok {
			return false
		}
		switch {
		case i >= answers+authority && typ == TypeOPT:
			if r.EDNS.Present || !validOptions(msg[data:next]) { // RFC 6891, 6.1.1: one OPT at most
				return false
			}
			r.readOPT(msg[data-10:next], msg[data:next])
		case i >= answers+authority && typ == TypeTSIG:
			if i != answers+authority+additional-1 { // RFC 8945, 5.1: the last record
				return false
			}
			r.TSIG = true
		case i < answers && typ == TypeSOA && r.Opcode() == OpNotify && next-data >= 20:
			r.Notify = NotifySOA{Present: true, Serial: binary.BigEndian.Uint32(msg[next-20:])}
		case i >= answers && i < answers+authority && typ == TypeSOA && r.Type == TypeIXFR && next-data >= 20:
			r.Known = NotifySOA{Present: true, Serial: binary.BigEndian.Uint32(msg[next-20:])}
		}
		off = next
	}
	r.Length = off
	return true
}

func (r *Request) readOPT(fixed, data []byte) {
	flags := binary.BigEndian.Uint16(fixed[6:])
	r.options = append(r.options[:0], data...)
	r.EDNS = EDNS{
		Present: true,
		Size:    binary.BigEndian.Uint16(fixed[2:]),
		Version: fixed[5],
		DO:      flags&0x8000 != 0,
		Flags:   flags,
		Options: r.options,
	}
}

// SetOptions replaces the EDNS options; the bytes are copied.
func (r *Request) SetOptions(options []byte) {
	r.options = append(r.options[:0], options...)
	r.EDNS.Options = r.options
}

// skipRecord gives the type of the record at off, where its data begins and where the next record does.
func skipRecord(msg []byte, off int) (typ Type, data, next int, ok bool) {
	off, err := skipName(msg, off)
	if err != nil || off+10 > len(msg) {
		return 0, 0, 0, false
	}
	typ = Type(binary.BigEndian.Uint16(msg[off:]))
	data = off + 10
	next = data + int(binary.BigEndian.Uint16(msg[off+8:]))
	return typ, data, next, next <= len(msg)
}

// EDNS option codes that the program names.
const (
	OptionNSID      uint16 = 3
	OptionECS       uint16 = 8
	OptionExpire    uint16 = 9
	OptionCookie    uint16 = 10
	OptionKeepalive uint16 = 11
	OptionPadding   uint16 = 12
	OptionEDE       uint16 = 15
)

func validOptions(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 4 {
			return false
		}
		n := 4 + int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b) {
			return false
		}
		b = b[n:]
	}
	return true
}

// NextOption splits the first option off a valid option list: its code, its data and what follows. Both slices refer
// to b. It must not be called with an empty list.
func NextOption(b []byte) (code uint16, data, rest []byte) {
	n := 4 + int(binary.BigEndian.Uint16(b[2:]))
	return binary.BigEndian.Uint16(b), b[4:n], b[n:]
}

// Option looks for an option by code and gives its data, which refers to the list.
func Option(list []byte, code uint16) ([]byte, bool) {
	for len(list) > 0 {
		c, data, rest := NextOption(list)
		if c == code {
			return data, true
		}
		list = rest
	}
	return nil, false
}

// AppendOption appends one option to a list.
func AppendOption(list []byte, code uint16, data []byte) []byte {
	list = binary.BigEndian.AppendUint16(list, code)
	list = binary.BigEndian.AppendUint16(list, uint16(len(data)))
	return append(list, data...)
}

// AppendQuery appends a query built from the fields: header with the given ID, RD, CD and AD as they stand, the question
// and, when EDNS is present, an OPT of the given size with the options. Nothing else of the client's packet leaks.
func (r *Request) AppendQuery(dst []byte, id uint16, size uint16) []byte {
	flags := r.Flags & (FlagRD | FlagCD | FlagAD | 0xF<<11)
	dst = binary.BigEndian.AppendUint16(dst, id)
	dst = binary.BigEndian.AppendUint16(dst, flags)
	dst = append(dst, 0, 1, 0, 0, 0, 0, 0, 0)
	if r.EDNS.Present {
		dst[len(dst)-1] = 1
	}
	dst = append(dst, r.spelling()...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(r.Type))
	dst = binary.BigEndian.AppendUint16(dst, uint16(r.Class))
	if r.EDNS.Present {
		dst = appendOPT(dst, size, 0, r.EDNS.Flags&0x8000, r.EDNS.Options)
	}
	return dst
}

// spelling is the client's own spelling of the name while the name is still the one it asked for.
func (r *Request) spelling() Name {
	if r.renamed {
		return r.Name()
	}
	return r.OriginalName()
}

// SetQuestion makes r a query of the program's own: a standard query, IN, recursion desired, without EDNS.
func (r *Request) SetQuestion(name Name, t Type) {
	options := r.options
	*r = Request{Flags: FlagRD, Type: t, Class: ClassIN, asked: t, askedCls: ClassIN, options: options[:0]}
	r.origLen = uint8(copy(r.original[:], name))
	r.SetName(name)
}

// ChangeQuestion makes r ask for another name and type of class IN, as if it had been asked so; EDNS and flags stay.
func (r *Request) ChangeQuestion(name Name, t Type) {
	r.Length += len(name) - int(r.origLen)
	r.Type, r.Class, r.asked, r.askedCls = t, ClassIN, t, ClassIN
	r.origLen = uint8(copy(r.original[:], name))
	r.SetName(name)
}

// CopyFrom makes r a copy of src that shares nothing with it.
func (r *Request) CopyFrom(src *Request) {
	options := r.options
	*r = *src
	r.options = append(options[:0], src.EDNS.Options...)
	r.EDNS.Options = r.options
}

func appendOPT(dst []byte, size uint16, extRcode uint8, flags uint16, options []byte) []byte {
	dst = append(dst, 0, 0, byte(TypeOPT), byte(size>>8), byte(size), extRcode, 0, byte(flags>>8), byte(flags))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(options)))
	return append(dst, options...)
}
