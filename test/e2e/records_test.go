package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/test/kube"
)

// shopAnswers is what testdata/shop.yaml answers by testdata/records.Corefile.
var shopAnswers = answers{
	// A Service with addresses of both families.
	{"web.shop.svc.cluster.local A", "NOERROR 10.96.0.101"},
	{"web.shop.svc.cluster.local AAAA", "NOERROR fd00:96::101"},
	{"wEB.Shop.SVC.cluster.LOCAL A", "NOERROR 10.96.0.101"},
	{"web.shop.svc.cluster.local A tcp", "NOERROR 10.96.0.101"},
	{"_http._tcp.web.shop.svc.cluster.local SRV", "NOERROR 0 50 80 web.shop.svc.cluster.local. / web.shop.svc.cluster.local. A 10.96.0.101 web.shop.svc.cluster.local. AAAA fd00:96::101"},
	{"_quic._udp.web.shop.svc.cluster.local SRV", "NOERROR 0 50 443 web.shop.svc.cluster.local. / web.shop.svc.cluster.local. A 10.96.0.101 web.shop.svc.cluster.local. AAAA fd00:96::101"},
	{"web.shop.svc.cluster.local SRV", "NOERROR 0 25 443 web.shop.svc.cluster.local. 0 25 80 web.shop.svc.cluster.local. / web.shop.svc.cluster.local. A 10.96.0.101 web.shop.svc.cluster.local. AAAA fd00:96::101"},
	{"http.tcp.web.shop.svc.cluster.local A", "NOERROR 10.96.0.101"},
	{"_http._udp.web.shop.svc.cluster.local SRV", "NXDOMAIN"},
	{"_tcp.web.shop.svc.cluster.local SRV", "NXDOMAIN"},
	{"web.shop.svc.cluster.local MX", "NODATA"},
	{"web.shop.svc.cluster.local TXT", "NODATA"},
	{"10-128-1-1.web.shop.svc.cluster.local A", "NOERROR 10.128.1.1"},
	{"10.96.0.101 PTR", "NOERROR web.shop.svc.cluster.local."},
	{"fd00:96::101 PTR", "NOERROR web.shop.svc.cluster.local."},
	{"10.128.1.1 PTR", "NOERROR 10-128-1-1.web.shop.svc.cluster.local."},
	// Its port has no name.
	{"plain.shop.svc.cluster.local A", "NOERROR 10.96.0.102"},
	{"plain.shop.svc.cluster.local AAAA", "NODATA"},
	{"plain.shop.svc.cluster.local SRV", "NOERROR 0 100 8080 plain.shop.svc.cluster.local. / plain.shop.svc.cluster.local. A 10.96.0.102"},
	{"empty.shop.svc.cluster.local A", "NOERROR 10.96.0.103"},
	// Headless.
	{"db.shop.svc.cluster.local A", "NOERROR 10.128.1.10 10.128.1.11 10.128.1.12"},
	{"db.shop.svc.cluster.local AAAA", "NOERROR fd00:128::10"},
	{"db-0.db.shop.svc.cluster.local A", "NOERROR 10.128.1.10"},
	{"db-0.db.shop.svc.cluster.local AAAA", "NOERROR fd00:128::10"},
	{"10-128-1-12.db.shop.svc.cluster.local A", "NOERROR 10.128.1.12"},
	{"10-128-1-10.db.shop.svc.cluster.local A", "NXDOMAIN"},
	{"db-3.db.shop.svc.cluster.local A", "NXDOMAIN"},
	{"_peer._tcp.db.shop.svc.cluster.local SRV", "NOERROR 0 25 5432 10-128-1-12.db.shop.svc.cluster.local. 0 25 5432 db-0.db.shop.svc.cluster.local. 0 25 5432 db-1.db.shop.svc.cluster.local." +
		" / 10-128-1-12.db.shop.svc.cluster.local. A 10.128.1.12 db-0.db.shop.svc.cluster.local. A 10.128.1.10 db-0.db.shop.svc.cluster.local. AAAA fd00:128::10 db-1.db.shop.svc.cluster.local. A 10.128.1.11"},
	{"10.128.1.10 PTR", "NOERROR db-0.db.shop.svc.cluster.local."},
	{"fd00:128::10 PTR", "NOERROR db-0.db.shop.svc.cluster.local."},
	{"hollow.shop.svc.cluster.local A", "NXDOMAIN"},
	{"early.shop.svc.cluster.local A", "NOERROR 10.128.1.20"},
	{"early-0.early.shop.svc.cluster.local A", "NOERROR 10.128.1.20"},
	// Names of other names.
	{"outside.shop.svc.cluster.local A", "NOERROR 192.0.2.9 CNAME:www.outside.test."},
	{"outside.shop.svc.cluster.local AAAA", "NOERROR 2001:db8::9 CNAME:www.outside.test."},
	{"outside.shop.svc.cluster.local CNAME", "NOERROR www.outside.test."},
	{"outside.shop.svc.cluster.local SRV", "NODATA"},
	{"gone.shop.svc.cluster.local A", "NOERROR CNAME:gone.outside.test."},
	{"front.shop.svc.cluster.local A", "NOERROR 10.96.0.101 CNAME:web.shop.svc.cluster.local."},
	{"front.shop.svc.cluster.local AAAA", "NOERROR CNAME:web.shop.svc.cluster.local. fd00:96::101"},
	{"number.shop.svc.cluster.local A", "NXDOMAIN"},
	// Pods.
	{"10-128-1-12.shop.pod.cluster.local A", "NOERROR 10.128.1.12"},
	{"1-2-3-4.shop.pod.cluster.local A", "NOERROR 1.2.3.4"},
	{"fd00--1.shop.pod.cluster.local AAAA", "NOERROR fd00::1"},
	{"1-2-3-4.nowhere.pod.cluster.local A", "NXDOMAIN"},
	{"10-128-1-12.shop.pod.verified.test A", "NOERROR 10.128.1.12"},
	{"1-2-3-4.shop.pod.verified.test A", "NXDOMAIN"},
	{"10-128-1-12.depot.pod.verified.test A", "NXDOMAIN"},
	{"10-128-1-12.shop.pod.disabled.test A", "NXDOMAIN"},
	// What exists without records, and what does not exist.
	{"shop.svc.cluster.local A", "NODATA"},
	{"depot.svc.cluster.local A", "NODATA"},
	{"svc.cluster.local A", "NODATA"},
	{"cluster.local A", "NODATA"},
	{"nobody.shop.svc.cluster.local A", "NXDOMAIN"},
	{"web.nowhere.svc.cluster.local A", "NXDOMAIN"},
	{"nowhere.svc.cluster.local A", "NXDOMAIN"},
	{"www.example.com.shop.svc.cluster.local A", "NXDOMAIN"},
	{"10.96.77.77 PTR", "NXDOMAIN"},
	{"dns-version.cluster.local TXT", `NOERROR "1.1.0"`},
	{"192.0.2.8 PTR", "NOERROR reverse.outside.test."},
	{"shop.svc.cluster.local SOA", "NODATA"},
	// Options.
	{"db-pod.db.shop.svc.podnames.test A", "NOERROR 10.128.1.12"},
	{"db-0.db.shop.svc.podnames.test A", "NOERROR 10.128.1.10"},
	{"10-128-1-12.db.shop.svc.podnames.test A", "NXDOMAIN"},
	{"web.shop.svc.noendpoints.test A", "NOERROR 10.96.0.101"},
	{"db.shop.svc.noendpoints.test A", "NXDOMAIN"},
	{"empty.shop.svc.noempty.test A", "NXDOMAIN"},
	{"web.shop.svc.noempty.test A", "NOERROR 10.96.0.101"},
	{"web.shop.svc.namespaces.test A", "NOERROR 10.96.0.101"},
	{"web.steady.svc.namespaces.test A", "NXDOMAIN"},
	{"web.shop.svc.nslabels.test A", "NOERROR 10.96.0.101"},
	{"web.steady.svc.nslabels.test A", "NXDOMAIN"},
	{"web.shop.svc.labels.test A", "NOERROR 10.96.0.101"},
	{"plain.shop.svc.labels.test A", "NXDOMAIN"},
	{"a.pin._zone.db.shop.svc.zonal.test A", "NOERROR 10.128.1.10"},
	{"b.pin._zone.db.shop.svc.zonal.test A", "NOERROR 10.128.1.11 10.128.1.12"},
	{"c.pin._zone.db.shop.svc.zonal.test A", "NODATA"},
	{"a.prefer._zone.db.shop.svc.zonal.test A", "NOERROR 10.128.1.10"},
	{"c.prefer._zone.db.shop.svc.zonal.test A", "NOERROR 10.128.1.10 10.128.1.11 10.128.1.12"},
	{"a.pin._zone.db.shop.svc.cluster.local A", "NXDOMAIN"},
}

