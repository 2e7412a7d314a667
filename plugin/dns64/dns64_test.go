package dns64

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestEmbed has the examples of RFC 6052, 2.4, and a prefix of CoreDNS's that reaches into octet 8.
func TestEmbed(t *testing.T) {
	for prefix, want := range map[string]string{
		"2001:db8::/32":            "2001:db8:c000:221::",
		"2001:db8:100::/40":        "2001:db8:1c0:2:21::",
		"2001:db8:122::/48":        "2001:db8:122:c000:2:2100::",
		"2001:db8:122:300::/56":    "2001:db8:122:3c0:0:221::",
		"2001:db8:122:344::/64":    "2001:db8:122:344:c0:2:2100::",
		"2001:db8:122:344::/96":    "2001:db8:122:344::192.0.2.33",
		"64:ff9b::/96":             "64:ff9b::192.0.2.33",
		"2001:db8:1:2:ee00::/72":   "2001:db8:1:2:eec0:2:2100::",
		"2001:db8:122:344::f/96":   "2001:db8:122:344::192.0.2.33",
		"2001:db8:1:2:aa:b00::/88": "2001:db8:1:2:aa:bc0:2:2100",
	} {
		_, network, err := net.ParseCIDR(prefix)
		if err != nil {
			t.Fatal(err)
		}
		d := DNS64{settings: settings{prefix: *network}}
		got := netip.AddrFrom16(d.embed([4]byte{192, 0, 2, 33}))
		if got != netip.MustParseAddr(want) {
			t.Errorf("%s: got %s, want %s", prefix, got, want)
		}
	}
}

func TestLines(t *testing.T) {
	for text, want := range map[string]string{
		"dns64":                  "64:ff9b::/96",
		"dns64 64:dead::1/96":    "64:dead::/96",
		"dns64 64::/96\ndns64":   "64::/96",
		"dns64 {\nallow_ipv4\n}": "64:ff9b::/96 ipv4",
		"dns64 {\nprefix 64::/32\ntranslate_all\n}":              "64::/32 all",
		"dns64 {\ntranslate_all allow_ipv4 prefix 64::/40\n}":    "64::/40 all ipv4",
		"dns64 {\nallow_ipv4\n}\ndns64 64::/96":                  "64::/96 ipv4",
		"dns64 64::/96 {\nallow_ipv4\nprefix 65::/96\nnosuch\n}": "65::/96",
		"dns64 64::/52":                      "!",
		"dns64 64::/104":                     "!",
		"dns64 64::/24":                      "!",
		"dns64 8.8.8.0/24":                   "!",
		"dns64 foobar":                       "!",
		"dns64 64::/96 65::/96":              "!",
		"dns64 foobar {\nprefix 64::/96\n}":  "!",
		"dns64 {\nprefix\n}":                 "!",
		"dns64 {\nprefix 64::/33\n}":         "!",
		"dns64 {\nprefix 64::/32 65::/32\n}": "!",
		"dns64 {\nfoobar\n}":                 "!",
		"dns64 64::/96 {\nfoobar x\n}":       "!",
	} {
		b, err := chaintest.Build(t, ". {\n"+text+"\n}", chaintest.Options{Specs: []chain.Spec{Spec}})
		if strings.HasPrefix(want, "!") {
			if err == nil {
				t.Errorf("accepted: %s", text)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for _, h := range b.Config.Blocks[0].Chain().Handlers {
			d := h.(*DNS64)
			got := d.prefix.String()
			if d.all {
				got += " all"
			}
			if d.ipv4 {
				got += " ipv4"
			}
			if got != want {
				t.Errorf("%s: got %s, want %s", text, got, want)
			}
		}
		if behind := strings.Contains(text, "nosuch"); len(b.Config.Warnings) > 0 != behind {
			t.Errorf("%s: warnings %v", text, b.Config.Warnings)
		}
	}
}

// below answers AAAA and A as the first label says.
type below struct{}

func (below) Serve(q *chain.Query) chain.Outcome {
	label := string(q.Name().Label())
	soa := &wire.SOA{MName: wire.Root, RName: wire.Root}
	q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA|wire.FlagRA)
	if q.Type == wire.TypeA {
		switch label {
		case "afails":
			return q.Fail(wire.ServFail, nil)
		case "adrops":
			return chain.Dropped
		case "atc":
			q.Reply.SetFlags(wire.FlagTC, 0)
		}
		q.Reply.AppendOwnData(wire.Answer, wire.TypeA, 1000, []byte{192, 0, 2, 33}, 4)
		q.Reply.AppendOwnData(wire.Additional, wire.TypeA, 1000, []byte{192, 0, 2, 1}, 4)
		return chain.Answered
	}
	switch label {
	case "soa":
		q.Reply.AppendSOA(wire.Authority, wire.Root, 70, soa)
	case "nx":
		q.Reply.SetRcode(wire.NXDomain)
	case "refused":
		q.Reply.SetRcode(wire.Refused)
	case "fails":
		return q.Fail(wire.ServFail, nil)
	case "has":
		q.Reply.AppendOwnData(wire.Answer, wire.TypeAAAA, 5, []byte{0: 0x20, 15: 1}, 16)
	}
	return chain.Answered
}

func TestReplies(t *testing.T) {
	specs := []chain.Spec{Spec, {Name: "below", New: func(s *chain.Setup) error { s.Handler(below{}); return nil }}}
	b := chaintest.New(t, ". {\ndns64\nbelow\n}", chaintest.Options{Specs: specs})
	b.Client = netip.MustParseAddrPort("[2001:db8::53]:5000")
	made := func(ttl, flags string) string {
		return "NOERROR" + flags + "\nan NAME " + ttl + " IN AAAA 64:ff9b::c000:221\nar NAME 1000 IN A 192.0.2.1\n"
	}
	for name, want := range map[string]string{
		"none.":    made("600", ""),
		"soa.":     made("70", ""),
		"refused.": made("600", ""),
		"atc.":     made("600", " tc"),
		"nx.":      "NXDOMAIN aa ra\n",
		"fails.":   "SERVFAIL\n",
		"afails.":  "NOERROR\n",
		"adrops.":  "SERVFAIL\n",
		"has.":     "NOERROR aa ra\nan has. 5 IN AAAA 2000::1\n",
	} {
		if got := chaintest.Text(b.Ask(name, dns.TypeAAAA)); got != strings.ReplaceAll(want, "NAME", name) {
			t.Errorf("%s: got\n%s", name, got)
		}
	}
	if n := b.Env.Metrics.Counter("coredns_dns64_requests_translated_total", "", metrics.L("server", "dns://:53")...).Value(); n != 5 {
		t.Errorf("%d translated", n)
	}
	for _, client := range []string{"192.0.2.53:5000", "[::ffff:192.0.2.53]:5000"} {
		b.Client = netip.MustParseAddrPort(client)
		if m := b.Ask("none.", dns.TypeAAAA); len(m.Answer) > 0 {
			t.Errorf("%s: got\n%s", client, m)
		}
	}
}

// TestWhatIsThereCostsNothing: a reply that has AAAA records is only looked at.
func TestWhatIsThereCostsNothing(t *testing.T) {
	specs := []chain.Spec{Spec, {Name: "below", New: func(s *chain.Setup) error { s.Handler(below{}); return nil }}}
	b := chaintest.New(t, ". {\ndns64 {\nallow_ipv4\n}\nbelow\n}", chaintest.Options{Specs: specs})
	b.ExpectNoAllocation(new(dns.Msg).SetQuestion("has.", dns.TypeAAAA))
}
