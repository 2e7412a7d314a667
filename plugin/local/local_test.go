package local

import (
	"testing"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/wire"
)

var after = chain.Spec{Name: "after", New: func(s *chain.Setup) error {
	s.Handler(refuse{})
	return nil
}}

type refuse struct{}

func (refuse) Serve(q *chain.Query) chain.Outcome { return q.Fail(wire.Refused, nil) }

const soa = "604800 IN SOA localhost. root.localhost. 1 0 0 0 604800\n"

func TestLocal(t *testing.T) {
	opt := chaintest.Options{Specs: []chain.Spec{Spec, after}}
	on := chaintest.New(t, ". {\nlocal\nafter\n}", opt)
	off := chaintest.New(t, ". {\nlocal {\nlocalhost_prefix off\n}\nafter\n}", opt)
	for _, c := range []struct {
		b     *chaintest.Bench
		name  string
		qtype uint16
		want  string
	}{
		{on, "localhost.", dns.TypeA, "NOERROR\nan localhost. 604800 IN A 127.0.0.1\n"},
		{on, "LocalHost.", dns.TypeAAAA, "NOERROR\nan localhost. 604800 IN AAAA ::1\n"},
		{on, "localhost.", dns.TypeSOA, "NOERROR\nan localhost. " + soa},
		{on, "localhost.", dns.TypeNS, "NOERROR\nan localhost. 604800 IN NS localhost.\n"},
		{on, "localhost.", dns.TypeMX, "NOERROR\nns localhost. " + soa},
		{on, "foo.localhost.", dns.TypeA, "NOERROR\nan foo.localhost. 604800 IN A 127.0.0.1\n"},
		{on, "foo.localhost.", dns.TypeTXT, "NOERROR\nns foo.localhost. " + soa},
		{on, "localhost.example.org.", dns.TypeAAAA, "NOERROR\nan localhost.example.org. 604800 IN AAAA ::1\n"},
		{off, "localhost.example.org.", dns.TypeA, "REFUSED\n"},
		{off, "foo.localhost.", dns.TypeA, "NOERROR\nan foo.localhost. 604800 IN A 127.0.0.1\n"},
		{on, "localhosts.example.org.", dns.TypeA, "REFUSED\n"},
		{on, "mylocalhost.", dns.TypeA, "REFUSED\n"},
		{on, "127.in-addr.arpa.", dns.TypeA, "NOERROR\nns 127.in-addr.arpa. " + soa},
		{on, "0.in-addr.arpa.", dns.TypeNS, "NOERROR\nan 0.in-addr.arpa. 604800 IN NS localhost.\n"},
		{on, "255.in-addr.arpa.", dns.TypePTR, "NOERROR\nns 255.in-addr.arpa. " + soa},
		{on, "1.0.0.127.in-addr.arpa.", dns.TypePTR, "NOERROR\nan 1.0.0.127.in-addr.arpa. 604800 IN PTR localhost.\n"},
		{on, "1.0.0.127.in-addr.arpa.", dns.TypeA, "NOERROR\nns 127.in-addr.arpa. " + soa},
		{on, "2.0.0.127.in-addr.arpa.", dns.TypePTR, "NXDOMAIN\nns 127.in-addr.arpa. " + soa},
		{on, "126.in-addr.arpa.", dns.TypePTR, "REFUSED\n"},
	} {
		if got := chaintest.Text(c.b.Ask(c.name, c.qtype)); got != c.want {
			t.Errorf("%s %s:\n%swant\n%s", c.name, dns.TypeToString[c.qtype], got, c.want)
		}
	}
	if n := on.Env.Metrics.Counter("coredns_local_localhost_requests_total", "").Value(); n != 3 {
		t.Errorf("%d counted, want 3", n)
	}
	for _, text := range []string{"local a", "local {\nlocalhost_prefix\n}", "local {\nlocalhost_prefix yes\n}", "local {\nprefix on\n}"} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", opt); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
}
