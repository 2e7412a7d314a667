package wire

import "encoding/binary"

// Kind is what a reply means to its client, in the terms in which CoreDNS sorts replies.
type Kind uint8

// Kinds. The zero Kind is that of no reply.
const (
	KindNone        Kind = iota
	KindAnswer           // NOERROR with answers, or with nothing at all
	KindNoData           // NOERROR without answers, an SOA in the authority section (RFC 2308, 2.2)
	KindNXDomain         // RFC 2308, 2.1
	KindDelegation       // NOERROR without answers, NS records in the authority section
	KindServerError      // SERVFAIL, NOTIMP
	KindMeta             // NOTIFY, AXFR and IXFR
	KindOther            // any other code, answers with NXDOMAIN, expired signatures for a validator
)

// Kind reads the reply. Unix is the time in seconds that signatures are held against where the reply is for a validator.
func (m *Reply) Kind(unix uint32) Kind {
	if len(m.b) < HeaderSize {
		return KindNone
	}
	end := HeaderSize + m.qname
	if Opcode(m.Flags()>>11&0xF) == OpNotify {
		return KindMeta
	}
	if t := Type(binary.BigEndian.Uint16(m.b[end:])); t == TypeAXFR || t == TypeIXFR {
		return KindMeta
	}
	validator := m.OwnOPT && m.OwnFlags&0x8000 != 0
	answers := m.Count(Answer)
	var soa, ns, expired bool
	if validator || answers == 0 && m.Count(Authority) > 0 {
		soa, ns, expired = m.authority(unix)
	}
	switch {
	case validator && expired:
		return KindOther
	case answers > 0 && m.Rcode == NoError:
		return KindAnswer
	case answers > 0 && m.Rcode == NXDomain:
		return KindOther
	case soa && m.Rcode == NoError:
		return KindNoData
	case m.Rcode == NXDomain:
		return KindNXDomain
	case m.Rcode == ServFail || m.Rcode == NotImp:
		return KindServerError
	case ns && m.Rcode == NoError:
		return KindDelegation
	case m.Rcode == NoError:
		return KindAnswer
	}
	return KindOther
}

// authority looks for SOA and NS in the authority section, and for signatures anywhere that are not valid at unix.
func (m *Reply) authority(unix uint32) (soa, ns, expired bool) {
	var c Cursor
	if c.Open(m.b) != nil {
		return
	}
	for {
		typ, data, more, _ := c.step()
		switch {
		case !more:
			return
		case typ == TypeRRSIG && c.off-data >= 18:
			// RFC 4034, 3.1.5: serial number arithmetic, so that the times survive 2106.
			until, from := binary.BigEndian.Uint32(m.b[data+8:]), binary.BigEndian.Uint32(m.b[data+12:])
			expired = expired || int32(until-unix) < 0 || int32(unix-from) < 0
		case c.sec == Authority:
			soa = soa || typ == TypeSOA
			ns = ns || typ == TypeNS
		}
	}
}

// Has reports whether a section of the message has a record of a type.
func (m *Reply) Has(in Section, typ Type) bool {
	var c Cursor
	if c.Open(m.b) != nil {
		return false
	}
	var r Record
	for {
		section, ok, err := c.Next(&r)
		if err != nil || !ok || section > in {
			return false
		}
		if section == in && r.Type == typ {
			return true
		}
	}
}
