package wire

import (
	"testing"

	"github.com/miekg/dns"
)

// TestNothingAllocates holds the package to its comment, once buffers have grown.
func TestNothingAllocates(t *testing.T) {
	q := question("www.example.org.", dns.TypeA, 1232)
	q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"}}
	packet := pack(q, false)
	up := new(dns.Msg).SetReply(q)
	up.Answer = records("www.example.org. 60 IN CNAME host.example.org.", "host.example.org. 60 IN A 192.0.2.1",
		"host.example.org. 60 IN RRSIG A 8 2 5 20300101000000 20200101000000 7 example.org. "+string(make64(800)))
	up.Ns = records("example.org. 60 IN SOA ns.example.org. h.example.org. 7 1 2 3 4")
	up.SetEdns0(4096, false)
	src, stored := pack(up, true), pack(new(dns.Msg).SetReply(q), false)
	var r Request
	r.Parse(packet)
	www := MustName("www.example.org.")
	soa := SOA{MName: www, RName: www}
	var m, other Reply
	var f Fitter
	out := make([]byte, 0, MaxMessage)
	data := make([]byte, 16)
	keep := func(Section, *Record) Action { return Keep }
	for what, run := range map[string]func(){
		"Parse": func() { r.Parse(packet) },
		"Begin and Append": func() {
			m.Begin(&r, NoError, FlagAA)
			m.AppendOwnData(Answer, TypeA, 30, data[:8], 4)
			m.Append(Answer, www, TypeAAAA, ClassIN, 30, data)
			m.AppendName(Answer, www, TypeCNAME, 30, www)
			m.AppendSRV(Answer, www, 30, 1, 2, 3, www)
			m.AppendTXT(Answer, www, ClassIN, 0, "text")
			m.AppendSOA(Authority, www, 60, &soa)
		},
		"Load":                      func() { m.Load(stored, len(stored), &r) },
		"Adopt":                     func() { must(m.Adopt(src, &r)) },
		"Fitter.Append":             func() { must(m.Adopt(src, &r)); f.Append(out, &m, &r, 4096, 0) },
		"Fitter.Append compressing": func() { must(m.Adopt(src, &r)); f.Append(out, &m, &r, 512, 0) },
		"Transcribe":                func() { m.Begin(&r, NoError, 0); must(Transcribe(&m, src, keep)) },
		"Rewrite":                   func() { must(m.Adopt(src, &r)); must(m.Rewrite(&other, keep)) },
		"SetTTL":                    func() { must(m.Adopt(src, &r)); m.SetTTL(7) },
		"AppendQuery":               func() { r.AppendQuery(out, 1, 1232) },
		"SetEDE":                    func() { m.SetEDE(1, "text") },
		"CopyFrom":                  func() { r.CopyFrom(&r) },
		"Under":                     func() { www.Under(Root) },
	} {
		run()
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%s allocates %v times", what, n)
		}
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// make64 is n letters of base64.
func make64(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'A'
	}
	return b
}
