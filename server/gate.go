package server

import (
	"encoding/binary"

	"github.com/godwit-dns/godwit/wire"
)

// maxQuery is the largest query: longer ones are refused unread. The largest honest one is far smaller.
const maxQuery = 2048

// gate is the way in for every transport: it reads a packet into r and says whether it may go on. Where the packet
// deserves an answer of its own, that is appended to refusal, which is empty otherwise.
func gate(r *wire.Request, packet []byte, refusal []byte) (ok bool, answer []byte) {
	switch r.Parse(packet) {
	case wire.Accepted:
		return true, nil
	case wire.BadOpcode:
		return false, refuse(refusal, r, wire.NotImp, r.Flags, false) // RFC 1035, 4.1.1
	case wire.BadCounts, wire.BadQuestion:
		return false, refuse(refusal, r, wire.FormErr, r.Flags&^(0xF<<11), false) // RFC 9619, 4
	case wire.BadRecords:
		return false, refuse(refusal, r, wire.FormErr, r.Flags&^(0xF<<11), true)
	case wire.BadVersion:
		return false, badVersion(refusal, r)
	default: // too short to have an ID, or a response: an answer would serve an attacker (RFC 9267, 3)
		return false, nil
	}
}

// refuse makes a reply of a header, and the question where it could be read. The bits that a refusal keeps of the
// query's are those that CoreDNS keeps: all but AA and Z.
func refuse(dst []byte, r *wire.Request, rcode wire.Rcode, flags uint16, question bool) []byte {
	flags = flags&^(wire.FlagAA|wire.FlagZ|0xF) | wire.FlagQR | uint16(rcode)
	dst = binary.BigEndian.AppendUint16(dst, r.ID)
	dst = binary.BigEndian.AppendUint16(dst, flags)
	if !question {
		return append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	dst = append(dst, 0, 1, 0, 0, 0, 0, 0, 0)
	dst = append(dst, r.OriginalName()...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(r.Type))
	return binary.BigEndian.AppendUint16(dst, uint16(r.Class))
}

// badVersion answers an EDNS version that nobody has defined yet (RFC 6891, 6.1.3): our OPT is of version 0, with the
// extended code's upper bits.
func badVersion(dst []byte, r *wire.Request) []byte {
	flags := r.Flags & (0xF << 11)
	if r.Opcode() == wire.OpQuery {
		flags |= r.Flags & (wire.FlagRD | wire.FlagCD)
	}
	dst = refuse(dst, r, wire.BadVers&0xF, flags, true)
	dst[len(dst)-len(r.OriginalName())-4-1] = 1 // one additional record
	return append(dst, 0, 0, byte(wire.TypeOPT), 0, 0, byte(wire.BadVers>>4), 0, 0, 0, 0, 0)
}
