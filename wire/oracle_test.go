package wire

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/miekg/dns"
)

// oracle reads a message with miekg/dns; nil when it can't, or when a record's data break off between two fields. It reads
// these, and writes something else again.
func oracle(msg []byte) *dns.Msg {
	m := new(dns.Msg)
	if m.Unpack(msg) != nil {
		return nil
	}
	for _, rrs := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range rrs {
			if !wholeData(rr) {
				return nil
			}
		}
	}
	return m
}

// wholeData reports whether rr's text is a record again, for types with names or of a fixed length.
func wholeData(rr dns.RR) bool {
	h := rr.Header()
	if _, fixed := restOf(Type(h.Rrtype)); h.Rrtype == dns.TypeOPT || !fixed && layoutOf(Type(h.Rrtype)).names == 0 {
		return true
	}
	again := dns.Copy(rr)
	*again.Header() = dns.RR_Header{Name: "x.", Rrtype: h.Rrtype, Class: dns.ClassINET}
	back, err := dns.NewRR(again.String())
	return h.Rdlength > 0 && err == nil && back != nil && dns.IsDuplicate(back, again)
}

// packed gives each record's uncompressed bytes in hex, without OPT and TSIG. Letters are small: owners that differ in case
// alone share one spelling in a reply (RFC 4343, 3).
func packed(t testing.TB, rrs []dns.RR) []string {
	var list []string
	for _, rr := range rrs {
		if typ := rr.Header().Rrtype; typ == dns.TypeOPT || typ == dns.TypeTSIG {
			continue
		}
		buf := make([]byte, 1<<17)
		n, err := dns.PackRR(rr, buf, 0, nil, false)
		if err != nil {
			t.Skipf("the oracle can't pack what it read: %v", err)
		}
		list = append(list, hex.EncodeToString(lowered(buf[:n])))
	}
	return list
}

// sections gives the three sections of packed records.
func sections(t testing.TB, m *dns.Msg) [3][]string {
	return [3][]string{packed(t, m.Answer), packed(t, m.Ns), packed(t, m.Extra)}
}

func sameSections(t *testing.T, got, want [3][]string) {
	t.Helper()
	for i := range got {
		if len(got[i]) != len(want[i]) {
			t.Fatalf("section %d has %d records, want %d", i, len(got[i]), len(want[i]))
		}
		for j := range got[i] {
			if got[i][j] != want[i][j] {
				t.Fatalf("section %d record %d:\n%s\nwant\n%s", i, j, got[i][j], want[i][j])
			}
		}
	}
}

// pack is Pack, nil when the message can't be packed.
func pack(m *dns.Msg, compress bool) []byte {
	m.Compress = compress
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

// parsed reads a query that must be accepted.
func parsed(t testing.TB, m *dns.Msg) *Request {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	r := new(Request)
	if v := r.Parse(b); v != Accepted {
		t.Fatalf("verdict %d for %s", v, m)
	}
	return r
}

// question is a query for name and type, with EDNS where size is not 0.
func question(name string, typ uint16, size uint16) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, typ)
	if size != 0 {
		m.SetEdns0(size, false)
	}
	return m
}

// corpus are messages that the fuzzers begin with.
func corpus(f *testing.F) {
	add := func(m *dns.Msg) {
		for _, compress := range []bool{false, true} {
			if b := pack(m, compress); b != nil {
				f.Add(b)
			}
		}
	}
	add(question("www.example.org.", dns.TypeA, 0))
	add(question("WwW.Example.org.", dns.TypeAAAA, 1232))
	m := question("a.example.org.", dns.TypeMX, 4096)
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"})
	add(m)
	m = new(dns.Msg).SetNotify("example.org.")
	m.Answer = records("example.org. 60 IN SOA ns.example.org. h.example.org. 7 1 2 3 4")
	add(m)
	m = new(dns.Msg).SetAxfr("example.org.")
	m.SetTsig("key.", dns.HmacSHA256, 300, 1700000000)
	m.Extra[0].(*dns.TSIG).MAC, m.Extra[0].(*dns.TSIG).MACSize = "00ff", 2
	add(m)
	m = question("www.example.org.", dns.TypeANY, 1232)
	m.Response = true
	m.Answer = records("www.example.org. 60 IN CNAME host.example.org.", "host.example.org. 60 IN A 192.0.2.1",
		"host.example.org. 60 IN TXT \"hello world\"", "_s._tcp.example.org. 5 IN SRV 1 2 3 host.example.org.",
		"example.org. 5 IN MX 10 mail.example.org.", "e.org. 5 IN NAPTR 1 2 \"u\" \"sip\" \"!x!y!\" rep.example.org.")
	m.Ns = records("example.org. 60 IN SOA ns.example.org. h.example.org. 7 1 2 3 4", "example.org. 5 IN NS ns.example.org.",
		"example.org. 5 IN NSEC a.example.org. A RRSIG")
	m.Extra = append(m.Extra, records("ns.example.org. 5 IN AAAA 2001:db8::1",
		"example.org. 5 IN RRSIG A 8 2 5 20300101000000 20200101000000 7 example.org. AAAA",
		"example.org. 5 IN SVCB 1 svc.example.org. alpn=h2", "a. 1 IN RP mbox.a. txt.a.", "b. 1 IN PX 1 x.b. y.b.")...)
	add(m)
}

func records(lines ...string) (list []dns.RR) {
	for _, l := range lines {
		rr, err := dns.NewRR(l)
		if err != nil {
			panic(err)
		}
		list = append(list, rr)
	}
	return list
}

// lowered is a copy of b in lower case, so that both sides compress the same names.
func lowered(b []byte) []byte {
	b = bytes.Clone(b)
	ToLower(b)
	return b
}
