package wire

import (
	"bytes"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// built makes a reply with one record of every Append.
func built(r *Request, m *Reply) {
	www, other := MustName("www.example.org."), MustName("other.example.org.")
	m.Begin(r, NoError, FlagAA)
	m.AppendOwnData(Answer, TypeA, 30, []byte{192, 0, 2, 1, 192, 0, 2, 2}, 4)
	m.Append(Answer, www, TypeAAAA, ClassIN, 30, make([]byte, 16))
	m.AppendName(Answer, other, TypeCNAME, 30, www)
	m.AppendSRV(Answer, other, 30, 1, 2, 3, www)
	m.AppendTXT(Answer, other, ClassCH, 0, strings.Repeat("t", 300))
	m.AppendSOA(Authority, MustName("example.org."), 60, &SOA{MName: www, RName: other, Serial: 1, Refresh: 2, Retry: 3, Expire: 4, Minimum: 5})
	m.AppendName(Additional, Root, TypeNS, 1, www)
}

const builtText = `www.example.org.	30	IN	A	192.0.2.1
www.example.org.	30	IN	A	192.0.2.2
www.example.org.	30	IN	AAAA	::
other.example.org.	30	IN	CNAME	www.example.org.
other.example.org.	30	IN	SRV	1 2 3 www.example.org.
other.example.org.	0	CH	TXT	"TEXT"
example.org.	60	IN	SOA	www.example.org. other.example.org. 1 2 3 4 5
.	1	IN	NS	www.example.org.
`

func text(m *dns.Msg) string {
	var b strings.Builder
	for _, rrs := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range rrs {
			if rr.Header().Rrtype != dns.TypeOPT {
				b.WriteString(strings.Replace(rr.String(), strings.Repeat("t", 255), "TEXT", 1) + "\n")
			}
		}
	}
	return b.String()
}

func TestReplyBuilder(t *testing.T) {
	query := question("www.example.org.", dns.TypeA, 1232)
	query.CheckingDisabled = true
	r := parsed(t, query)
	var m Reply
	if !m.Empty() || m.Count(Answer) != 0 {
		t.Error("a new reply is empty")
	}
	built(r, &m)
	got := oracle(m.Bytes())
	if got == nil || text(got) != builtText {
		t.Fatalf("%v", got)
	}
	if !got.Response || !got.Authoritative || !got.RecursionDesired || !got.CheckingDisabled || got.RecursionAvailable || got.Id != query.Id || got.Question[0] != query.Question[0] {
		t.Errorf("%v", got)
	}
	if m.Count(Answer) != 6 || m.Count(Authority) != 1 || m.Count(Additional) != 1 || m.Empty() {
		t.Errorf("%d %d %d", m.Count(Answer), m.Count(Authority), m.Count(Additional))
	}
	got.Compress = false
	if m.PlainLen() != got.Len() {
		t.Errorf("plain length %d, want %d", m.PlainLen(), got.Len())
	}
	m.SetFlags(FlagRA, FlagAA)
	m.SetRcode(NXDomain)
	m.SetID(7)
	m.SetTTL(99)
	got = oracle(m.Bytes())
	if got.Authoritative || !got.RecursionAvailable || got.Rcode != dns.RcodeNameError || got.Id != 7 || got.Extra[0].Header().Ttl != 99 {
		t.Errorf("%v", got)
	}
	if !m.AnswersOriginal(r) {
		t.Error("it answers the question")
	}
	r2 := parsed(t, question("other.example.org.", dns.TypeA, 0))
	if m.AnswersOriginal(r2) {
		t.Error("it answers another question")
	}
}

func TestNotifyReplyKeepsNeitherRDNorCD(t *testing.T) {
	q := new(dns.Msg).SetNotify("example.org.")
	q.RecursionDesired, q.CheckingDisabled = true, true
	var m Reply
	m.Begin(parsed(t, q), NoError, FlagAA)
	if got := oracle(m.Bytes()); got.RecursionDesired || got.CheckingDisabled || got.Opcode != dns.OpcodeNotify {
		t.Errorf("%v", got)
	}
}

func TestSectionsAreInOrder(t *testing.T) {
	var m Reply
	m.Begin(parsed(t, question("a.", dns.TypeA, 0)), NoError, 0)
	m.AppendTXT(Additional, Root, ClassIN, 0, "")
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	m.AppendTXT(Answer, Root, ClassIN, 0, "")
}

func TestBuffersChangeHands(t *testing.T) {
	buf := make([]byte, 10, 4096)
	var m Reply
	m.Attach(buf)
	m.Begin(parsed(t, question("a.", dns.TypeA, 0)), ServFail, 0)
	m.SetEDE(15, "blocked")
	if &m.Bytes()[0] != &buf[0] {
		t.Error("the reply does not use the buffer it was given")
	}
	if b := m.Detach(); &b[:1][0] != &buf[0] || !m.Empty() || m.Rcode != 0 || m.OwnOPT || len(m.Options) != 0 {
		t.Errorf("Detach left %+v", m)
	}
}

func TestExtendedErrorLeavesWithTheReply(t *testing.T) {
	r := parsed(t, question("a.", dns.TypeA, 1232))
	var m Reply
	m.Begin(r, Rcode(23), 0)
	m.SetEDE(15, "blocked")
	var f Fitter
	got := oracle(f.Append(nil, &m, r, 512, 0))
	if o := got.IsEdns0(); got.Rcode != 23 || len(o.Option) != 1 || o.Option[0].(*dns.EDNS0_EDE).ExtraText != "blocked" || o.UDPSize() != 1232 {
		t.Errorf("%v", got)
	}
	if out := f.Append(nil, &m, parsed(t, question("a.", dns.TypeA, 0)), 512, 0); oracle(out).IsEdns0() != nil {
		t.Error("an OPT for a client that sent none (RFC 6891, 7)")
	}
}

