package kubernetes

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/internal/freeport"
	"github.com/godwit-dns/godwit/test/kube"
)

// coreDNSVariable names the environment variable with the path of a coredns 1.14.7 to compare with.
const coreDNSVariable = "GODWIT_COREDNS"

// goldenDirective is the variant whose answers TestGolden holds, also where no coredns is at hand.
const goldenDirective = "kubernetes cluster.local clusterset.local 10.in-addr.arpa 0.0.d.f.ip6.arpa {\n" +
	" multicluster clusterset.local\n zonal\n pods verified\n"

// variants are the option blocks that are compared. Each stands in its own server block.
var variants = map[string]string{
	"plain":       "kubernetes cluster.local 10.in-addr.arpa 0.0.d.f.ip6.arpa {\n",
	"insecure":    "kubernetes cluster.local 10.in-addr.arpa 0.0.d.f.ip6.arpa {\n pods insecure\n ttl 30\n",
	"verified":    "kubernetes cluster.local 10.in-addr.arpa 0.0.d.f.ip6.arpa {\n pods verified\n endpoint_pod_names\n ignore empty_service\n",
	"zonal":       "kubernetes cluster.local {\n zonal\n ttl 400\n",
	"namespaces":  "kubernetes cluster.local 10.in-addr.arpa {\n namespaces default\n ttl 0\n",
	"noendpoints": "kubernetes cluster.local 10.in-addr.arpa {\n noendpoints\n",
	"root":        "kubernetes . {\n",
	// CoreDNS takes every address of the machine for this one; the others are bound to 127.0.0.1.
	"unbound": "kubernetes cluster.local {\n pods insecure\n",
	"golden":  goldenDirective,
	"imports": "kubernetes cluster.local clusterset.local 10.in-addr.arpa {\n multicluster clusterset.local\n zonal\n",
}

// importNames are asked for besides, where ServiceImports are.
var importNames = []string{
	"shared", "spread", "portless", "waiting", "web", "s-0.c1.spread", "s-0.c2.spread", "10-200-1-2.c1.spread", "10-200-1-2.c2.spread",
	"s-0.spread", "h.c2.shared", "h.shared", "_http._tcp.shared", "http.tcp.shared", "_http._tcp.spread", "_http.tcp.spread", "http._tcp.spread",
	"a.b.c1.spread", "a.pin._zone.spread", "_http._tcp.waiting",
}