// testRecords makes, changes and deletes objects of every kind while others
// are asked for.
func testRecords(t *testing.T, plane *kube.Plane) {
	apply(t, plane, steady)
	g := serve(t, read(t, "testdata/records.Corefile"), "KUBECONFIG="+kubeconfig(t, plane, kube.DNSAccount))
	background := probe(t, g)
	g.check(t, answers{{"web.shop.svc.cluster.local A", "NXDOMAIN"}, {"shop.svc.cluster.local A", "NXDOMAIN"}})
	apply(t, plane, read(t, "testdata/shop.yaml"))
	t.Logf("every answer was right %v after the last object was made", g.becomes(t, shopAnswers))
	if got := g.status(g.ready, "/ready"); got != http.StatusOK {
		t.Errorf("/ready: %d", got)
	}
	// The controller writes into its slices when the change came that they answer to.
	if n := g.number(t, `coredns_kubernetes_dns_programming_duration_seconds_count{service_kind="headless_with_selector"}`); n == 0 {
		t.Error("how long it took until the endpoints of early were answered is not measured")
	}
	t.Run("apex", func(t *testing.T) { checkApex(t, g) })
	t.Run("spelling", func(t *testing.T) { checkSpelling(t, g) })
	t.Run("transfer", func(t *testing.T) { checkTransfer(t, g) })
	t.Run("large", func(t *testing.T) { checkLarge(t, g, plane) })
	t.Run("changes", func(t *testing.T) { checkChanges(t, g, plane) })
	t.Run("deletions", func(t *testing.T) { checkDeletions(t, g, plane) })
	background.end(t)
}

