package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/plugin"
	"github.com/godwit-dns/godwit/run"
	dnsserver "github.com/godwit-dns/godwit/server"
	"github.com/godwit-dns/godwit/wire"
)

// walker takes packets through a Corefile's chain to their finished answers: all of a query but the system calls.
type walker struct {
	w       *chain.Worker
	table   *dnsserver.Table
	fitter  wire.Fitter
	out     []byte
	packets [][]byte
	next    int
	stop    func() // ends what runs beside the walks; once
}

// batchSize is how many packets share a reading of the clock, as under load.
const batchSize = 16

func newWalker(tb testing.TB, text string, questions []question, edns bool) *walker {
	tb.Helper()
	clock := loop.System()
	l, err := loop.New(0, clock)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(l.Close)
	w := &walker{w: chain.NewWorker(l, 1), out: make([]byte, 0, 64<<10)}
	env := &chain.Env{Log: slog.New(slog.DiscardHandler), Metrics: metrics.New(1), Loops: 1, Clock: clock, Wall: time.Now,
		Files: corefile.OS(), Env: os.LookupEnv, Reload: func() {}, Fatal: func(err error) { tb.Error(err) },
		Print: func(int, []byte) {}, Loop: func(int) *chain.Worker { return w.w }}
	built, err := run.Build(env, plugin.All(), "53", "Corefile", []byte(text), func(*chain.Query) {})
	if err != nil {
		tb.Fatal(err)
	}
	w.table = built.Tables[built.Specs[0].Key()]
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{}, len(built.Config.Tasks))
	for _, task := range built.Config.Tasks {
		go func() {
			_ = task(ctx) // ends with the test
			ended <- struct{}{}
		}()
	}
	w.stop = sync.OnceFunc(func() {
		stop()
		for range built.Config.Tasks {
			<-ended
		}
	})
	tb.Cleanup(w.stop)
	for _, q := range questions {
		m := new(dns.Msg).SetQuestion(q.name, q.typ)
		if edns {
			m.SetEdns0(4096, false)
		}
		b, err := m.Pack()
		if err != nil {
			tb.Fatal(err)
		}
		w.packets = append(w.packets, b)
	}
	return w
}

// step walks one packet.
func (w *walker) step() {
	if w.next%batchSize == 0 {
		w.w.EndBatch()
		w.w.Loop.Tick()
		w.w.BeginBatch()
	}
	q := w.w.Get()
	q.Parse(w.packets[w.next%len(w.packets)])
	q.Client, q.Local, q.Proto, q.Start = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 5353),
		netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53), chain.UDP, w.w.Loop.Now()
	w.next++
	w.w.Start(q, w.table, w)
}

// Finish fits the answer, as a socket's does.
func (w *walker) Finish(q *chain.Query, out chain.Outcome) {
	if dnsserver.Complete(q, out) {
		w.out = w.fitter.Append(w.out[:0], &q.Reply, &q.Request, q.Limit(), 0)
	}
}

// until walks the first packet until its answer is what it should be.
func (w *walker) until(tb testing.TB, code wire.Rcode, records int) {
	tb.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		w.next = 0
		w.step()
		if len(w.out) > 12 && wire.Rcode(w.out[3]&0xF) == code && bigEndian(w.out[6:]) == records {
			w.stop() // readers of manifests would be measured too
			return
		}
	}
	tb.Fatalf("the answer has not become code %d with %d records: %.64x", code, records, w.out)
}

func (w *walker) bench(b *testing.B) {
	for range 2 * len(w.packets) {
		w.step()
	}
	b.ReportAllocs()
	for b.Loop() {
		w.step()
	}
}

func hitWalker(tb testing.TB, edns bool) *walker {
	var hosts strings.Builder
	questions := numbered(1000, "hit.example.", dns.TypeA)
	for i := range questions {
		fmt.Fprintf(&hosts, "10.0.%d.%d host-%d.hit.example\n", i>>8, i&255, i)
	}
	w := newWalker(tb, ".:53 {\nerrors\nprometheus 127.0.0.1:0\ncache 3600\nhosts {\n"+hosts.String()+"}\n}\n", questions, edns)
	w.until(tb, wire.NoError, 1)
	return w
}

func clusterWalker(tb testing.TB, questions []question, code wire.Rcode, records int) *walker {
	var b bytes.Buffer
	for i := range 1000 {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Service\nmetadata: {name: service-%d, namespace: shop}\n"+
			"spec: {clusterIP: 10.96.%d.%d, ports: [{name: http, port: 80, protocol: TCP}]}\n", i, i>>8, i&255)
	}
	for name, n := range map[string]int{"few": 5, "wide": 500} {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: shop}\nspec: {clusterIP: None, ports: [{name: http, port: 80}]}\n"+
			"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n"+
			"metadata: {name: %s-1, namespace: shop, labels: {kubernetes.io/service-name: %s}}\nports: [{name: http, port: 80, protocol: TCP}]\nendpoints:\n", name, name, name)
		for i := range n {
			fmt.Fprintf(&b, "- {addresses: [10.128.%d.%d], conditions: {ready: true}}\n", i>>8, i&255)
		}
	}
	b.WriteString("---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n")
	path := filepath.Join(tb.TempDir(), "cluster.yaml")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		tb.Fatal(err)
	}
	w := newWalker(tb, `.:53 {
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        manifests `+path+`
        pods insecure
        ttl 30
    }
    prometheus 127.0.0.1:0
    cache 30 {
        disable success cluster.local
        disable denial cluster.local
    }
    loadbalance
}
`, questions, strings.HasPrefix(questions[0].name, "wide"))
	w.until(tb, code, records)
	return w
}

