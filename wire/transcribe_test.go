package wire

import (
	"errors"
	"testing"

	"github.com/miekg/dns"
)

func TestTranscribeChangesDropsAndInserts(t *testing.T) {
	q := question("www.example.org.", dns.TypeA, 0)
	m := new(dns.Msg).SetReply(q)
	m.Answer = records("www.example.org. 60 IN CNAME host.example.org.", "host.example.org. 60 IN A 192.0.2.1")
	m.Ns = records("example.org. 60 IN NS ns.example.org.")
	m.Extra = records("ns.example.org. 60 IN TXT keep")
	m.SetEdns0(1232, false)
	var dst Reply
	dst.Begin(parsed(t, q), NoError, 0)
	err := Transcribe(&dst, pack(m, true), func(s Section, r *Record) Action {
		switch r.Type {
		case TypeCNAME:
			data, err := r.Data(nil)
			if at, ok := TargetOffset(r.Type, data); err != nil || !ok || at != 0 || Name(data[at:]).String() != "host.example.org." {
				t.Errorf("data %x at %d, %v", data, at, err)
			}
			r.SetData(MustName("elsewhere.example.org."))
		case TypeA:
			if len(r.RawData()) != 4 {
				t.Errorf("raw data %x", r.RawData())
			}
			r.SetOwner(MustName("elsewhere.example.org."))
			r.TTL = 5
		case TypeNS:
			return Drop
		case TypeTXT:
			if s != Additional {
				t.Errorf("section %d", s)
			}
			dst.AppendTXT(Additional, Root, ClassIN, 1, "new")
		}
		return Keep
	})
	want := "www.example.org.\t60\tIN\tCNAME\telsewhere.example.org.\nelsewhere.example.org.\t5\tIN\tA\t192.0.2.1\n" +
		".\t1\tIN\tTXT\t\"new\"\nns.example.org.\t60\tIN\tTXT\t\"keep\"\n"
	if got := oracle(dst.Bytes()); err != nil || got == nil || text(got) != want {
		t.Errorf("%v %v", err, got)
	}
}

func TestAdoptTakesOPTOff(t *testing.T) {
	q := question("www.example.org.", dns.TypeA, 1232)
	for _, behind := range []bool{false, true} {
		m := new(dns.Msg).SetReply(q)
		m.Answer = records("www.example.org. 60 IN A 192.0.2.1")
		m.Rcode = 23
		m.SetEdns0(4096, true)
		m.IsEdns0().SetExtendedRcode(23)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: 3}}
		if behind {
			m.Extra = append(m.Extra, records("www.example.org. 60 IN TXT behind")...)
		}
		var dst Reply
		r := parsed(t, q)
		if err := dst.Adopt(pack(m, true), r); err != nil {
			t.Fatal(err)
		}
		if !dst.OwnOPT || len(dst.Options) != 6 || dst.Rcode != 23 || dst.OwnFlags != 0x8000 || oracle(dst.Bytes()).IsEdns0() != nil {
			t.Errorf("%+v", dst)
		}
		if want := map[bool]int{false: 0, true: 1}[behind]; dst.Count(Additional) != want || dst.Count(Answer) != 1 {
			t.Errorf("%d additional records, want %d", dst.Count(Additional), want)
		}
	}
}

func TestAdoptRefuses(t *testing.T) {
	q := question("www.example.org.", dns.TypeA, 0)
	m := new(dns.Msg).SetReply(q)
	m.Answer = records("www.example.org. 60 IN A 192.0.2.1")
	good := pack(m, true)
	cut := func(n int) []byte { return good[:len(good)-n] }
	change := func(at int, to byte) []byte {
		b := append([]byte(nil), good...)
		b[at] = to
		return b
	}
	for what, b := range map[string][]byte{
		"cut data": cut(1), "cut record": cut(9), "cut question": good[:20], "no header": good[:11], "nothing": nil,
		"another name": change(13, 'x'), "two questions": change(5, 2), "more records than there are": change(7, 2),
		"an address of three octets": append(change(len(good)-5, 3)[:len(good)-1], 0),
	} {
		var dst Reply
		if err := dst.Adopt(b, parsed(t, q)); err == nil {
			t.Errorf("%s was taken: %x", what, b)
		}
	}
}

