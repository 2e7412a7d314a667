package kubernetes

import (
	"testing"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// BenchmarkServe is the directive alone, without gate, routing and sending.
func BenchmarkServe(b *testing.B) {
	x, k := bench(b, "pods verified", many("fifty", 50))
	ptr, _ := dns.ReverseAddr("10.130.0.7")
	for _, c := range []struct {
		name  string
		qtype uint16
	}{
		{"web.default.svc.cluster.local.", dns.TypeA},
		{"web.default.svc.cluster.local.", dns.TypeAAAA},
		{"www.example.com.default.svc.cluster.local.", dns.TypeA},
		{"www.example.com.svc.cluster.local.", dns.TypeA},
		{"www.example.com.", dns.TypeA},
		{"_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV},
		{"fifty.default.svc.cluster.local.", dns.TypeA},
		{"10-130-0-7.fifty.default.svc.cluster.local.", dns.TypeA},
		{ptr, dns.TypePTR},
	} {
		b.Run(c.name+"/"+dns.TypeToString[c.qtype], func(b *testing.B) {
			m := new(dns.Msg)
			m.SetQuestion(c.name, c.qtype)
			packet, err := m.Pack()
			if err != nil {
				b.Fatal(err)
			}
			q := x.Worker.Get()
			if q.Parse(packet) != wire.Accepted {
				b.Fatal("not accepted")
			}
			b.ReportAllocs()
			for b.Loop() {
				if out := k.Serve(q); out != chain.Answered && out != chain.Next {
					b.Fatal(out)
				}
			}
		})
	}
}
