package wire

import "encoding/binary"

// Above is records whose one owner is the question's name or above it, as they stand in a message but for where their
// owner points to: a zone's SOA, which is in all its negative answers.
type Above struct {
	owner    int    // octets of the owner
	block    []byte // each record with an owner of two octets
	smallest uint32
	largest  uint32
	records  int
}

// Add appends a record. All are to have the same owner, which is not the root. Owner and data are copied.
func (p *Above) Add(owner Name, t Type, class Class, ttl uint32, data []byte) {
	p.owner = len(owner)
	b := append(p.block, 0, 0, byte(t>>8), byte(t), byte(class>>8), byte(class))
	b = binary.BigEndian.AppendUint32(b, ttl)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	p.block = append(b, data...)
	if p.records == 0 || ttl < p.smallest {
		p.smallest = ttl
	}
	p.largest = max(p.largest, ttl)
	p.records++
}

// Len gives the number of records.
func (p *Above) Len() int { return p.records }

// AppendAbove adds records that were made before. The question's name must be their owner or below it.
func (m *Reply) AppendAbove(s Section, p *Above) {
	if p.records == 0 {
		return
	}
	m.added(s, p.records)
	pointer := uint16(pointerToQuestion + m.qname - p.owner)
	at := len(m.b)
	m.b = append(m.b, p.block...)
	for b := m.b[at:]; len(b) >= ownHead; b = b[ownHead+int(binary.BigEndian.Uint16(b[ownHead-2:])):] {
		binary.BigEndian.PutUint16(b, pointer)
	}
	m.owner = 0
	m.plain += len(p.block) + p.records*(p.owner-2)
	if m.records == 0 || p.smallest < m.minTTL {
		m.minTTL = p.smallest
	}
	m.maxTTL = max(m.maxTTL, p.largest)
	m.records += p.records
}