// questionNames are asked for every type in every variant.
func questionNames() []string {
	var list []string
	for _, n := range []string{
		"web", "dual", "idle", "db", "bare", "lonely", "outside", "inside", "twice", "dead", "round", "about", "address", "nope",
		"db-0.db", "db-1.db", "db-2.db", "10-128-0-13.db", "10-128-0-12.db", "fd00-128--0.db", "fd00-128--.db", "db-x7.db",
		"10-128-0-1.web", "web-aaaa.web", "10-128-0-2.web", "10-128-0-21.bare", "x.outside", "_http._tcp.outside",
		"_http._tcp.web", "http.tcp.web", "_HTTP._TCP.web", "_dns._udp.web", "_dns._tcp.web", "_tcp.web", "_http._udp.web", "_._tcp.web",
		"_sql._tcp.db", "_._tcp.db", "_._.db", "_sql._udp.db", "_tcp.db", "_http._tcp.dual", "_._tcp.dual", "_._tcp.bare", "_x._tcp.bare",
		"a.b.c.web", "a._sql._tcp.db", "_sql._tcp.db-0.db",
		"a.pin._zone.db", "b.example.pin._zone.db", "c.pin._zone.db", "c.prefer._zone.db", "a.prefer._zone.db", "a.pin._zone.web",
		"mixed", "m-0.mixed", "10-128-1-3.mixed", "10-128-1-5.mixed", "_a._tcp.mixed", "_b._udp.mixed", "_a2._udp.mixed", "_._udp.mixed", "_a._udp.mixed",
		"a.pin._zone.mixed", "b.pin._zone.mixed", "z.prefer._zone.mixed", "orphan", "10-128-1-6.orphan", "topod", "dotted", "toapex", "below", "toendpoint",
		"a.pin._zone.nope", "a.other._zone.db", "pin._zone.db", "a.pin._zone.outside", "a.pin._zone.bare",
	} {
		list = append(list, n+".default.svc.cluster.local.")
	}
	for _, n := range []string{
		"10-128-0-1", "10-128-0-2", "10-128-0-99", "1-2-3-4", "01-2-3-4", "1-2-3-400", "1-2-3", "1--2-3", "fd00-128--", "fd00-128-0-0-0-0-0-0",
		"fd00-128--0", "--1", "--", "-", "x", "--ffff-102-304", "1-2-3-4-5-6-7-8", "1-2-3-4-5-6-7-8-9", "1-2-3-4-5-6-7--", "web-aaaa",
		"x.10-128-0-1", "x.y.10-128-0-1", "x.y.z.10-128-0-1", "a.pin._zone.10-128-0-1", "",
	} {
		if n != "" {
			n += "."
		}
		list = append(list, n+"default.pod.cluster.local.", n+"nons.pod.cluster.local.")
	}
	for _, n := range []string{
		"", "svc.", "pod.", "default.svc.", "empty.svc.", "nons.svc.", "kube-dns.kube-system.svc.", "secret.hidden.svc.", "web.empty.svc.",
		"dns-version.", "x.dns-version.", "ns.dns.", "dns.", "apex.dns.", "foo.", "web.default.", "*.default.svc.", "web.*.svc.",
		"any.default.svc.", "_tcp.svc.",
	} {
		list = append(list, n+"cluster.local.")
	}
	for _, a := range []string{
		"10.96.0.10", "10.96.0.66", "10.128.0.1", "10.128.0.2", "10.128.0.11", "10.128.0.21", "10.99.0.1", "10.128.1.1", "10.128.1.3", "10.128.1.4", "10.128.1.6", "fd00:96::11", "fd00:128::11", "fd00:128::",
		"fd00:128::5",
	} {
		r, _ := dns.ReverseAddr(a)
		list = append(list, r)
	}
	return append(list, "10.in-addr.arpa.", "0.10.in-addr.arpa.", "svc.10.in-addr.arpa.", "x.svc.10.in-addr.arpa.", "1.0.0.0.10.in-addr.arpa.",
		"010.0.96.10.in-addr.arpa.", "x.10.in-addr.arpa.")
}

var questionTypes = []uint16{
	dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeTXT, dns.TypeCNAME, dns.TypeNS, dns.TypeSOA, dns.TypeMX, dns.TypeHTTPS, dns.TypeANY,
}

// normal writes a reply as text: sections sorted, serials left out, spelling of additional owners too.
func normal(m *dns.Msg) string {
	if m == nil {
		return "no reply"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s aa=%v tc=%v", dns.RcodeToString[m.Rcode], m.Authoritative, m.Truncated)
	for i, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		var lines []string
		for _, rr := range section {
			if rr.Header().Rrtype == dns.TypeOPT {
				continue
			}
			if soa, ok := rr.(*dns.SOA); ok {
				soa.Serial = 1
			}
			if i == 2 {
				// An owner that is compressed against the question has the question's spelling.
				rr.Header().Name = strings.ToLower(rr.Header().Name)
			}
			lines = append(lines, strings.Join(strings.Fields(rr.String()), " "))
		}
		slices.Sort(lines)
		for _, l := range lines {
			b.WriteString("\n" + []string{"an ", "ns ", "ar "}[i] + l)
		}
	}
	return b.String()
}