func TestOptionsThatGoBack(t *testing.T) {
	q := question("a.", dns.TypeA, 1232)
	o := q.IsEdns0()
	o.Option = append(o.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"}, &dns.EDNS0_NSID{Code: dns.EDNS0NSID},
		&dns.EDNS0_LOCAL{Code: 65001, Data: []byte{1}}, &dns.EDNS0_PADDING{Padding: make([]byte, 5)})
	r := parsed(t, q)
	codes := func(f *Fitter) (list []uint16) {
		var m Reply
		m.Begin(r, NoError, 0)
		for _, opt := range oracle(f.Append(nil, &m, r, 512, 0)).IsEdns0().Option {
			list = append(list, opt.Option())
		}
		return list
	}
	if got := codes(&Fitter{}); len(got) != 3 || got[0] != 10 || got[1] != 3 || got[2] != 12 {
		t.Errorf("options %v go back", got)
	}
	if got := codes(&Fitter{Echo: func(c uint16) bool { return c == 65001 }}); len(got) != 4 {
		t.Errorf("options %v go back", got)
	}
}

func TestTailIsLeftFree(t *testing.T) {
	r := parsed(t, question("www.example.org.", dns.TypeA, 4096))
	var m Reply
	var f Fitter
	for tail := range 400 {
		built(r, &m)
		out := f.Append(nil, &m, r, 700, tail)
		if len(out)+tail > 700 || oracle(out) == nil {
			t.Fatalf("tail %d: %d octets", tail, len(out))
		}
	}
}

// The addresses of a Service lie in data one behind the other, and count as much as any other record: CoreDNS's cache
// gives a reply the smallest TTL of its records.
func TestOwnDataHasTTLs(t *testing.T) {
	r := parsed(t, question("www.example.org.", dns.TypeA, 0))
	var m Reply
	m.Begin(r, NoError, FlagAA)
	m.AppendOwnData(Answer, TypeA, 30, nil, 4)
	if _, _, n := m.TTLs(); n != 0 {
		t.Errorf("%d records after none was added", n)
	}
	m.AppendOwnData(Answer, TypeA, 30, make([]byte, 12), 4)
	if least, most, n := m.TTLs(); least != 30 || most != 30 || n != 3 {
		t.Errorf("smallest %d, largest %d of %d records; want 30, 30 of 3", least, most, n)
	}
	m.Append(Answer, MustName("www.example.org."), TypeAAAA, ClassIN, 7, make([]byte, 16))
	m.SetTTL(7)
	for _, rr := range oracle(m.Bytes()).Answer {
		if rr.Header().Ttl != 7 {
			t.Errorf("%v has kept its TTL", rr)
		}
	}
}

func TestOwnDataFitsAsAnyOther(t *testing.T) {
	r := parsed(t, question("www.example.org.", dns.TypeA, 4096))
	var fast, slow Fitter
	for _, size := range []int{4, 16} {
		typ := TypeA
		if size == 16 {
			typ = TypeAAAA
		}
		for n := range 300 {
			data := make([]byte, n*size)
			for i := range data {
				data[i] = byte(i*7 + n)
			}
			for _, limit := range []int{512, 1232, 4096, MaxMessage} {
				for _, more := range []Section{Answer, Authority, Additional} {
					var m Reply
					m.Begin(r, NoError, FlagAA)
					m.AppendOwnData(Answer, typ, 30, data, size)
					if more != Answer {
						m.AppendOwnData(more, typ, 30, data, size)
					}
					got := fast.Append(nil, &m, r, limit, 0)
					m.stride = 0
					if want := slow.Append(nil, &m, r, limit, 0); !bytes.Equal(got, want) {
						t.Fatalf("%d of %d octets in %d, %v:\n%x\nwant\n%x", n, size, limit, more, got, want)
					}
				}
			}
		}
	}
}

func TestRecordsAboveAreWrittenAsAnyOther(t *testing.T) {
	zone, data := MustName("example.org."), []byte("some data")
	for _, name := range []string{"example.org.", "www.example.org.", "a.b.c.Example.org."} {
		r := parsed(t, question(name, dns.TypeA, 0))
		for n := range 4 {
			var got, want Reply
			var above Above
			got.Begin(r, NXDomain, FlagAA)
			want.Begin(r, NXDomain, FlagAA)
			for i := range n {
				above.Add(zone, TypeTXT, ClassIN, uint32(60+i%2), data[:i])
				want.Append(Authority, zone, TypeTXT, ClassIN, uint32(60+i%2), data[:i])
			}
			got.AppendAbove(Authority, &above)
			if above.Len() != n || !bytes.Equal(got.Bytes(), want.Bytes()) || got.PlainLen() != want.PlainLen() {
				t.Errorf("%d records, %d octets in full:\n%x\nwant %d:\n%x", n, got.PlainLen(), got.Bytes(), want.PlainLen(), want.Bytes())
			}
			least, most, count := got.TTLs()
			if l, m, c := want.TTLs(); least != l || most != m || count != c {
				t.Errorf("TTLs %d to %d of %d records; want %d to %d of %d", least, most, count, l, m, c)
			}
		}
	}
}