// checkApex looks at the zone's own records. A block that binds to an address
// does not know its name servers, as in CoreDNS.
func checkApex(t *testing.T, g *godwit) {
	m, err := exchange(g.open, g.dns, "cluster.local SOA")
	if err != nil || len(m.Answer) != 1 {
		t.Fatalf("%v, %v", m, err)
	}
	soa, ok := m.Answer[0].(*dns.SOA)
	if !ok {
		t.Fatal(m)
	}
	if age := time.Since(time.Unix(int64(soa.Serial), 0)); age < -2*time.Second || age > time.Hour {
		t.Errorf("serial %d is no time of today", soa.Serial)
	}
	soa.Serial = 1
	if got := soa.String(); got != "cluster.local.\t30\tIN\tSOA\tns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 30" {
		t.Error(got)
	}
	g.check(t, answers{{"cluster.local NS", "NODATA"}, {"ns.dns.cluster.local A", "NODATA"}})
}

// checkSpelling: names come back as they were asked.
func checkSpelling(t *testing.T, g *godwit) {
	const name = "DB.shop.SVC.Cluster.Local."
	m, err := exchange(g.open, g.dns, name+" A")
	if err != nil {
		t.Fatal(err)
	}
	if !m.Authoritative || m.RecursionAvailable {
		t.Errorf("flags: %s", m.MsgHdr.String())
	}
	for _, rr := range m.Answer {
		if h := rr.Header(); h.Name != name || h.Ttl != 30 {
			t.Errorf("%s: owner or TTL is wrong", rr)
		}
	}
}

