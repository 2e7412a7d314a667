package searchpath_test

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/plugin/searchpath"
	"github.com/godwit-dns/godwit/wire"
)

// still answers without allocating: three names exist.
type still struct{ root wire.Name }

func (s *still) Serve(q *chain.Query) chain.Outcome {
	switch string(q.Name()) {
	case "\x03www\x07example\x00", "\x02db\x04shop\x03svc\x07cluster\x05local\x00":
		q.Reply.Begin(&q.Request, wire.NoError, 0)
		size := 4
		if q.Type == wire.TypeAAAA {
			size = 16
		}
		q.Reply.AppendOwnData(wire.Answer, q.Type, 30, []byte("0123456789abcdef")[:size], size)
	default:
		q.Reply.Begin(&q.Request, wire.NXDomain, 0)
		q.Reply.AppendSOA(wire.Authority, s.root, 5, soa)
	}
	return chain.Answered
}

// stillBench is a server for one pod, with the walk for www.example seen.
func stillBench(tb testing.TB) *chaintest.Bench {
	s := &still{root: wire.Root}
	spec := chain.Spec{Name: "still", Usage: "still", New: func(x *chain.Setup) error { x.Handler(s); return nil }}
	p := pod{netip.MustParseAddrPort("10.240.0.1:40212"), // who asks for allocations and time
		conf{search: []string{"shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"}, ndots: 5}}
	b := chaintest.New(tb, "cluster.local {\n"+lineFor(tb, []pod{p})+"\nstill\n}\n. {\nstill\n}\n",
		chaintest.Options{Specs: []chain.Spec{searchpath.Spec, spec}})
	b.Start()
	n := &node{t: tb, Bench: b}
	for range 2 {
		glibc("www.example", both, p.conf, n.from(p))
	}
	if n.asked != 10+2 {
		tb.Fatalf("two lookups took %d questions", n.asked)
	}
	return b
}

func TestNothingIsAllocated(t *testing.T) {
	b := stillBench(t)
	for _, name := range []string{"www.example.shop.svc.cluster.local.", "db.shop.svc.cluster.local.", "none.shop.svc.cluster.local."} {
		for _, typ := range both {
			b.ExpectNoAllocation(new(dns.Msg).SetQuestion(name, typ))
		}
	}
}

func BenchmarkCompleted(b *testing.B) {
	stillBench(b).Measure(b, new(dns.Msg).SetQuestion("www.example.shop.svc.cluster.local.", dns.TypeA))
}

func BenchmarkExisting(b *testing.B) {
	stillBench(b).Measure(b, new(dns.Msg).SetQuestion("db.shop.svc.cluster.local.", dns.TypeA))
}
