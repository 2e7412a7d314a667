package wire

import (
	"testing"

	"github.com/miekg/dns"
)

func TestMnemonicsAreTheOracles(t *testing.T) {
	for i := range 1 << 16 {
		typ := Type(i)
		if want := dns.Type(i).String(); typ.String() != want {
			t.Errorf("type %d is %q, want %q", i, typ, want)
		}
		if back, ok := ParseType(typ.String()); !ok || back != typ {
			t.Errorf("ParseType(%q) = %d, %v", typ, back, ok)
		}
		if want := dns.Class(i).String(); Class(i).String() != want {
			t.Errorf("class %d is %q, want %q", i, Class(i), want)
		}
	}
}

func TestRcodes(t *testing.T) {
	for code, name := range dns.RcodeToString {
		if code == dns.RcodeBadVers { // shares its number with BADSIG
			name = "BADVERS"
		}
		label := name
		if code == dns.RcodeBadVers {
			label = "BADSIG"
		}
		if Rcode(code).String() != name || Rcode(code).Label() != label {
			t.Errorf("rcode %d is %q, want %q; its label is %q, want %q", code, Rcode(code), name, Rcode(code).Label(), label)
		}
		if back, ok := ParseRcode(name); !ok || int(back) != code {
			t.Errorf("ParseRcode(%q) = %d, %v", name, back, ok)
		}
	}
	if Rcode(4000).String() != "RCODE4000" || Rcode(4000).Label() != "4000" {
		t.Errorf("%q %q", Rcode(4000), Rcode(4000).Label())
	}
	for _, s := range []string{"", "TYPE", "TYPE65536", "a", "TYPE-1"} {
		if v, ok := ParseType(s); ok {
			t.Errorf("ParseType(%q) = %d", s, v)
		}
	}
	for name, class := range dns.StringToClass {
		if c, ok := ParseClass(name); !ok || uint16(c) != class {
			t.Errorf("%s is %d", name, c)
		}
	}
	if _, ok := ParseClass("CLASS7"); ok {
		t.Error("CLASS7 has no mnemonic")
	}
}
