package whoami

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhoami(t *testing.T) {
	opt := chaintest.Options{Specs: []chain.Spec{Spec}}
	b := chaintest.New(t, ". {\nwhoami\n}", opt)
	long := strings.Repeat("a123456789012345678901234567890123456789012345678901234567890.", 4) + "abc."
	for _, c := range []struct {
		name, client string
		proto        chain.Proto
		want         string
	}{
		{"example.org.", "192.0.2.7:4242", chain.UDP, "NOERROR aa\nar example.org. 0 IN A 192.0.2.7\nar _udp.example.org. 0 IN SRV 0 0 4242 .\n"},
		{".", "192.0.2.7:1", chain.TLS, "NOERROR aa\nar . 0 IN A 192.0.2.7\nar _tcp. 0 IN SRV 0 0 1 .\n"},
		{"a.", "[2001:db8::7]:53", chain.TCP, "NOERROR aa\nar a. 0 IN AAAA 2001:db8::7\nar _tcp.a. 0 IN SRV 0 0 53 .\n"},
		{long, "192.0.2.7:1", chain.UDP, "NOERROR aa\nar " + long + " 0 IN A 192.0.2.7\n"}, // no room for another label
	} {
		m := b.Do(chaintest.Query{Msg: new(dns.Msg).SetQuestion(c.name, dns.TypeTXT), Client: netip.MustParseAddrPort(c.client), Proto: c.proto})
		if got := chaintest.Text(m); got != c.want {
			t.Errorf("%s from %s:\n%swant\n%s", c.name, c.client, got, c.want)
		}
	}
	for _, text := range []string{"whoami x", "whoami {\n}"} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", opt); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
}

func TestNothingAllocates(t *testing.T) {
	b := chaintest.New(t, ". {\nwhoami\n}", chaintest.Options{Specs: []chain.Spec{Spec}})
	b.ExpectNoAllocation(new(dns.Msg).SetQuestion("example.org.", dns.TypeA))
}