func TestLoadPutsTheClientsQuestion(t *testing.T) {
	m := new(dns.Msg).SetReply(question("www.example.org.", dns.TypeA, 0))
	m.Answer, m.Rcode = records("www.example.org. 60 IN A 192.0.2.1"), dns.RcodeNameError
	m.RecursionDesired = true
	q := question("WWW.example.ORG.", dns.TypeA, 0)
	q.RecursionDesired, q.CheckingDisabled = false, true
	var dst Reply
	dst.Load(pack(m, true), 77, parsed(t, q))
	got := oracle(dst.Bytes())
	if got.Id != q.Id || got.Question[0].Name != "WWW.example.ORG." || got.RecursionDesired || !got.CheckingDisabled || dst.PlainLen() != 77 || dst.Rcode != NXDomain {
		t.Errorf("%v %d %v", got, dst.PlainLen(), dst.Rcode)
	}
}

// A stored reply may answer a NOTIFY, as it does from CoreDNS's cache: its opcode is echoed, RD and CD are not.
func TestLoadTakesTheOpcode(t *testing.T) {
	m := new(dns.Msg).SetReply(question("www.example.org.", dns.TypeA, 0))
	m.RecursionDesired = true
	q := question("www.example.org.", dns.TypeA, 0)
	q.Opcode, q.RecursionDesired, q.CheckingDisabled = dns.OpcodeNotify, true, true
	var dst Reply
	dst.Load(pack(m, true), 40, parsed(t, q))
	got := oracle(dst.Bytes())
	if got.Opcode != dns.OpcodeNotify || got.RecursionDesired || got.CheckingDisabled {
		t.Errorf("%v", got)
	}
}

func TestRequestionRestoresAndRewriteKeepsTheQuestion(t *testing.T) {
	r := parsed(t, question("Asked.example.org.", dns.TypeA, 0))
	r.SetName(MustName("inside.example.org."))
	r.Type = TypeAAAA
	var m, dst Reply
	m.Begin(r, NoError, FlagAA)
	m.Append(Answer, MustName("inside.example.org."), TypeAAAA, ClassIN, 5, make([]byte, 16))
	if err := m.Rewrite(&dst, nil); err != nil {
		t.Fatal(err)
	}
	if got := oracle(dst.Bytes()); got.Question[0].Name != "inside.example.org." || got.Question[0].Qtype != dns.TypeAAAA || len(got.Answer) != 1 {
		t.Errorf("%v", got)
	}
	if err := m.Requestion(&dst, r, nil); err != nil {
		t.Fatal(err)
	}
	got := oracle(dst.Bytes())
	if got.Question[0].Name != "Asked.example.org." || got.Question[0].Qtype != dns.TypeA || got.Answer[0].Header().Name != "inside.example.org." || !dst.AnswersOriginal(r) {
		t.Errorf("%v", got)
	}
	dst.Restore(r)
	if dst.PlainLen() != got.Len() {
		t.Errorf("plain length %d, want %d", dst.PlainLen(), got.Len())
	}
}

func TestCursorFindsLies(t *testing.T) {
	var c Cursor
	if err := c.Open(make([]byte, 5)); !errors.Is(err, ErrShort) {
		t.Errorf("%v", err)
	}
	b := pack(question("a.", dns.TypeA, 0), false)
	b[7] = 1
	if err := c.Open(b); err != nil || c.Offset() != len(b) {
		t.Fatalf("%v", err)
	}
	var r Record
	if _, more, err := c.Next(&r); more || !errors.Is(err, ErrShort) {
		t.Errorf("%v %v", more, err)
	}
}
