package bind

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
)

func bound(b *chaintest.Bench) (all []string) {
	for _, a := range b.Config.Blocks[0].Bind {
		all = append(all, a.Addr)
	}
	return all
}

func TestBind(t *testing.T) {
	opt := chaintest.Options{Specs: []chain.Spec{Spec}}
	for text, want := range map[string]string{
		"bind 127.0.0.1":                                  "127.0.0.1",
		"bind 127.0.0.1 ::1\nbind 10.0.0.1":               "127.0.0.1 ::1 10.0.0.1",
		"bind 10.0.0.1 10.0.0.2 {\nexcept 10.0.0.1\n}":    "10.0.0.2",
		"bind 10.0.0.1 {\nexcept 10.0.0.1\n}":             "",
		"bind 10.0.0.1 {\nexcept 10.0.0.2\n}\nbind ::":    "10.0.0.1 ::",
		"bind 127.0.0.1 127.0.0.9 {\nexcept lo\n}":        "127.0.0.9",
		"bind 10.0.0.2 {\nexcept ::1\nexcept 10.0.0.2\n}": "",
	} {
		b := chaintest.New(t, ". {\n"+text+"\n}", opt)
		if got := strings.Join(bound(b), " "); got != want || b.Config.Blocks[0].Bind == nil {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
		if (want == "") != (len(b.Config.Warnings) == 1) {
			t.Errorf("%q: warnings %v", text, b.Config.Warnings)
		}
	}
	if got := bound(chaintest.New(t, ". {\nbind lo\n}", opt)); !slices.Contains(got, "127.0.0.1") {
		t.Errorf("bind lo: %v", got)
	}
	for _, text := range []string{"bind", "bind eth99", "bind 10.0.0.300", "bind fe80::1%lo", "bind lo {\nexcept\n}", "bind lo {\nexcept x\n}", "bind lo {\nbut ::1\n}"} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", opt); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
}

func TestLinkLocalAddressesHaveTheirInterface(t *testing.T) {
	got := addresses([]net.Addr{
		&net.IPNet{IP: net.ParseIP("fe80::1"), Mask: net.CIDRMask(64, 128)},
		&net.IPNet{IP: net.ParseIP("2001:db8::1"), Mask: net.CIDRMask(64, 128)},
		&net.IPNet{IP: net.ParseIP("169.254.20.10"), Mask: net.CIDRMask(32, 32)},
	}, "eth7")
	if want := []string{"fe80::1%eth7", "2001:db8::1", "169.254.20.10"}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}