// transferred is a zone as AXFR gives it, each record in a line.
func transferred(t *testing.T, g *godwit) []string {
	t.Helper()
	m := new(dns.Msg)
	m.SetAxfr("cluster.local.")
	envelopes, err := new(dns.Transfer).In(m, g.dns)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for e := range envelopes {
		if e.Error != nil {
			t.Fatal(e.Error)
		}
		for _, rr := range e.RR {
			all = append(all, rr.Header().Name+" "+dns.TypeToString[rr.Header().Rrtype]+" "+data(rr))
		}
	}
	return all
}

func checkTransfer(t *testing.T, g *godwit) {
	all := transferred(t, g)
	if len(all) < 2 || all[0] != all[len(all)-1] || !strings.HasPrefix(all[0], "cluster.local. SOA ") {
		t.Errorf("the zone does not begin and end with its SOA: %q", all)
	}
	text := "\n" + strings.Join(all, "\n") + "\n"
	for _, want := range []string{
		"web.shop.svc.cluster.local. A 10.96.0.101",
		"web.shop.svc.cluster.local. AAAA fd00:96::101",
		"_http._tcp.web.shop.svc.cluster.local. SRV 0 100 80 web.shop.svc.cluster.local.",
		"db.shop.svc.cluster.local. A 10.128.1.11",
		"db-1.db.shop.svc.cluster.local. A 10.128.1.11",
		"outside.shop.svc.cluster.local. CNAME www.outside.test.",
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("%s is not in the transfer:%s", want, text)
		}
	}
	if strings.Contains(text, "10.128.1.1\n") {
		t.Errorf("an endpoint of a Service with an address is in the transfer:%s", text)
	}
	g.check(t, answers{{"verified.test AXFR tcp", "REFUSED"}})
}

// checkLarge: more endpoints than a datagram holds.
func checkLarge(t *testing.T, g *godwit, plane *kube.Plane) {
	const endpoints, each = 700, 100
	var list, want []string
	for i := range endpoints {
		address := fmt.Sprintf("10.129.%d.%d", i/each, i%each+1)
		list = append(list, fmt.Sprintf("{addresses: [%s], conditions: {ready: true}}", address))
		want = append(want, address)
	}
	manifest := "apiVersion: v1\nkind: Service\nmetadata: {name: large, namespace: shop}\nspec: {clusterIP: None, ports: [{name: peer, port: 1}]}\n"
	for i := range endpoints / each {
		manifest += fmt.Sprintf(`---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: large-%d, namespace: shop, labels: {kubernetes.io/service-name: large}}
addressType: IPv4
ports: [{name: peer, port: 1, protocol: TCP}]
endpoints: [%s]
`, i, strings.Join(list[i*each:(i+1)*each], ", "))
	}
	apply(t, plane, manifest)
	defer remove(t, plane, manifest)
	eventually(t, 5*time.Second, "all endpoints over TCP", func() bool {
		m, err := exchange(g.open, g.dns, "large.shop.svc.cluster.local A tcp")
		if err != nil {
			t.Fatal(err)
		}
		found := make(map[string]bool)
		for _, rr := range m.Answer {
			found[data(rr)] = true
		}
		for _, address := range want {
			if !found[address] {
				return false
			}
		}
		return len(m.Answer) == endpoints && !m.Truncated
	})
	m, err := exchange(g.open, g.dns, "large.shop.svc.cluster.local A")
	if err != nil {
		t.Fatal(err)
	}
	m.Compress = true
	if size := m.Len(); !m.Truncated || len(m.Answer) == 0 || size > 4096 {
		t.Errorf("over UDP: truncated %v, %d records, %d octets", m.Truncated, len(m.Answer), size)
	}
}

// change is an object that takes another's place, and what is then answered.
type change struct {
	what     string
	manifest string
	want     answers
}

