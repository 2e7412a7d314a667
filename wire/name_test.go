package wire

import (
	"hash/maphash"
	"strings"
	"testing"
)

func TestParseNameTable(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, c := range []struct {
		text, wire string
		ok         bool
	}{
		{".", "\x00", true},
		{"", "\x00", true},
		{"a", "\x01a\x00", true},
		{"A.b.", "\x01A\x01b\x00", true},
		{`a\.b.`, "\x03a.b\x00", true},
		{`\065.`, "\x01A\x00", true},
		{long + ".", "\x3f" + long + "\x00", true},
		{long + "a.", "", false},
		{strings.Repeat(long+".", 3) + strings.Repeat("a", 61), "", true},
		{strings.Repeat(long+".", 3) + strings.Repeat("a", 62), "", false},
		{"..", "", false},
		{".a", "", false},
		{"a..b", "", false},
		{`a\`, "", false},
		{`\256`, "", false},
	} {
		n, err := ParseName(c.text)
		if (err == nil) != c.ok || c.wire != "" && string(n) != c.wire {
			t.Errorf("ParseName(%q) = %q, %v", c.text, n, err)
		}
	}
	if b, err := AppendName([]byte("x"), "a..b"); err == nil || string(b) != "x" {
		t.Errorf("AppendName left %q, %v", b, err)
	}
}

func TestMustNamePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	MustName("a..b")
}

func TestNameParts(t *testing.T) {
	n := MustName("www.Example.org.")
	if n.Labels() != 3 || string(n.Label()) != "www" || n.Parent().String() != "Example.org." || n.Parent().Parent().Parent().String() != "." {
		t.Errorf("%d %q %s", n.Labels(), n.Label(), n.Parent())
	}
	if Root.Label() != nil || Root.Parent().String() != "." || Root.Labels() != 0 || Name(nil).Labels() != 0 || Name(nil).String() != "." {
		t.Error("the root's parts")
	}
	if got := Lower(nil, n); Name(got).String() != "www.example.org." || !Equal(n, got) || Equal(n, MustName("www.example.com.")) {
		t.Errorf("Lower gives %q", got)
	}
	seed := maphash.MakeSeed()
	if MustName("a.b.").Hash(seed) != MustName("a.b.").Hash(seed) || MustName("a.b.").Hash(seed) == MustName("a.c.").Hash(seed) {
		t.Error("hashes")
	}
}

func TestUnderIsByLabel(t *testing.T) {
	for _, c := range []struct {
		name, zone string
		want       bool
	}{
		{"a.example.org", "example.org", true},
		{"example.org", "EXAMPLE.ORG", true},
		{"example.org", ".", true},
		{".", ".", true},
		{".", "org", false},
		{"notexample.org", "example.org", false},
		{"org", "example.org", false},
		{`a\003org`, "org", false},
		{`\003org.x`, "org.x", false},
	} {
		if got := MustName(c.name).Under(MustName(c.zone)); got != c.want {
			t.Errorf("%s under %s: %v", c.name, c.zone, got)
		}
	}
}
