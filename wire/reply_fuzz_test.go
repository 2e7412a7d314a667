package wire

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// FuzzTranscribe holds an unchanged transcription to what miekg/dns reads in the message.
func FuzzTranscribe(f *testing.F) {
	corpus(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		m := oracle(in)
		if m == nil {
			mayFail(in)
			return
		}
		want := sections(t, m)
		check := func(src []byte, mustWork bool) {
			var dst Reply
			dst.Begin(parsed(t, question("q.example.", dns.TypeA, 0)), NoError, 0)
			if err := Transcribe(&dst, src, nil); err != nil {
				if mustWork {
					t.Fatalf("%v for %v", err, m)
				}
				return
			}
			got := oracle(dst.Bytes())
			if got == nil {
				t.Fatalf("what was transcribed does not parse: %x", dst.Bytes())
			}
			sameSections(t, sections(t, got), want)
		}
		if wholeMessage(in) {
			check(in, false)
		}
		for _, compress := range []bool{false, true} {
			if src := pack(m, compress); src != nil {
				check(src, true)
			}
		}
	})
}

// wholeMessage reports whether Adopt would take the records as they are: the oracle also reads data that break off.
func wholeMessage(in []byte) bool {
	var c Cursor
	var r Record
	if c.Open(in) != nil {
		return false
	}
	qname := c.Offset() - 4 - HeaderSize
	for {
		_, more, err := c.Next(&r)
		if err != nil || !more {
			return err == nil
		}
		if _, err := plainLen(in, r.Type, r.at, r.data, r.end, qname); err != nil {
			return false
		}
	}
}

// mayFail runs everything that reads messages: it may refuse, never panic.
func mayFail(in []byte) {
	var m Reply
	var r Request
	r.SetQuestion(Name{1, 'a', 0}, TypeA)
	m.Begin(&r, NoError, 0)
	_ = Transcribe(&m, in, nil)
	_ = m.Adopt(in, &r)
}

// FuzzAdopt takes any message that miekg/dns can read as an upstream's reply, fits it to several sizes, and looks at what
// the client would get: never larger than it may be, a prefix of the records, TC exactly when some are missing.
func FuzzAdopt(f *testing.F) {
	corpus(f)
	var fitter Fitter
	f.Fuzz(func(t *testing.T, in []byte) {
		mayFail(in)
		m := oracle(in)
		if m == nil || len(m.Question) != 1 {
			return
		}
		src := pack(m, true)
		if src == nil {
			return
		}
		var r Request
		r.SetQuestion(MustName(m.Question[0].Name), Type(m.Question[0].Qtype))
		r.Class, r.EDNS = Class(m.Question[0].Qclass), EDNS{Present: true, Size: 512, Flags: 0x8000, DO: true}
		want := sections(t, m)
		for _, size := range []int{512, 700, 1232, 4096, MaxMessage} {
			var reply Reply
			if err := reply.Adopt(src, &r); err != nil {
				t.Fatalf("Adopt: %v for %v: %x", err, m, src)
			}
			out := fitter.Append([]byte("before"), &reply, &r, size, 0)
			checkFitted(t, out[len("before"):], size, m, want)
		}
	})
}

func checkFitted(t *testing.T, out []byte, size int, m *dns.Msg, want [3][]string) {
	t.Helper()
	got := oracle(out)
	if got == nil {
		t.Fatalf("the reply does not parse: %x", out)
	}
	// What does not fit beside an empty message are the upstream's own options alone.
	if opt := m.IsEdns0(); len(out) > size && (opt == nil || dns.Len(opt)+300 < size) {
		t.Fatalf("%d octets for a limit of %d", len(out), size)
	}
	have, missing := sections(t, got), false
	for s := range have {
		if len(have[s]) > len(want[s]) || missing && len(have[s]) > 0 {
			t.Fatalf("section %d has %d records of %d after a cut %v", s, len(have[s]), len(want[s]), missing)
		}
		for i := range have[s] {
			if have[s][i] != want[s][i] {
				t.Fatalf("section %d record %d changed", s, i)
			}
		}
		missing = missing || len(have[s]) < len(want[s])
	}
	if got.Truncated != (m.Truncated || missing) {
		t.Fatalf("TC %v, records missing %v", got.Truncated, missing)
	}
	if m.IsEdns0() == nil && got.Rcode != m.Rcode&0xF {
		t.Fatalf("rcode %d, want %d", got.Rcode, m.Rcode)
	}
}