// goldenNames are questionNames and those of ServiceImports.
func goldenNames() []string {
	names := questionNames()
	for _, n := range importNames {
		names = append(names, n+".default.svc.clusterset.local.", n+".default.svc.cluster.local.")
	}
	return append(names, "clusterset.local.", "default.svc.clusterset.local.", "10-128-0-1.default.pod.clusterset.local.", "5.0.99.10.in-addr.arpa.")
}

// golden gathers answers by name; types with one answer share it.
type golden struct {
	b    strings.Builder
	list []string
	by   map[string][]string
}

func (g *golden) add(qtype uint16, answer string) {
	if g.by == nil {
		g.by = map[string][]string{}
	}
	if g.by[answer] == nil {
		g.list = append(g.list, answer)
	}
	g.by[answer] = append(g.by[answer], dns.TypeToString[qtype])
}

func (g *golden) end(name string) {
	for _, a := range g.list {
		fmt.Fprintf(&g.b, "%s %s\n%s\n", name, strings.Join(g.by[a], ","), a)
	}
	g.list, g.by = nil, nil
}

const goldenFile = "testdata/answers.txt"

var update = flag.Bool("update", false, "write what coredns answers to "+goldenFile)

// TestGolden holds CoreDNS's answers, as TestDifferential -update wrote them, for the same objects from manifests.
func TestGolden(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"cluster.yaml", "multicluster.yaml"} {
		b, err := os.ReadFile("testdata/" + f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/"+f, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := chaintest.New(t, ".:53 {\n"+goldenDirective+" manifests "+dir+"\n}\n}\n", chaintest.Options{Specs: []chain.Spec{Spec}})
	b.Start()
	k := handlerOf(b)
	b.Until("sync", k.cluster.Synced)
	k.local = noAddrs
	var g golden
	for _, name := range goldenNames() {
		for _, qtype := range questionTypes {
			m := new(dns.Msg)
			m.SetQuestion(name, qtype)
			g.add(qtype, normal(b.Do(chaintest.Query{Msg: m, Proto: chain.TCP})))
		}
		g.end(name)
	}
	want, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	if g.b.String() == string(want) {
		return
	}
	have, lines := strings.Split(g.b.String(), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(have), len(lines)) {
		if have[i] != lines[i] {
			t.Fatalf("%s:%d\n got %s\nwant %s", goldenFile, i+1, have[i], lines[i])
		}
	}
	t.Fatalf("%d lines, want %d", len(have), len(lines))
}

func noAddrs() []netip.Addr { return nil }

func handlerOf(b *chaintest.Bench) (k *Kubernetes) {
	for _, h := range b.Config.Blocks[0].Chain().Handlers {
		if x, ok := h.(*Kubernetes); ok {
			k = x
		}
	}
	return k
}

// freePort gives a port that is free for UDP and TCP.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := freeport.Find()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// TestDifferential asks CoreDNS and this directive the same questions of the same cluster.
func TestDifferential(t *testing.T) {
	binary := os.Getenv(coreDNSVariable)
	if binary == "" {
		t.Skipf("set %s to the path of a coredns 1.14.7 to compare with it", coreDNSVariable)
	}
	dir, err := kube.Build(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	plane, err := kube.Start(t.Context(), kube.Options{Streaming: true, Binaries: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plane.Stop() })
	manifests, err := os.ReadFile("testdata/cluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.Apply(t.Context(), string(manifests)); err != nil {
		t.Fatal(err)
	}
	applyImports(t, plane)
	config, err := plane.Kubeconfig(t.Context(), kube.Admin)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("transfer", func(t *testing.T) { compareTransfer(t, binary, config) })
	for name, options := range variants {
		t.Run(name, func(t *testing.T) {
			names := questionNames()
			switch name {
			case "golden":
				names = goldenNames()
			case "root":
				for i, n := range names {
					if short := strings.TrimSuffix(n, "cluster.local."); short != "" {
						names[i] = short
					}
				}
			case "imports":
				names = goldenNames()
			}
			compare(t, binary, options+" kubeconfig "+config+"\n}", names, name != "unbound")
		})
	}
}

// applyImports makes the API server know ServiceImports, and some of them.
func applyImports(t *testing.T, plane *kube.Plane) {
	t.Helper()
	crd, err := os.ReadFile("testdata/multicluster-crd.json")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plane.Do(t.Context(), "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd); err != nil {
		t.Fatal(err)
	}
	manifests, err := os.ReadFile("testdata/multicluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if err = plane.Apply(t.Context(), string(manifests)); err == nil {
			return
		}
		time.Sleep(time.Duration(i) * 10 * time.Millisecond)
	}
	t.Fatal(err)
}

