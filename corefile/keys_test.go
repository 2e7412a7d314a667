package corefile

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func wordsOf(texts ...string) []Word {
	source := &Source{Name: "Corefile"}
	words := make([]Word, len(texts))
	for i, text := range texts {
		words[i] = Word{Text: text, Pos: Pos{Source: source, Line: 1, Col: 1 + i}}
	}
	return words
}

func TestKeys(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
	}{
		{".", []string{"dns://.:1053"}},
		{".:53", []string{"dns://.:53"}},
		{"Example.ORG", []string{"dns://example.org.:1053"}},
		{"example.org.:5300", []string{"dns://example.org.:5300"}},
		{"example.org:053", []string{"dns://example.org.:53"}},
		{"example.org:+53", []string{"dns://example.org.:53"}},
		{"example.org:0", []string{"dns://example.org.:0"}},
		{"dns://example.org", []string{"dns://example.org.:1053"}},
		{"dns://.:54", []string{"dns://.:54"}},
		{"tls://example.org", []string{"tls://example.org.:853"}},
		{"tls://.:5553", []string{"tls://.:5553"}},
		{"quic://.", []string{"quic://.:853"}},
		{"grpc://.", []string{"grpc://.:443"}},
		{"https://.", []string{"https://.:443"}},
		{"https3://.", []string{"https3://.:443"}},
		{"unix://.", []string{"unix://.:"}},
		{"TLS://example.org", []string{"dns://tls://example.org.:1053"}},
		{"ftp://example.org", []string{"dns://ftp://example.org.:1053"}},
		{"example.org:domain", []string{"dns://example.org:domain.:1053"}},
		{"example.org:53:54", []string{"dns://example.org:53.:54"}},
		{"bücher.example", []string{"dns://bücher.example.:1053"}},
		{"BÜCHER.example", []string{"dns://bücher.example.:1053"}},
		{`a\.b`, []string{`dns://a\.b.:1053`}},
		{`a\.`, []string{`dns://a\..:1053`}},
		{"10.0.0.0/8", []string{"dns://10.in-addr.arpa.:1053"}},
		{"10.1.2.3/8:55", []string{"dns://10.in-addr.arpa.:55"}},
		{"192.0.2.0/24", []string{"dns://2.0.192.in-addr.arpa.:1053"}},
		{"192.0.2.7/32", []string{"dns://7.2.0.192.in-addr.arpa.:1053"}},
		{"0.0.0.0/0", []string{"dns://in-addr.arpa.:1053"}},
		{"192.0.2.4/31", []string{"dns://4.2.0.192.in-addr.arpa.:1053", "dns://5.2.0.192.in-addr.arpa.:1053"}},
		{"172.16.0.0/14", []string{"dns://16.172.in-addr.arpa.:1053", "dns://17.172.in-addr.arpa.:1053", "dns://18.172.in-addr.arpa.:1053", "dns://19.172.in-addr.arpa.:1053"}},
		{"2001:db8::/32", []string{"dns://8.b.d.0.1.0.0.2.ip6.arpa.:1053"}},
		{"2001:db8::/31:54", []string{"dns://8.b.d.0.1.0.0.2.ip6.arpa.:54", "dns://9.b.d.0.1.0.0.2.ip6.arpa.:54"}},
		{"2001:DB8::/32", []string{"dns://8.b.d.0.1.0.0.2.ip6.arpa.:1053"}},
		{"10.0.0.0/33", []string{"dns://10.0.0.0/33.:1053"}},
		{"10.0.0.0", []string{"dns://10.0.0.0.:1053"}},
		{"{}", []string{"dns://{}.:1053"}},
		{"a b", []string{"dns://a b.:1053"}},
	} {
		keys, err := Keys(wordsOf(c.in), "1053")
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		var got []string
		for _, k := range keys {
			got = append(got, k.String())
			if k.Text != c.in || k.Pos.Line != 1 {
				t.Errorf("%q: text %q at %v", c.in, k.Text, k.Pos)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestKeysRefused(t *testing.T) {
	for _, in := range []string{
		"", ":", ":53", "example.org:", "tls://", "tls://:853", "..", "a..b", ".a", "a..", "example.org:70000", "example.org:-1",
		`a\`, strings.Repeat("a", 64), strings.Repeat("a.", 130), strings.Repeat("a.", 127) + "aa", "::/0", "0::/4", "::1/128", "example.org:53:",
	} {
		keys, err := Keys(wordsOf("ok.example", in), "53")
		if err == nil {
			t.Errorf("%q: accepted as %v", in, keys)
			continue
		}
		if e, ok := err.(*Error); !ok || e.Pos.Col != 2 {
			t.Errorf("%q: error without its place: %v", in, err)
		}
	}
}

func TestZones(t *testing.T) {
	fallback := []string{"dns://example.org.:53", "Example.COM", ""}
	zones, skipped := Zones(nil, fallback)
	if want := []string{"example.org.", "example.com.", ""}; !slices.Equal(zones, want) || skipped != nil {
		t.Errorf("without arguments: %q, %v; want %q", zones, skipped, want)
	}
	if fallback[1] != "Example.COM" {
		t.Error("the fallback was changed")
	}
	zones, skipped = Zones(wordsOf("EXAMPLE.net:53", "a..b", "tls://10.0.0.0/15", "."), fallback)
	if want := []string{"example.net.", "0.10.in-addr.arpa.", "1.10.in-addr.arpa.", "."}; !slices.Equal(zones, want) {
		t.Errorf("with arguments: %q, want %q", zones, want)
	}
	if len(skipped) != 1 || skipped[0].Pos.Col != 2 {
		t.Errorf("skipped: %v", skipped)
	}
	if zones, skipped = Zones(wordsOf("a..b"), fallback); len(zones) != 0 || len(skipped) != 1 {
		t.Errorf("no valid argument: %q, %v", zones, skipped)
	}
}

func TestHost(t *testing.T) {
	for in, want := range map[string][]string{
		"Example.ORG": {"example.org."}, "tls://a:853": {"a."}, "unix:///run/a.sock": {"/run/a.sock."},
		"": nil, "a..b": nil, "10.0.0.0/8": {"10.in-addr.arpa."},
	} {
		if got := Host(in); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestReverseZones checks that every network's zones are where the addresses of that network are.
func TestReverseZones(t *testing.T) {
	for _, base := range []string{"203.119.170.213", "255.255.255.255", "2001:db8:1234:5678:9abc:def0:8765:4321", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
		ip := net.ParseIP(base)
		bits := 128
		if v4 := ip.To4(); v4 != nil {
			ip, bits = v4, 32
		}
		for ones := 0; ones <= bits; ones++ {
			network := &net.IPNet{IP: ip.Mask(net.CIDRMask(ones, bits)), Mask: net.CIDRMask(ones, bits)}
			zones := reverseZones(network)
			for _, inside := range []net.IP{network.IP, ip} {
				arpa, err := dns.ReverseAddr(inside.String())
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				for _, z := range zones {
					if dns.IsSubDomain(z, arpa) {
						n++
					}
				}
				if n != 1 {
					t.Errorf("%v: %d of %d zones hold %s", network, n, len(zones), arpa)
				}
			}
		}
	}
}

// FuzzName compares the two routines for names with miekg/dns, whose verdict CoreDNS takes.
func FuzzName(f *testing.F) {
	for _, s := range []string{"", ".", "a", "a.", "..", `a\.`, `a\\.`, `a\\\.`, `\`, `\046`, `\999.b`, `\04`, `a\`, strings.Repeat("a", 63), strings.Repeat(`\001`, 64), "ä.b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := fqdn(s), dns.Fqdn(s); got != want {
			t.Fatalf("fqdn(%q) is %q, want %q", s, got, want)
		}
		if len(s) > 255 { // splitZone asks for no longer ones
			return
		}
		if _, want := dns.IsDomainName(s); validName(s) != want {
			t.Fatalf("validName(%q) is %v", s, !want)
		}
	})
}
