package wire

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/miekg/dns"
)

// FuzzRequestParse holds the verdict and the fields of Parse to miekg/dns. The exceptions are those of lenient and of
// strictRecords.
func FuzzRequestParse(f *testing.F) {
	corpus(f)
	f.Add([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0, 0, 1})
	f.Fuzz(func(t *testing.T, packet []byte) {
		var r Request
		before := bytes.Clone(packet)
		verdict := r.Parse(packet)
		if !bytes.Equal(before, packet) {
			t.Fatal("Parse changed the packet")
		}
		if want := headerVerdict(packet); want != 0 {
			if verdict != want {
				t.Fatalf("verdict %d, want %d by the header", verdict, want)
			}
			return
		}
		m := oracle(packet)
		switch verdict {
		case Accepted, BadVersion:
			checkFields(t, &r, packet, m)
		case BadQuestion:
			if m != nil && !lenientQuestion(packet) {
				t.Fatalf("BadQuestion, but the oracle reads %v", m)
			}
		case BadRecords:
			if m != nil && !strictRecords(m, packet) {
				t.Fatalf("BadRecords, but the oracle reads %v", m)
			}
		default:
			t.Fatalf("verdict %d after the header was good", verdict)
		}
	})
}

// headerVerdict is what miekg's rules say of the header alone; 0 when it may go on.
func headerVerdict(packet []byte) Verdict {
	if len(packet) < HeaderSize {
		return TooShort
	}
	u := func(at int) uint16 { return binary.BigEndian.Uint16(packet[at:]) }
	h := dns.Header{Id: u(0), Bits: u(2), Qdcount: u(4), Ancount: u(6), Nscount: u(8), Arcount: u(10)}
	switch dns.DefaultMsgAcceptFunc(h) {
	case dns.MsgIgnore:
		return IsResponse
	case dns.MsgRejectNotImplemented:
		return BadOpcode
	case dns.MsgReject:
		return BadCounts
	}
	return 0
}

// lenientQuestion says that miekg reads a question that is none: it takes a header alone, a question that ends behind its
// name or its type, and a name with a pointer, which has nothing before it to point to.
func lenientQuestion(packet []byte) bool {
	off := HeaderSize
	for off < len(packet) && packet[off] != 0 {
		if packet[off] >= 0xC0 {
			return true
		}
		off += 1 + int(packet[off])
	}
	return off+5 > len(packet)
}

// strictRecords says that Parse refuses records that miekg lets pass: fewer than were counted, a second OPT
// (RFC 6891, 6.1.1), a TSIG that is not the last (RFC 8945, 5.1).
func strictRecords(m *dns.Msg, packet []byte) bool {
	counted := int(packet[7]) + int(packet[9]) + int(packet[11])
	if len(m.Answer)+len(m.Ns)+len(m.Extra) < counted {
		return true
	}
	opts := 0
	for i, rr := range m.Extra {
		switch rr.Header().Rrtype {
		case dns.TypeOPT:
			opts++
		case dns.TypeTSIG:
			if i != len(m.Extra)-1 {
				return true
			}
		}
	}
	return opts > 1
}

func checkFields(t *testing.T, r *Request, packet []byte, m *dns.Msg) {
	if m == nil { // data of records that Parse does not look into; the question must parse without them
		if binary.BigEndian.Uint64(packet[4:]) == 1<<48 {
			t.Fatal("accepted what the oracle can't read")
		}
		short := bytes.Clone(packet[:HeaderSize+len(r.OriginalName())+4])
		clear(short[6:HeaderSize])
		if m = oracle(short); m == nil {
			t.Fatal("accepted a question that the oracle can't read")
		}
	} else {
		checkEDNS(t, r, m)
	}
	q := m.Question[0]
	if got := r.OriginalName().String(); got != q.Name {
		t.Fatalf("name %q, want %q", got, q.Name)
	}
	if got, want := r.Name(), Name(lowered(r.OriginalName())); !bytes.Equal(got, want) || !Equal(got, r.OriginalName()) {
		t.Fatalf("lower-case name %q, want %q", got, want)
	}
	if r.Labels() != dns.CountLabel(q.Name) {
		t.Fatalf("%d labels in %q", r.Labels(), q.Name)
	}
	if uint16(r.Type) != q.Qtype || uint16(r.Class) != q.Qclass || r.ID != m.Id || int(r.Opcode()) != m.Opcode {
		t.Fatalf("%d %d %d %d, want %v", r.Type, r.Class, r.ID, r.Opcode(), m)
	}
	if r.RD() != m.RecursionDesired || r.CD() != m.CheckingDisabled || r.AD() != m.AuthenticatedData || r.Renamed() {
		t.Fatalf("flags %04x, want %v", r.Flags, m)
	}
	if r.Length > len(packet) {
		t.Fatalf("read %d of %d octets", r.Length, len(packet))
	}
}

func checkEDNS(t *testing.T, r *Request, m *dns.Msg) {
	if (m.IsTsig() != nil) != r.TSIG {
		t.Fatalf("TSIG %v, want %v", r.TSIG, m.IsTsig())
	}
	opt := m.IsEdns0()
	if (opt != nil) != r.EDNS.Present {
		t.Fatalf("EDNS %v, want %v", r.EDNS, opt)
	}
	if opt == nil {
		return
	}
	if r.EDNS.Size != opt.UDPSize() || r.EDNS.Version != opt.Version() || r.DO() != opt.Do() || uint32(r.EDNS.Flags) != opt.Hdr.Ttl&0xFFFF {
		t.Fatalf("EDNS %v, want %v", r.EDNS, opt)
	}
	n := 0
	for list := r.EDNS.Options; len(list) > 0; n++ {
		var code uint16
		code, _, list = NextOption(list)
		if code != opt.Option[n].Option() {
			t.Fatalf("option %d is %d, want %d", n, code, opt.Option[n].Option())
		}
	}
	if n != len(opt.Option) {
		t.Fatalf("%d options, want %d", n, len(opt.Option))
	}
}