func compare(t *testing.T, binary, directive string, names []string, bound bool) {
	port := freePort(t)
	bind := ""
	if bound {
		bind = " bind 127.0.0.1\n"
	}
	// The block takes every zone; what is in none of the directive's ends in an error on both sides.
	corefile := ".:" + port + " {\n" + bind + directive + "\n}\n"
	path := filepath.Join(t.TempDir(), "Corefile")
	if err := os.WriteFile(path, []byte(corefile), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, "-conf", path)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	b := chaintest.New(t, ".:"+port+" {\n"+directive+"\n}\n", chaintest.Options{Specs: []chain.Spec{Spec}})
	b.Start()
	k := handlerOf(b)
	b.Until("sync", k.cluster.Synced)
	if bound {
		k.local = func() []netip.Addr { return localAddrs([]chain.Bound{{Addr: "127.0.0.1"}}) }
	}
	client := &dns.Client{Net: "tcp", Timeout: 5 * time.Second}
	waitFor(t, client, "127.0.0.1:"+port, names[0], &out)
	conn, err := client.Dial("127.0.0.1:" + port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	d := &difference{t: t, b: b, ask: func(m *dns.Msg) (*dns.Msg, error) {
		r, _, err := client.ExchangeWithConn(m, conn)
		return r, err
	}}
	for _, name := range names {
		for _, qtype := range questionTypes {
			if directive[:12] == "kubernetes ." && qtype == dns.TypePTR && strings.HasSuffix(name, ".arpa.") {
				continue // CoreDNS makes "web.default.svc.." of it, which it cannot pack, and never answers
			}
			d.g.add(qtype, d.compare(name, qtype))
			if qtype != dns.TypeNS && !strings.HasPrefix(name, "ns.dns.") {
				d.compare(strings.ToUpper(name), qtype) // with regard to case CoreDNS compares these two; README, Differences
			}
		}
		d.g.end(name)
	}
	if *update && strings.HasPrefix(directive, goldenDirective) {
		if err := os.WriteFile(goldenFile, []byte(d.g.b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d questions, %d differences", d.asked, d.different)
}

// difference counts questions and those that are answered differently.
type difference struct {
	t                *testing.T
	b                *chaintest.Bench
	ask              func(m *dns.Msg) (*dns.Msg, error)
	asked, different int
	g                golden
}

// compare asks both sides and gives CoreDNS's answer.
func (d *difference) compare(name string, qtype uint16) string {
	d.t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	theirs, err := d.ask(m)
	if err != nil {
		d.t.Fatalf("%s %s: %v", name, dns.TypeToString[qtype], err)
	}
	ours := d.b.Do(chaintest.Query{Msg: m, Proto: chain.TCP})
	d.asked++
	want, got := normal(theirs), normal(ours)
	if want != got {
		if d.different++; d.different < 20 {
			d.t.Errorf("%s %s\ncoredns %s\ngodwit  %s", name, dns.TypeToString[qtype], want, got)
		}
	}
	return want
}

func waitFor(t *testing.T, c *dns.Client, addr, name string, out *bytes.Buffer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		if r, _, err := c.Exchange(m, addr); err == nil && len(r.Answer) > 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("coredns does not answer:\n%s", out.String())
}
