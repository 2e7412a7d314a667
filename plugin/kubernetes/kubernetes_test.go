package kubernetes

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/wire"
)

// outer stands for the rest of a Corefile: it knows www.example.org and what falls through.
type outer struct{}

func (outer) Serve(q *chain.Query) chain.Outcome {
	switch q.Name().String() {
	case "www.example.org.":
		q.Reply.Begin(&q.Request, wire.NoError, 0)
		if q.Type == wire.TypeA {
			q.Reply.Append(wire.Answer, q.Name(), wire.TypeCNAME, wire.ClassIN, 60, wire.MustName("cdn.example.org."))
			q.Reply.Append(wire.Answer, wire.MustName("cdn.example.org."), wire.TypeA, wire.ClassIN, 60, []byte{192, 0, 2, 80})
		}
		return chain.Answered
	case "none.example.org.":
		q.Reply.Begin(&q.Request, wire.NXDomain, 0)
		return chain.Answered
	case "dropped.example.org.":
		return chain.Dropped
	case "cut.example.org.":
		q.Reply.Begin(&q.Request, wire.NoError, wire.FlagTC)
		return chain.Answered
	case "fallen.default.svc.cluster.local.":
		q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA)
		q.Reply.AppendOwnData(wire.Answer, wire.TypeA, 9, []byte{192, 0, 2, 9}, 4)
		return chain.Answered
	}
	return chain.Next
}

var outerSpec = chain.Spec{Name: "outer", New: func(s *chain.Setup) error { s.Handler(outer{}); return nil }}

var testSpecs = []chain.Spec{Spec, outerSpec}

// bench starts the directive on manifests of its own: testdata/cluster.yaml and more.
func bench(t testing.TB, options, more string) (*chaintest.Bench, *Kubernetes) {
	t.Helper()
	dir := t.TempDir()
	b, err := os.ReadFile("testdata/cluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/cluster.yaml", string(b))
	write(t, dir+"/more.yaml", more)
	text := ".:53 {\n kubernetes cluster.local 10.in-addr.arpa ip6.arpa {\n manifests " + dir + "\n" + options + "\n }\n outer\n}\n"
	x := chaintest.New(t, text, chaintest.Options{Specs: testSpecs})
	x.Start()
	k := handlerOf(x)
	x.Until("sync", k.cluster.Synced)
	return x, k
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func externals() string {
	var b strings.Builder
	for _, n := range []string{"none", "dropped", "cut"} {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: default}\nspec: {type: ExternalName, externalName: %s.example.org}\n", n, n)
	}
	for i := range 13 {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Service\nmetadata: {name: hop%d, namespace: default}\n"+
			"spec: {type: ExternalName, externalName: hop%d.default.svc.cluster.local}\n", i, i+1)
	}
	b.WriteString("---\napiVersion: v1\nkind: Service\nmetadata: {name: hop13, namespace: default}\nspec: {clusterIP: 10.96.1.13, ports: [{port: 1}]}\n")
	return b.String()
}

func TestExternalNames(t *testing.T) {
	b, _ := bench(t, "", externals())
	for _, c := range []struct {
		name  string
		qtype uint16
		want  []string
	}{
		{"outside", dns.TypeA, []string{"CNAME www.example.org.", "CNAME cdn.example.org.", "A 192.0.2.80"}},
		{"outside", dns.TypeAAAA, []string{"CNAME www.example.org."}},
		{"none", dns.TypeA, []string{"CNAME none.example.org."}},
		{"dropped", dns.TypeA, nil},
		{"hop3", dns.TypeA, []string{
			"CNAME hop4.", "CNAME hop5.", "CNAME hop6.", "CNAME hop7.", "CNAME hop8.", "CNAME hop9.", "CNAME hop10.", "CNAME hop11.",
			"CNAME hop12.", "CNAME hop13.", "A 10.96.1.13",
		}},
		{"hop2", dns.TypeA, []string{
			"CNAME hop3.", "CNAME hop4.", "CNAME hop5.", "CNAME hop6.", "CNAME hop7.", "CNAME hop8.", "CNAME hop9.", "CNAME hop10.", "CNAME hop11.",
			"CNAME hop12.", "CNAME hop13.", "A 10.96.1.13",
		}},
		{"hop1", dns.TypeA, nil}, // one alias too many
		{"round", dns.TypeA, nil},
	} {
		m := b.Ask(c.name+".default.svc.cluster.local.", c.qtype)
		if m == nil || m.Rcode != dns.RcodeSuccess {
			t.Fatalf("%s: %v", c.name, m)
		}
		var have []string
		for _, rr := range m.Answer {
			switch rr := rr.(type) {
			case *dns.CNAME:
				have = append(have, "CNAME "+strings.TrimSuffix(rr.Target, "default.svc.cluster.local."))
			case *dns.A:
				have = append(have, "A "+rr.A.String())
			}
		}
		if !slices.Equal(have, c.want) {
			t.Errorf("%s %s: got %q, want %q", c.name, dns.TypeToString[c.qtype], have, c.want)
		}
		if len(c.want) == 0 && len(m.Ns) != 1 {
			t.Errorf("%s: no SOA", c.name)
		}
	}
	if m := b.Ask("cut.default.svc.cluster.local.", dns.TypeA); !m.Truncated {
		t.Error("the truncation of the target's reply was lost")
	}
}