var changes = []change{
	{"a Service's address and ports", `
apiVersion: v1
kind: Service
metadata: {name: plain, namespace: shop}
spec: {type: ClusterIP, clusterIP: 10.96.0.102, clusterIPs: [10.96.0.102], ports: [{name: admin, port: 9090}, {name: http, port: 80}]}
`, answers{
		{"_admin._tcp.plain.shop.svc.cluster.local SRV", "NOERROR 0 100 9090 plain.shop.svc.cluster.local. / plain.shop.svc.cluster.local. A 10.96.0.102"},
		{"plain.shop.svc.cluster.local SRV", "NOERROR 0 50 80 plain.shop.svc.cluster.local. 0 50 9090 plain.shop.svc.cluster.local. / plain.shop.svc.cluster.local. A 10.96.0.102"},
	}},
	{"ready conditions and hostnames", `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: peer, port: 5433, protocol: TCP}]
endpoints:
- {addresses: [10.128.1.10], hostname: first, zone: a, conditions: {ready: true, serving: false, terminating: true}}
- {addresses: [10.128.1.11], hostname: db-1, zone: b, conditions: {ready: false, serving: true}}
- {addresses: [10.128.1.13], hostname: db-3, zone: a, conditions: {ready: true}}
`, answers{
		{"db.shop.svc.cluster.local A", "NOERROR 10.128.1.10 10.128.1.13"},
		{"first.db.shop.svc.cluster.local A", "NOERROR 10.128.1.10"},
		{"db-0.db.shop.svc.cluster.local A", "NODATA"}, // it has an IPv6 address still
		{"db-1.db.shop.svc.cluster.local A", "NXDOMAIN"},
		{"db-3.db.shop.svc.cluster.local A", "NOERROR 10.128.1.13"},
		{"10.128.1.11 PTR", "NXDOMAIN"},
		{"10.128.1.13 PTR", "NOERROR db-3.db.shop.svc.cluster.local."},
		{"b.pin._zone.db.shop.svc.zonal.test A", "NODATA"},
		{"db-pod.db.shop.svc.podnames.test A", "NXDOMAIN"},
	}},
	{"an ExternalName", `
apiVersion: v1
kind: Service
metadata: {name: outside, namespace: shop}
spec: {type: ExternalName, externalName: empty.shop.svc.cluster.local}
`, answers{
		{"outside.shop.svc.cluster.local A", "NOERROR 10.96.0.103 CNAME:empty.shop.svc.cluster.local."},
		{"outside.shop.svc.cluster.local AAAA", "NODATA"},
	}},
	{"a name that becomes a Service", `
apiVersion: v1
kind: Service
metadata: {name: gone, namespace: shop}
spec: {type: ClusterIP, externalName: "", clusterIP: 10.96.0.104, clusterIPs: [10.96.0.104], ports: [{port: 1}]}
`, answers{{"gone.shop.svc.cluster.local A", "NOERROR 10.96.0.104"}, {"10.96.0.104 PTR", "NOERROR gone.shop.svc.cluster.local."}}},
	{"the labels of a namespace", `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: depot}}
`, answers{{"web.shop.svc.nslabels.test A", "NXDOMAIN"}, {"web.shop.svc.cluster.local A", "NOERROR 10.96.0.101"}}},
	{"the labels of a Service", `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {app: other}}
spec: {ports: [{name: http, port: 80, protocol: TCP}, {name: quic, port: 443, protocol: UDP}]}
`, answers{{"web.shop.svc.labels.test A", "NXDOMAIN"}, {"web.shop.svc.cluster.local A", "NOERROR 10.96.0.101"}}},
	{"a Service that gets endpoints", `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: empty-1, namespace: shop, labels: {kubernetes.io/service-name: empty}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.128.1.30], conditions: {ready: true}}]
`, answers{{"empty.shop.svc.noempty.test A", "NOERROR 10.96.0.103"}, {"10-128-1-30.empty.shop.svc.cluster.local A", "NOERROR 10.128.1.30"}}},
	{"a pod's address", `
apiVersion: v1
kind: Pod
metadata: {name: db-pod, namespace: shop, labels: {app: db}}
spec: {nodeName: node-1, containers: [{name: db, image: example.com/db}]}
status: {phase: Running, podIP: 10.128.1.99, podIPs: [{ip: 10.128.1.99}]}
`, answers{{"10-128-1-99.shop.pod.verified.test A", "NOERROR 10.128.1.99"}, {"10-128-1-12.shop.pod.verified.test A", "NXDOMAIN"}}},
	{"a pod's end", `
apiVersion: v1
kind: Pod
metadata: {name: db-pod, namespace: shop, labels: {app: db}}
spec: {nodeName: node-1, containers: [{name: db, image: example.com/db}]}
status: {phase: Succeeded, podIP: 10.128.1.99, podIPs: [{ip: 10.128.1.99}]}
`, answers{{"10-128-1-99.shop.pod.verified.test A", "NXDOMAIN"}}},
}

