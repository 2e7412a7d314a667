package kubernetes

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/wire"
)

// FuzzParseDashed compares with Go's own reader of addresses.
func FuzzParseDashed(f *testing.F) {
	for _, s := range []string{"1-2-3-4", "01-2-3-4", "fd00--1", "--", "--1", "1--", "1-2-3-4-5-6-7-8", "1--2--3", "-", "", "--ffff-1-2", "1-2-3-4-5-6-7--"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 63 || strings.ToLower(s) != s || strings.ContainsAny(s, ".:%") {
			return
		}
		text := strings.ReplaceAll(s, "-", ":")
		if strings.Count(s, "-") == 3 && !strings.Contains(s, "--") {
			text = strings.ReplaceAll(s, "-", ".")
		}
		want := net.ParseIP(text)
		got, ok := parseDashed([]byte(s))
		if ok != (want != nil) {
			t.Fatalf("%q: %v, want %v", s, ok, want)
		}
		if a, _ := netip.AddrFromSlice(want); ok && a.Unmap() != got {
			t.Fatalf("%q: %v, want %v", s, got, want)
		}
	})
}

// FuzzReverse holds that every address is read from its reverse name, and nothing else is.
func FuzzReverse(f *testing.F) {
	f.Add([]byte{10, 0, 0, 1}, "4.3.2.1.in-addr.arpa.")
	f.Add(make([]byte, 16), "1.0.0.127.in-addr.arpa.")
	f.Fuzz(func(t *testing.T, b []byte, text string) {
		if a, ok := netip.AddrFromSlice(b); ok {
			name, err := dns.ReverseAddr(a.String())
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := reverseAddr(wire.MustName(name)); !ok || got != a.Unmap() {
				t.Fatalf("%s: %v %v, want %v", name, got, ok, a)
			}
		}
		name, err := wire.ParseName(text)
		if err != nil {
			return
		}
		wire.ToLower(name)
		if a, ok := reverseAddr(name); ok {
			back, _ := dns.ReverseAddr(a.String())
			mapped, _ := dns.ReverseAddr("::ffff:" + a.String())
			if name.String() != back && (!a.Is4() || name.String() != mapped) {
				t.Fatalf("%s was read as %v", name, a)
			}
		}
	})
}

// FuzzQuestion holds that taking a name apart stays within it, whatever it is.
func FuzzQuestion(f *testing.F) {
	f.Add("a.b.pin._zone.db.default.svc.cluster.local.")
	f.Add("_http._tcp.web.default.svc.cluster.local.")
	f.Add("cluster.local.")
	f.Fuzz(func(t *testing.T, text string) {
		name, err := wire.ParseName(text)
		if err != nil {
			return
		}
		wire.ToLower(name)
		for _, z := range []*zone{{name: wire.MustName("cluster.local.")}, {name: wire.MustName(".")}, {name: wire.MustName("local."), imported: true}} {
			if !name.Under(z.name) {
				continue
			}
			var p question
			if !p.parse(name, z, true) || p.part == partNone {
				continue
			}
			if p.part == partService && len(p.service) > 0 && !strings.Contains(string(name), string(p.service)+string(rune(len(p.namespace)))+string(p.namespace)) {
				t.Fatalf("%s: service %q in %q", name, p.service, p.namespace)
			}
		}
	})
}