func TestFallthrough(t *testing.T) {
	for options, want := range map[string]int{
		"": dns.RcodeNameError, "fallthrough": dns.RcodeSuccess, "fallthrough ip6.arpa": dns.RcodeNameError,
		"fallthrough svc.cluster.local ip6.arpa": dns.RcodeSuccess,
	} {
		b, _ := bench(t, options, "")
		if m := b.Ask("fallen.default.svc.cluster.local.", dns.TypeA); m.Rcode != want {
			t.Errorf("%q: %s", options, chaintest.Text(m))
		}
		if m := b.Ask("www.example.org.", dns.TypeA); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 2 {
			t.Errorf("%q: a name outside is not the next directive's: %s", options, chaintest.Text(m))
		}
	}
}

// TestUnsynced holds the order of judgement before everything has been read.
func TestUnsynced(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config")
	write(t, config, `{apiVersion: v1, kind: Config, current-context: x, clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}],
contexts: [{name: x, context: {cluster: c, user: u}}], users: [{name: u, user: {}}]}`)
	text := ".:53 {\n kubernetes cluster.local {\n kubeconfig " + config + "\n startup_timeout 10ms\n fallthrough fallen.default.svc.cluster.local\n }\n outer\n}\n"
	b := chaintest.New(t, text, chaintest.Options{Specs: testSpecs})
	b.Start()
	for _, c := range []struct {
		name  string
		qtype uint16
		rcode int
	}{
		{"web.default.svc.cluster.local.", dns.TypeA, dns.RcodeServerFailure},
		{"default.svc.cluster.local.", dns.TypeA, dns.RcodeServerFailure},
		{"foo.cluster.local.", dns.TypeA, dns.RcodeServerFailure},
		{"fallen.default.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess},
		{"cluster.local.", dns.TypeA, dns.RcodeSuccess},
		{"svc.cluster.local.", dns.TypeA, dns.RcodeSuccess},
		{"cluster.local.", dns.TypeSOA, dns.RcodeSuccess},
		{"dns-version.cluster.local.", dns.TypeTXT, dns.RcodeSuccess},
	} {
		m := b.Ask(c.name, c.qtype)
		if m.Rcode != c.rcode || (m.Rcode == dns.RcodeServerFailure && len(m.Ns) != 1) {
			t.Errorf("%s %s: %s", c.name, dns.TypeToString[c.qtype], chaintest.Text(m))
		}
	}
	for _, r := range b.Config.Blocks[0].Ready() {
		if r.Ready() {
			t.Error("ready before the sync")
		}
	}
}

// TestNameServers holds the names of the Services that this server is an endpoint of.
func TestNameServers(t *testing.T) {
	b, k := bench(t, "", `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-1, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: dns, port: 53, protocol: UDP}]
endpoints: [{addresses: [10.128.9.9], conditions: {ready: true}}]
`)
	k.local = func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("10.128.9.9")} }
	want := "NOERROR aa=true tc=false\nan cluster.local. 5 IN NS kube-dns.kube-system.svc.cluster.local.\n" +
		"ar kube-dns.kube-system.svc.cluster.local. 5 IN A 10.96.0.53"
	if got := normal(b.Ask("cluster.local.", dns.TypeNS)); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	want = "NOERROR aa=true tc=false\nan Ns.dns.CLUSTER.local. 5 IN A 10.96.0.53"
	if got := normal(b.Ask("Ns.dns.CLUSTER.local.", dns.TypeA)); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	k.local = func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.5")} }
	want = "NOERROR aa=true tc=false\nan cluster.local. 5 IN NS ns.dns.cluster.local.\nar ns.dns.cluster.local. 5 IN A 192.0.2.5"
	if got := normal(b.Ask("cluster.local.", dns.TypeNS)); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// many makes a Headless Service with n endpoints.
func many(name string, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: default}\nspec: {clusterIP: None, ports: [{name: p, port: 1}]}\n", name)
	for at := 0; at < n; at += 100 {
		fmt.Fprintf(&b, "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s-%d, namespace: default, labels: {kubernetes.io/service-name: %s}}\n"+
			"addressType: IPv4\nports: [{name: p, port: 1, protocol: TCP}]\nendpoints:\n", name, at, name)
		for i := at; i < min(at+100, n); i++ {
			fmt.Fprintf(&b, "- {addresses: [10.130.%d.%d], conditions: {ready: true}}\n", i/250, i%250)
		}
	}
	return b.String()
}