func checkChanges(t *testing.T, g *godwit, plane *kube.Plane) {
	var slowest time.Duration
	for _, c := range changes {
		t.Run(c.what, func(t *testing.T) {
			apply(t, plane, c.manifest)
			slowest = max(slowest, g.becomes(t, c.want))
		})
	}
	t.Logf("the slowest change was answered after %v", slowest)
}

// object is a manifest that is enough for deleting one.
func object(apiVersion, kind, name string) string {
	return fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: %s, namespace: shop}\n", apiVersion, kind, name)
}

func checkDeletions(t *testing.T, g *godwit, plane *kube.Plane) {
	const slice = "discovery.k8s.io/v1"
	for _, step := range []struct {
		manifest string
		want     answers
	}{
		{object(slice, "EndpointSlice", "db-2"), answers{
			{"db.shop.svc.cluster.local AAAA", "NODATA"},
			{"db-0.db.shop.svc.cluster.local A", "NXDOMAIN"},
			{"fd00:128::10 PTR", "NXDOMAIN"},
		}},
		{object(slice, "EndpointSlice", "db-1"), answers{{"db.shop.svc.cluster.local A", "NXDOMAIN"}}},
		{object("v1", "Service", "db"), answers{{"db.shop.svc.cluster.local SRV", "NXDOMAIN"}}},
		{object(slice, "EndpointSlice", "web-1"), answers{
			{"web.shop.svc.cluster.local A", "NOERROR 10.96.0.101"},
			{"web.shop.svc.noempty.test A", "NXDOMAIN"},
			{"10-128-1-1.web.shop.svc.cluster.local A", "NXDOMAIN"},
		}},
		{object("v1", "Service", "web"), answers{
			{"web.shop.svc.cluster.local A", "NXDOMAIN"},
			{"10.96.0.101 PTR", "NXDOMAIN"},
			{"front.shop.svc.cluster.local A", "NODATA"},
		}},
		{object("v1", "Service", "outside"), answers{{"outside.shop.svc.cluster.local A", "NXDOMAIN"}}},
	} {
		remove(t, plane, step.manifest)
		g.becomes(t, step.want)
	}
	endNamespace(t, plane, "shop")
	g.becomes(t, answers{
		{"shop.svc.cluster.local A", "NXDOMAIN"},
		{"plain.shop.svc.cluster.local A", "NXDOMAIN"}, // the Service is there still
		{"1-2-3-4.shop.pod.cluster.local A", "NXDOMAIN"},
	})
}

// endNamespace deletes a namespace in the place of its controller, which would
// delete its contents first.
func endNamespace(t *testing.T, plane *kube.Plane, name string) {
	t.Helper()
	path := "/api/v1/namespaces/" + name
	if _, err := plane.Do(t.Context(), http.MethodDelete, path, nil); err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q},"spec":{"finalizers":[]}}`, name)
	if _, err := plane.Do(t.Context(), http.MethodPut, path+"/finalize", []byte(body)); err != nil {
		t.Fatal(err)
	}
}