// script makes records out of fuzz input: names of few labels, so that compression has something to do.
type script struct{ in []byte }

func (s *script) next() int {
	if len(s.in) == 0 {
		return 0
	}
	c := s.in[0]
	s.in = s.in[1:]
	return int(c)
}

func (s *script) name() string {
	labels := []string{"www", "a", "example", "org", "mail-server-with-a-long-label", "svc", "cluster", "local"}
	var b strings.Builder
	for n := s.next() % 5; n >= 0; n-- {
		b.WriteString(labels[s.next()%len(labels)] + ".")
	}
	return b.String()
}

func (s *script) record() dns.RR {
	owner, kind := s.name(), s.next()%10
	var data string
	switch kind {
	case 0, 1:
		data = fmt.Sprintf("A 192.0.2.%d", s.next())
	case 2:
		data = fmt.Sprintf("AAAA 2001:db8::%d", s.next())
	case 3:
		data = "CNAME " + s.name()
	case 4:
		data = "TXT \"" + strings.Repeat("t", s.next()) + "\""
	case 5:
		data = "SRV 1 2 3 " + s.name()
	case 6:
		data = "MX 10 " + s.name()
	case 7:
		data = "SOA " + s.name() + " " + s.name() + " 1 2 3 4 5"
	case 8:
		data = "NS " + s.name()
	case 9:
		data = "NAPTR 1 2 \"u\" \"sip\" \"!x!y!\" " + s.name()
	}
	return records(owner + " 60 IN " + data)[0]
}

// FuzzFit holds the fitted reply to miekg's Truncate and Pack: same records, same TC, no octet more.
func FuzzFit(f *testing.F) {
	f.Add([]byte("\x03\x10\x05\x03abcdefghijklmnopqrstuvwxyz0123456789"), uint16(0))
	f.Add(bytes.Repeat([]byte{9, 1, 200, 4, 255, 3, 2}, 60), uint16(700))
	f.Add(bytes.Repeat([]byte{1, 2, 3, 1, 7}, 400), uint16(1300))
	f.Add(make([]byte, 1500), uint16(100)) // addresses of the question's own name alone
	f.Add(append([]byte{0, 0}, bytes.Repeat([]byte{2, 0, 0, 0, 7}, 300)...), uint16(720))
	var fitter Fitter
	f.Fuzz(func(t *testing.T, in []byte, size uint16) {
		s := script{in}
		limit := 512 + int(size)
		query := question(s.name(), dns.TypeANY, uint16(min(limit, 0xFFFF)))
		m := new(dns.Msg).SetReply(query)
		for len(s.in) > 0 && len(m.Extra) < 2000 {
			switch s.next() % 3 {
			case 0:
				m.Extra = append(m.Extra, s.record())
			case 1:
				m.Ns = append(m.Ns, s.record())
			default:
				m.Answer = append(m.Answer, s.record())
			}
		}
		src := pack(m, true)
		if src == nil || limit > MaxMessage {
			return
		}
		var reply Reply
		r := parsed(t, query)
		if err := reply.Adopt(src, r); err != nil {
			t.Fatal(err)
		}
		if plain := pack(m, false); plain != nil && reply.PlainLen() != len(plain) {
			t.Fatalf("plain length %d, want %d", reply.PlainLen(), len(plain))
		}
		out := fitter.Append(nil, &reply, r, limit, 0)
		m.SetEdns0(uint16(min(limit, 0xFFFF)), false)
		m.Truncate(limit)
		want := pack(m, m.Compress)
		got := oracle(out)
		if got == nil || len(out) > limit {
			t.Fatalf("%d octets for %d, want %d: %x", len(out), limit, len(want), out)
		}
		if got.Truncated != m.Truncated || got.Rcode != m.Rcode {
			t.Fatalf("TC %v rcode %d, want %v %d", got.Truncated, got.Rcode, m.Truncated, m.Rcode)
		}
		sameSections(t, sections(t, got), sections(t, m))
		if got.IsEdns0() == nil {
			t.Fatal("no OPT")
		}
	})
}