// TestLargeHeadless holds that answers larger than a message are cut, with TC, and whole over TCP when they fit.
func TestLargeHeadless(t *testing.T) {
	b, _ := bench(t, "", many("big", 5000)+many("fits", 4000))
	ask := func(name string, qtype uint16, proto chain.Proto) *dns.Msg {
		m := new(dns.Msg)
		m.SetQuestion(name+".default.svc.cluster.local.", qtype)
		return b.Do(chaintest.Query{Msg: m, Proto: proto})
	}
	m := ask("big", dns.TypeA, chain.UDP)
	m.Compress = true
	if !m.Truncated || len(m.Answer) < 20 || m.Len() > 512 {
		t.Errorf("over UDP: tc %v, %d records, %d octets", m.Truncated, len(m.Answer), m.Len())
	}
	if m := ask("big", dns.TypeA, chain.TCP); !m.Truncated || len(m.Answer) < 4000 {
		t.Errorf("over TCP: tc %v, %d records", m.Truncated, len(m.Answer))
	}
	if m := ask("fits", dns.TypeA, chain.TCP); m.Truncated || len(m.Answer) != 4000 {
		t.Errorf("over TCP: tc %v, %d records", m.Truncated, len(m.Answer))
	}
	if m := ask("big", dns.TypeSRV, chain.TCP); !m.Truncated || len(m.Answer) < 800 {
		t.Errorf("SRV over TCP: tc %v, %d records", m.Truncated, len(m.Answer))
	}
}

func TestAllocations(t *testing.T) {
	b, _ := bench(t, "pods verified", many("fifty", 50))
	ptr, _ := dns.ReverseAddr("10.96.0.10")
	ptrEndpoint, _ := dns.ReverseAddr("10.130.0.7")
	for _, c := range []struct {
		name  string
		qtype uint16
		rcode int
		n     int
	}{
		{"web.default.svc.cluster.local.", dns.TypeA, 0, 1},
		{"dual.default.svc.cluster.local.", dns.TypeAAAA, 0, 1},
		{"web.default.svc.cluster.local.", dns.TypeAAAA, 0, 0},
		{"web.default.svc.cluster.local.", dns.TypeHTTPS, 0, 0},
		{"_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV, 0, 1},
		{"fifty.default.svc.cluster.local.", dns.TypeA, 0, 50},
		{"_p._tcp.fifty.default.svc.cluster.local.", dns.TypeA, 0, 50},
		{"_p._tcp.fifty.default.svc.cluster.local.", dns.TypeSRV, 0, 50},
		{"10-130-0-7.fifty.default.svc.cluster.local.", dns.TypeA, 0, 1},
		{"db-0.db.default.svc.cluster.local.", dns.TypeSRV, 0, 1},
		{"10-128-0-1.default.pod.cluster.local.", dns.TypeA, 0, 1},
		{ptr, dns.TypePTR, 0, 1},
		{ptrEndpoint, dns.TypePTR, 0, 1},
		{"nope.default.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, 0},
		{"www.example.com.default.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, 0},
		{"www.example.com.cluster.local.", dns.TypeAAAA, dns.RcodeNameError, 0},
		{"10-9-9-9.default.pod.cluster.local.", dns.TypeA, dns.RcodeNameError, 0},
		{"not-an-address.default.pod.cluster.local.", dns.TypeA, dns.RcodeNameError, 0},
		{"default.svc.cluster.local.", dns.TypeA, 0, 0},
	} {
		m := new(dns.Msg)
		m.SetQuestion(c.name, c.qtype)
		m.SetEdns0(4096, false)
		r := b.Do(chaintest.Query{Msg: m})
		if r.Rcode != c.rcode || len(r.Answer) != c.n {
			t.Errorf("%s %s: %s", c.name, dns.TypeToString[c.qtype], chaintest.Text(r))
		}
		t.Run(c.name+dns.TypeToString[c.qtype], func(*testing.T) { b.ExpectNoAllocation(m) })
	}
}

// TestChangeIsSeen holds that a changed manifest is served at once.
func TestChangeIsSeen(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.yaml", many("one", 1))
	b := chaintest.New(t, ".:53 {\n kubernetes cluster.local {\n manifests "+dir+"\n }\n}\n", chaintest.Options{Specs: testSpecs})
	b.Start()
	k := handlerOf(b)
	b.Until("sync", k.cluster.Synced)
	if m := b.Ask("one.default.svc.cluster.local.", dns.TypeA); len(m.Answer) != 1 {
		t.Fatal(chaintest.Text(m))
	}
	write(t, dir+"/a.yaml", many("one", 3))
	begin := time.Now()
	b.Until("the change", func() bool { return len(b.Ask("one.default.svc.cluster.local.", dns.TypeA).Answer) == 3 })
	if took := time.Since(begin); took > time.Second {
		t.Errorf("the change was served after %v", took)
	}
	write(t, dir+"/a.yaml", "{")
	b.Until("the complaint", func() bool { return strings.Contains(b.Log.String(), "a.yaml") })
	if m := b.Ask("one.default.svc.cluster.local.", dns.TypeA); len(m.Answer) != 3 {
		t.Errorf("a broken manifest took records away: %s", chaintest.Text(m))
	}
}
