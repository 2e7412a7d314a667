package wire

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/miekg/dns"
)

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		what, packet string
		want         Verdict
	}{
		{"nothing", "", TooShort},
		{"eleven octets", "0001010000010000000000", TooShort},
		{"a response", "000181000001000000000000", IsResponse},
		{"a response with a bad opcode", "0001f9000001000000000000", IsResponse},
		{"UPDATE", "000128000001000000000000", BadOpcode},
		{"opcode 15 without a question", "000178000000000000000000", BadOpcode},
		{"no question", "000101000000000000000000", BadCounts},
		{"two questions", "000101000002000000000000", BadCounts},
		{"two answers", "000101000001000200000000", BadCounts},
		{"two authorities", "000101000001000000020000", BadCounts},
		{"three additional", "000101000001000000000003", BadCounts},
		{"a header alone", "000101000001000000000000", BadQuestion},
		{"no class", "000101000001000000000000" + "0161000001", BadQuestion},
		{"a pointer", "000101000001000000000000" + "c00c00010001", BadQuestion},
		{"a label of 64", "000101000001000000000000" + "40" + "0000010001", BadQuestion},
		{"a record that is not there", "000101000001000000000001" + "0000010001", BadRecords},
		{"a cut OPT", "000101000001000000000001" + "0000010001" + "000029100000000000", BadRecords},
		{"bad options", "000101000001000000000001" + "0000010001" + "0000291000000000000003000a00", BadRecords},
		{"two OPT", "000101000001000000000002" + "0000010001" + "0000291000000000000000" + "0000291000000000000000", BadRecords},
		{"EDNS 1", "000101000001000000000001" + "0000010001" + "0000291000000100000000", BadVersion},
		{"plain", "000101000001000000000000" + "0161000001" + "0001", Accepted},
		{"trailing octets", "000101000001000000000000" + "0161000001" + "0001" + "ffff", Accepted},
		{"NOTIFY", "000120000001000000000000" + "0161000006" + "0001", Accepted},
	} {
		b, err := hex.DecodeString(c.packet)
		if err != nil {
			t.Fatal(err)
		}
		var r Request
		if got := r.Parse(b); got != c.want {
			t.Errorf("%s: verdict %d, want %d", c.what, got, c.want)
		}
	}
}

func TestNotifyCarriesASerial(t *testing.T) {
	m := new(dns.Msg).SetNotify("example.org.")
	m.Answer = records("example.org. 60 IN SOA ns.example.org. h.example.org. 4711 1 2 3 4")
	if r := parsed(t, m); r.Opcode() != OpNotify || !r.Notify.Present || r.Notify.Serial != 4711 {
		t.Errorf("%+v", r.Notify)
	}
	m.Answer = nil
	if r := parsed(t, m); r.Notify.Present {
		t.Error("no SOA came")
	}
}

func TestRequestChanges(t *testing.T) {
	m := question("WWW.example.org.", dns.TypeA, 1232)
	m.IsEdns0().SetDo()
	r := parsed(t, m)
	if r.Renamed() || !r.RD() || r.CD() || !r.DO() || r.OriginalName().String() != "WWW.example.org." {
		t.Fatalf("%+v", r)
	}
	r.SetName(MustName("Other.Example."))
	if !r.Renamed() || r.Name().String() != "other.example." || r.Labels() != 2 || r.OriginalName().String() != "WWW.example.org." {
		t.Errorf("%s %d", r.Name(), r.Labels())
	}
	r.SetName(MustName("www.example.org."))
	r.Type = TypeAAAA
	if typ, class := r.Original(); !r.Renamed() || typ != TypeA || class != ClassIN {
		t.Errorf("%v %v", typ, class)
	}
	var c Request
	r.SetOptions(AppendOption(nil, OptionNSID, []byte("x")))
	c.CopyFrom(r)
	r.SetOptions(AppendOption(nil, OptionNSID, []byte("y")))
	if data, ok := Option(c.EDNS.Options, OptionNSID); !ok || string(data) != "x" {
		t.Errorf("the copy has %q", data)
	}
	if _, ok := Option(c.EDNS.Options, OptionCookie); ok {
		t.Error("no cookie was set")
	}
	c.ChangeQuestion(MustName("Next.example."), TypeSRV)
	if c.Renamed() || c.Name().String() != "next.example." || c.Type != TypeSRV || !c.EDNS.Present || !c.DO() {
		t.Errorf("%+v", &c)
	}
	c.SetQuestion(MustName("Own.example."), TypeNS)
	if c.EDNS.Present || !c.RD() || c.OriginalName().String() != "Own.example." || c.Type != TypeNS {
		t.Errorf("%+v", &c)
	}
}

func TestAppendQueryBuildsFromFields(t *testing.T) {
	m := question("WwW.example.org.", dns.TypeA, 4096)
	m.IsEdns0().SetDo()
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
	m.CheckingDisabled, m.Zero = true, true
	r := parsed(t, m)
	b := r.AppendQuery([]byte("before"), 77, 1232)
	if !bytes.HasPrefix(b, []byte("before")) {
		t.Fatal("what stood before is gone")
	}
	got := oracle(b[6:])
	if got == nil || got.Id != 77 || got.Zero || !got.CheckingDisabled || !got.RecursionDesired || got.Question[0].Name != "WwW.example.org." {
		t.Fatalf("%v", got)
	}
	if o := got.IsEdns0(); o == nil || o.UDPSize() != 1232 || !o.Do() || len(o.Option) != 1 {
		t.Errorf("%v", o)
	}
	r.SetName(MustName("other.example."))
	if got := oracle(r.AppendQuery(nil, 1, 0)); got.Question[0].Name != "other.example." {
		t.Errorf("%v", got.Question)
	}
}
