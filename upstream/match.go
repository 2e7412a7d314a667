package upstream

import (
	"encoding/binary"

	"github.com/godwit-dns/godwit/wire"
)

// match is what a message with the right ID is to a question.
type match uint8

const (
	belongs match = iota + 1
	foreign       // another question, or no response at all: it never ends the wait
	bare          // an error without a question: some servers answer what they do not understand so
	torn          // the right question, but the message breaks off
	stump         // too short for a header
)

// compare matches a message against the question that was sent. Names are compared without regard to case (RFC 1035,
// 2.3.3): there are servers that answer in lower case.
func compare(msg, query []byte, question int) match {
	if len(msg) < wire.HeaderSize {
		return stump
	}
	if msg[2]&0x80 == 0 {
		return foreign
	}
	switch binary.BigEndian.Uint16(msg[4:]) {
	case 1:
	case 0:
		if msg[3]&0xF != 0 {
			return bare
		}
		return foreign
	default:
		return foreign
	}
	if len(msg) < question {
		return foreign
	}
	name := question - 4
	if !wire.Equal(wire.Name(msg[wire.HeaderSize:name]), wire.Name(query[wire.HeaderSize:name])) ||
		string(msg[name:question]) != string(query[name:question]) {
		return foreign
	}
	if !whole(msg) {
		return torn
	}
	return belongs
}

// whole reports whether all records are there. Counts in the header that promise more than there is, in a message that
// ends with a record, are put right: CoreDNS takes it so.
func whole(msg []byte) bool {
	var c wire.Cursor
	if c.Open(msg) != nil {
		return false
	}
	var counts [3]uint16
	for {
		section, more, err := c.Pass()
		switch {
		case err != nil && c.Offset() < len(msg):
			return false
		case err != nil:
			for i, n := range counts {
				binary.BigEndian.PutUint16(msg[6+2*i:], n)
			}
			return true
		case !more:
			return true
		}
		counts[section]++
	}
}

// cut makes a torn datagram an empty reply with TC set, so that the client asks again over TCP: some servers send more
// than the client takes and let the network cut it.
func cut(msg []byte, question int) []byte {
	msg = msg[:question]
	msg[2] |= byte(wire.FlagTC >> 8)
	clear(msg[6:wire.HeaderSize])
	return msg
}

// rcodeOf gives the response code, with its upper bits where the message has an OPT (RFC 6891, 6.1.3).
func rcodeOf(msg []byte) wire.Rcode {
	code := wire.Rcode(msg[3] & 0xF)
	var c wire.Cursor
	var r wire.Record
	if msg[10]|msg[11] == 0 || c.Open(msg) != nil {
		return code
	}
	for {
		sec, more, err := c.Next(&r)
		if err != nil || !more {
			return code
		}
		if sec == wire.Additional && r.Type == wire.TypeOPT {
			return code | wire.Rcode(r.TTL>>24)<<4
		}
	}
}
