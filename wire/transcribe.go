package wire

import "encoding/binary"

// Action is what Transcribe does with a record.
type Action uint8

// Actions. Keep writes the record as it then stands, so a function that changed it says Keep too.
const (
	Keep Action = iota + 1
	Drop
)

// Transcribe appends the records of the message src to dst, one by one and with names expanded, as f says: kept, changed
// (through the record's setters) or dropped; f may insert by appending to dst itself before it returns. OPT and TSIG
// records are left out. dst must have been begun; src must not be dst's buffer. It is the only way to rewrite a reply. It
// allocates only the first time that a Reply is its dst.
func Transcribe(dst *Reply, src []byte, f func(s Section, r *Record) Action) error {
	var c Cursor
	if err := c.Open(src); err != nil {
		return err
	}
	if dst.record == nil {
		dst.record = new(Record)
	}
	return dst.copyRecords(&c, dst.record, f)
}

func (m *Reply) copyRecords(c *Cursor, r *Record, f func(s Section, r *Record) Action) error {
	for {
		s, ok, err := c.Next(r)
		if err != nil || !ok {
			return err
		}
		if r.Type == TypeOPT || r.Type == TypeTSIG {
			continue
		}
		if f != nil && f(s, r) == Drop {
			continue
		}
		if err := m.appendRecord(s, r); err != nil {
			return err
		}
	}
}

// appendRecord writes r with its names expanded straight into the message.
func (m *Reply) appendRecord(s Section, r *Record) error {
	owner := r.Owner()
	if owner == nil {
		return ErrName
	}
	start, count := len(m.b), m.Count(s)
	m.added(s, 1)
	m.appendOwner(owner)
	m.fixed(r.Type, r.Class, r.TTL, 0)
	at := len(m.b)
	b, err := r.Data(m.b)
	if err != nil || len(b)-at > MaxMessage {
		m.b = m.b[:start]
		binary.BigEndian.PutUint16(m.b[6+2*int(s):], uint16(count))
		return ErrShort
	}
	m.b = b
	binary.BigEndian.PutUint16(m.b[at-2:], uint16(len(b)-at))
	m.plain += len(b) - at
	return nil
}

// Adopt takes a message that another server sent as the reply to r, whose name, type and class it must answer. The
// bytes are copied; an OPT of its own is taken off and its options kept. The message is read to its end, so that one
// that lies about itself is an error and never reaches a client.
func (m *Reply) Adopt(msg []byte, r *Request) error {
	m.Reset()
	var c Cursor
	if err := c.Open(msg); err != nil {
		return err
	}
	question := c.Offset()
	end, plain, last, err := m.survey(&c, question)
	if err != nil {
		return err
	}
	m.Rcode |= Rcode(msg[3] & 0xF)
	m.qname = len(r.Name())
	if binary.BigEndian.Uint16(msg[4:]) != 1 || question != HeaderSize+m.qname+4 || !Equal(Name(msg[HeaderSize:question-4]), r.Name()) {
		return ErrName
	}
	if !last { // records behind the OPT may point behind it, so they can't just be moved
		return m.adoptAround(msg, r)
	}
	m.b = append(m.b, msg[:end]...)
	if end < len(msg) && m.OwnOPT {
		binary.BigEndian.PutUint16(m.b[10:], binary.BigEndian.Uint16(m.b[10:])-1)
	}
	m.plain, m.section = plain, Additional
	binary.BigEndian.PutUint16(m.b, r.ID)
	return nil
}

// survey walks all records: where the last one but OPT ends, the plain length, and whether OPT was the last.
func (m *Reply) survey(c *Cursor, question int) (end, plain int, last bool, err error) {
	end, plain, last = question, question, true
	for {
		owner := c.off
		t, at, more, err := c.step()
		if !more {
			return end, plain, last, err
		}
		ttl, data := binary.BigEndian.Uint32(c.msg[at-6:]), c.msg[at:c.off]
		switch {
		case t == TypeOPT && c.sec == Additional && !m.OwnOPT:
			if !validOptions(data) {
				return 0, 0, false, ErrShort
			}
			m.OwnOPT = true
			m.OwnFlags = uint16(ttl)
			m.Options = append(m.Options[:0], data...)
			m.Rcode = Rcode(ttl>>24) << 4
		case t == TypeOPT || t == TypeTSIG:
			last = false
		default:
			if m.OwnOPT {
				last = false
			}
			n, err := plainLen(c.msg, t, owner, at, c.off, question-4-HeaderSize)
			if err != nil {
				return 0, 0, false, err
			}
			plain += n
			m.age(ttl)
			end = c.off
		}
	}
}

func (m *Reply) adoptAround(msg []byte, r *Request) error {
	rcode, options, flags, own := m.Rcode, m.Options, m.OwnFlags, m.OwnOPT
	header := binary.BigEndian.Uint16(msg[2:])
	m.Begin(r, rcode, 0)
	binary.BigEndian.PutUint16(m.b[2:], header)
	m.Options, m.OwnFlags, m.OwnOPT = options, flags, own
	return Transcribe(m, msg, nil)
}

// Load takes a stored message without OPT whose question has r's name, and its length without compression, as the
// reply to r, with r's opcode. The bytes are copied.
func (m *Reply) Load(msg []byte, plain int, r *Request) {
	m.Reset()
	m.b = append(m.b, msg...)
	m.plain, m.qname, m.section = plain, len(r.Name()), Additional
	m.Rcode = Rcode(msg[3] & 0xF)
	copy(m.b[HeaderSize:], r.spelling())
	binary.BigEndian.PutUint16(m.b, r.ID)
	bits := r.Flags & (0xF << 11)
	if r.Opcode() == OpQuery {
		bits |= r.Flags & (FlagRD | FlagCD)
	}
	m.SetFlags(bits, 0xF<<11|FlagRD|FlagCD)
}

// Requestion writes the reply again into dst with the question that the client asked: for a reply to a rewritten name.
// Records are as f says; names in them that were compressed against the old question are expanded.
func (m *Reply) Requestion(dst *Reply, r *Request, f func(s Section, r *Record) Action) error {
	typ, class := r.Original()
	return m.rewrite(dst, r.OriginalName(), typ, class, f)
}

// Rewrite writes the reply again into dst, record by record as f says, under the same question.
func (m *Reply) Rewrite(dst *Reply, f func(s Section, r *Record) Action) error {
	end := HeaderSize + m.qname
	typ, class := Type(binary.BigEndian.Uint16(m.b[end:])), Class(binary.BigEndian.Uint16(m.b[end+2:]))
	return m.rewrite(dst, Name(m.b[HeaderSize:end]), typ, class, f)
}

func (m *Reply) rewrite(dst *Reply, name Name, typ Type, class Class, f func(s Section, r *Record) Action) error {
	dst.beginAs(m, name, typ, class)
	return Transcribe(dst, m.b, f)
}

// beginAs takes everything but the records from src, under a question of its own.
func (m *Reply) beginAs(src *Reply, name Name, typ Type, class Class) {
	m.Reset()
	b := append(m.b, src.b[:HeaderSize]...)
	clear(b[6:HeaderSize])
	b = append(b, name...)
	b = append(b, byte(typ>>8), byte(typ), byte(class>>8), byte(class))
	m.b, m.plain, m.qname = b, len(b), len(name)
	m.Rcode, m.OwnOPT, m.OwnFlags = src.Rcode, src.OwnOPT, src.OwnFlags
	m.Options = append(m.Options[:0], src.Options...)
}