func serviceName(i int) string { return fmt.Sprintf("service-%d.shop.svc.cluster.local.", i) }

func BenchmarkHit(b *testing.B)     { hitWalker(b, false).bench(b) }
func BenchmarkHitEDNS(b *testing.B) { hitWalker(b, true).bench(b) }

func BenchmarkClusterIP(b *testing.B) {
	clusterWalker(b, spread(1000, 1000, dns.TypeA, serviceName), wire.NoError, 1).bench(b)
}

func BenchmarkSearchPath(b *testing.B) {
	clusterWalker(b, spread(1000, 1000, dns.TypeA, func(i int) string { return fmt.Sprintf("www.example%d.com.shop.svc.cluster.local.", i) }),
		wire.NXDomain, 0).bench(b)
}

func BenchmarkSRV(b *testing.B) {
	clusterWalker(b, spread(1000, 1000, dns.TypeSRV, func(i int) string { return "_http._tcp." + serviceName(i) }), wire.NoError, 1).bench(b)
}

func BenchmarkPTR(b *testing.B) {
	clusterWalker(b, spread(1000, 1000, dns.TypePTR, func(i int) string {
		return fmt.Sprintf("%d.%d.96.10.in-addr.arpa.", i&255, i>>8)
	}), wire.NoError, 1).bench(b)
}

func BenchmarkHeadless5(b *testing.B) {
	clusterWalker(b, []question{{"few.shop.svc.cluster.local.", dns.TypeA}}, wire.NoError, 5).bench(b)
}

// BenchmarkHeadless500 asks for an answer that has to be cut.
func BenchmarkHeadless500(b *testing.B) {
	w := clusterWalker(b, []question{{"wide.shop.svc.cluster.local.", dns.TypeA}}, wire.NoError, 252)
	w.bench(b)
}

// zoneWalker asks a zone of 100,000 names.
func zoneWalker(tb testing.TB, questions []question, code wire.Rcode, records int) *walker {
	path := filepath.Join(tb.TempDir(), "zone")
	if err := writeZone(path, 100000); err != nil {
		tb.Fatal(err)
	}
	w := newWalker(tb, "large.example:53 {\nerrors\nprometheus 127.0.0.1:0\nfile "+path+"\n}\n", questions, false)
	w.until(tb, code, records)
	return w
}

func missing(i int) string { return fmt.Sprintf("none-%d.large.example.", i) }

func BenchmarkZone(b *testing.B) {
	zoneWalker(b, numbered(100000, "large.example.", dns.TypeA), wire.NoError, 1).bench(b)
}

func BenchmarkZoneMissing(b *testing.B) {
	zoneWalker(b, spread(10000, 10000, dns.TypeA, missing), wire.NXDomain, 0).bench(b)
}

// BenchmarkRuler is the least that the same answers take: a copy and a few octets.
func BenchmarkRuler(b *testing.B) {
	packet, out := make([]byte, 40), make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		out = append(out[:0], packet...)
		out[2] |= 0x84
		out = append(out, 0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 1, 0, 1)
	}
}

// TestWalksAllocateNothing holds the answers that make up a cluster's traffic to no allocation, metrics included.
func TestWalksAllocateNothing(t *testing.T) {
	for name, w := range map[string]*walker{
		"hit":         hitWalker(t, true),
		"ClusterIP":   clusterWalker(t, spread(100, 1000, dns.TypeA, serviceName), wire.NoError, 1),
		"AAAA":        clusterWalker(t, spread(100, 1000, dns.TypeAAAA, serviceName), wire.NoError, 0),
		"search path": clusterWalker(t, []question{{"www.example.com.shop.svc.cluster.local.", dns.TypeA}}, wire.NXDomain, 0),
		"SRV":         clusterWalker(t, spread(100, 1000, dns.TypeSRV, func(i int) string { return "_http._tcp." + serviceName(i) }), wire.NoError, 1),
		"headless":    clusterWalker(t, []question{{"wide.shop.svc.cluster.local.", dns.TypeA}}, wire.NoError, 252),
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 * len(w.packets) {
				w.step()
			}
			if n := testing.AllocsPerRun(1000, w.step); n > 0 {
				t.Errorf("%v allocations a query", n)
			}
		})
	}
}
