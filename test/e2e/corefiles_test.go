package e2e_test

import (
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godwit-dns/godwit/test/kube"
)

// kubeDNS is the Service whose pod the program is.
const kubeDNS = `
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10], ports: [{name: dns, port: 53, protocol: UDP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-1, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: dns, port: 53, protocol: UDP}]
endpoints: [{addresses: [` + podAddress + `], conditions: {ready: true}}]
---
apiVersion: v1
kind: Service
metadata: {name: foo, namespace: default}
spec: {clusterIP: 10.96.0.201, clusterIPs: [10.96.0.201], ports: [{port: 80}]}
`

// testCorefiles runs the Corefiles that users have as they run them: on port
// 53 of a pod, with a pod's credentials.
func testCorefiles(t *testing.T, plane *kube.Plane) {
	w := newWorld(t, plane)
	apply(t, plane, steady+"---"+kubeDNS)
	for _, c := range []struct {
		name  string
		check func(*testing.T, *world, *godwit)
		files map[string]string
	}{
		{"k8s-default-2025", checkDefault, nil},
		{"k8s-kubeadm-2026", checkKubeadm, nil},
		{"k8s-2019-upstream", checkUpstream, nil},
		{"k8s-2019-proxy", checkProxy, nil},
		{"k8s-hosts-2019", checkHosts, nil},
		{"k8s-hosts-trap", checkTrap, nil},
		{"two-ports-four-blocks", checkBlocks, map[string]string{
			"zones/coredns.io.db": zoneFile("192.0.2.1"), "zones/example.io.db": zoneFile("192.0.2.2"),
			"zones/example.net.db": zoneFile("192.0.2.3"), "example.db": zoneFile("192.0.2.4"),
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := w.prepare(t, read(t, "testdata/corefiles/"+c.name+".Corefile"), c.files).launch(t).serving(t)
			w.upstream.took()
			c.check(t, w, g)
		})
	}
	t.Run("deploy", func(t *testing.T) {
		g := w.prepare(t, deployed(t), nil).launch(t).serving(t)
		w.upstream.took()
		checkCommon(t, w, g)
		wantWarnings(t, g)
	})
}

func zoneFile(address string) string {
	return "$TTL 60\n@ IN SOA ns hostmaster 1 7200 1800 86400 60\n@ IN NS ns\nns IN A " + address + "\nwww IN A " + address + "\n"
}

// deployed is the Corefile of deploy's ConfigMap.
func deployed(t *testing.T) string {
	t.Helper()
	_, text, ok := strings.Cut(read(t, "../../deploy/config.yaml"), "  Corefile: |\n")
	if !ok {
		t.Fatal("no Corefile in deploy/config.yaml")
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimPrefix(line, "    "))
	}
	return b.String()
}

// wantWarnings holds that the log warns of a line of the Corefile just as
// often as there are wants, and that each warning has all words of its want.
func wantWarnings(t *testing.T, g *godwit, wants ...[]string) {
	t.Helper()
	var warnings []string
	for line := range strings.Lines(g.out.String()) {
		if strings.HasPrefix(line, "[WARNING] /etc/coredns/Corefile:") {
			warnings = append(warnings, strings.TrimSpace(line))
		}
		if strings.HasPrefix(line, "[ERROR]") {
			t.Error(line)
		}
	}
	if len(warnings) != len(wants) {
		t.Errorf("%d warnings, want %d: %q", len(warnings), len(wants), warnings)
		return
	}
	for i, words := range wants {
		for _, word := range words {
			if !strings.Contains(warnings[i], word) {
				t.Errorf("%q is not in the warning: %s", word, warnings[i])
			}
		}
	}
}

var outsideAnswers = answers{
	{"www.example.com A", "NOERROR 192.0.2.100"},
	{"www.example.com A tcp", "NOERROR 192.0.2.100"},
	{"www.example.com AAAA", "NODATA"},
	{"www.example.org A", "NXDOMAIN"},
	{"198.51.100.1 PTR", "NXDOMAIN"},
	{"www.example.com.steady.svc.cluster.local A", "NXDOMAIN"},
}

// checkCommon is what every good Corefile for a cluster does.
func checkCommon(t *testing.T, w *world, g *godwit) {
	t.Helper()
	g.becomes(t, steadyAnswers)
	g.check(t, outsideAnswers)
	if code := g.status(g.health, "/health"); code != http.StatusOK {
		t.Errorf("/health: %d", code)
	}
	if code, text, err := g.get("http://" + g.metrics + "/metrics"); code != http.StatusOK || !strings.Contains(text, "coredns_build_info{") {
		t.Errorf("/metrics: %d, %v: %s", code, err, text)
	}
	// The cache has them.
	w.upstream.took()
	g.check(t, outsideAnswers)
	if asked := w.upstream.took(); len(asked) > 0 {
		t.Errorf("the upstream was asked again for %q", asked)
	}
}

func checkDefault(t *testing.T, w *world, g *godwit) {
	checkCommon(t, w, g)
	checkReady(t, g)
	wantWarnings(t, g)
	g.check(t, answers{
		{"cluster.local NS", "NOERROR kube-dns.kube-system.svc.cluster.local. / kube-dns.kube-system.svc.cluster.local. A 10.96.0.10"},
		{"ns.dns.cluster.local A", "NOERROR 10.96.0.10"},
	})
}

func checkReady(t *testing.T, g *godwit) {
	t.Helper()
	eventually(t, 5*time.Second, "/ready", func() bool { return g.status(g.ready, "/ready") == http.StatusOK })
}

// checkKubeadm also holds that cluster names are never old, and how the pod
// ends: it answers during its lameduck.
func checkKubeadm(t *testing.T, w *world, g *godwit) {
	checkDefault(t, w, g)
	g.check(t, answers{{"moving.steady.svc.cluster.local A", "NXDOMAIN"}})
	apply(t, w.plane, service("moving", 220))
	t.Logf("a new name was answered after %v", g.becomes(t, serviceAnswer("moving", 220)))
	remove(t, w.plane, service("moving", 220))
	t.Logf("its end was answered after %v", g.becomes(t, answers{{"moving.steady.svc.cluster.local A", "NXDOMAIN"}}))

	begin := time.Now()
	g.signal(t, syscall.SIGTERM)
	eventually(t, time.Second, "not ready any more", func() bool { return g.status(g.ready, "/ready") != http.StatusOK })
	for time.Since(begin) < 4*time.Second {
		g.check(t, steadyAnswers)
		g.check(t, outsideAnswers)
		if code := g.status(g.health, "/health"); code != http.StatusOK {
			t.Errorf("/health during the lameduck: %d", code)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if code := g.wait(t, 20*time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(begin); took < 5*time.Second || took > 10*time.Second {
		t.Errorf("the end took %v, with a lameduck of 5s", took)
	}
}

func checkUpstream(t *testing.T, w *world, g *godwit) {
	checkCommon(t, w, g)
	wantWarnings(t, g, []string{":6:8:", "upstream", "obsolete"})
}

func checkProxy(t *testing.T, w *world, g *godwit) {
	checkCommon(t, w, g)
	wantWarnings(t, g, []string{":7:7:", "upstream", "obsolete"}, []string{":11:5:", "proxy", "forward . /etc/resolv.conf"})
	const line = `"A IN www.example.com. udp `
	eventually(t, time.Second, "a query is in the log", func() bool { return strings.Contains(g.out.String(), line) })
}

func checkHosts(t *testing.T, w *world, g *godwit) {
	g.becomes(t, steadyAnswers[:5]) // its reverse zone is another one
	g.check(t, outsideAnswers)
	g.check(t, answers{
		{"registry A", "NOERROR 10.255.0.170"},
		{"paas-nacos-config A", "NOERROR 10.127.0.16"},
		{"10.255.0.170 PTR", "NOERROR registry."},
		{"10.127.0.16 PTR", "NOERROR paas-nacos-config. paas-nacos-register."},
		{"localhost A", "NOERROR 127.0.0.1"},
	})
	w.upstream.took()
	g.check(t, answers{{"10.254.3.4 PTR", "NXDOMAIN"}, {"10.96.0.200 PTR", "NXDOMAIN"}})
	if asked := w.upstream.took(); !slices.Equal(asked, []string{"4.3.254.10.in-addr.arpa. PTR", "200.0.96.10.in-addr.arpa. PTR"}) {
		t.Errorf("the upstream was asked for %q", asked)
	}
	checkReady(t, g)
	wantWarnings(t, g)
}

// checkTrap: hosts stands in front of kubernetes and forward, and lets only
// reverse names through.
func checkTrap(t *testing.T, w *world, g *godwit) {
	checkReady(t, g)
	g.check(t, answers{
		{"www.test11.com A", "NOERROR 11.11.11.11"},
		{"www.test22.com A", "NOERROR 11.11.11.22"},
		{"11.11.11.11 PTR", "NOERROR www.test11.com."},
		{"web.steady.svc.cluster.local A", "SERVFAIL"},
		{"nobody.steady.svc.cluster.local A", "SERVFAIL"},
		{"www.example.com A", "SERVFAIL"},
		{"10.96.0.200 PTR", "NOERROR web.steady.svc.cluster.local."},
	})
	var warnings []string
	for line := range strings.Lines(g.out.String()) {
		if strings.HasPrefix(line, "[WARNING] /etc/coredns/Corefile:") {
			warnings = append(warnings, line)
		}
	}
	if len(warnings) != 1 || !(strings.Contains(warnings[0], ":13:") || strings.Contains(warnings[0], ":16:")) ||
		!strings.Contains(warnings[0], "hosts") || !strings.Contains(warnings[0], "fallthrough") {
		t.Errorf("no warning that names the line and what to write: %q", warnings)
	}
}

// checkBlocks: the longest zone of a port wins.
func checkBlocks(t *testing.T, w *world, g *godwit) {
	second := podAddress + ":5300"
	for _, one := range []struct{ server, question, want string }{
		{g.dns, "www.example.io A", "NOERROR 192.0.2.2"},
		{g.dns, "www.example.net A", "NOERROR 192.0.2.3"},
		{g.dns, "www.example.org A", "NOERROR 192.0.2.4"},
		{second, "www.coredns.io A", "NOERROR 192.0.2.1"},
		{second, "www.example.io A", "REFUSED"},
		{second, "www.example.com A", "REFUSED"},
		{g.dns, "www.coredns.io A", "NXDOMAIN"}, // the upstream says so
		{g.dns, "nobody.example.io A", "NXDOMAIN"},
		{g.dns, "foo.example.com A", "NOERROR 10.96.0.201"},
		{g.dns, "foo.default.svc.cluster.local A", "NOERROR 10.96.0.201"},
		{g.dns, "10.0.0.77 PTR", "NXDOMAIN"},
		{g.dns, "www.example.com A", "NOERROR 192.0.2.100"},
	} {
		if got := askAt(w.dial, one.server, question(one.question)); got != one.want {
			t.Errorf("%s at %s: %s, want %s", one.question, one.server, got, one.want)
		}
	}
	asked := w.upstream.took()
	if want := []string{"www.coredns.io. A", "www.example.com. A"}; !slices.Equal(asked, want) {
		t.Errorf("the upstream was asked for %q, want %q", asked, want)
	}
	// Lines are written some milliseconds later.
	for _, name := range []string{"www.example.io.", "foo.default.svc.cluster.local.", "www.example.com."} {
		eventually(t, time.Second, name+" is in the log", func() bool { return strings.Contains(g.out.String(), `"A IN `+name+` udp `) })
	}
	if strings.Contains(g.out.String(), "www.example.net.") {
		t.Error("a block without log has logged")
	}
	wantWarnings(t, g)
}

// TestEncrypted runs the DNS over TLS servers, with and without certificate.
func TestEncrypted(t *testing.T) {
	w := newWorld(t, nil)
	zone := map[string]string{"db.example.net": read(t, "testdata/corefiles/db.example.net")}
	t.Run("dot-server", func(t *testing.T) {
		g := w.prepare(t, read(t, "testdata/corefiles/dot-server.Corefile"), zone).launch(t).serving(t)
		g.check(t, answers{
			{"www.example.net A tcp", "NOERROR 192.0.2.80"},
			{"api.example.net A tcp", "NOERROR 192.0.2.80 CNAME:www.example.net."},
			{"nobody.example.net A tcp", "NXDOMAIN"},
			{"www.example.com A tcp", "REFUSED"},
		})
		if got := g.ask("www.example.net A"); !strings.HasPrefix(got, "error: ") {
			t.Errorf("over UDP: %s", got)
		}
		wantWarnings(t, g, []string{":1:1:", "tls", "plain DNS"})
	})
	certFile, keyFile := t.TempDir()+"/cert.pem", t.TempDir()+"/key.pem"
	writePair(t, w.authority.issue(t, "example.net"), certFile, keyFile)
	zone["cert.pem"], zone["key.pem"] = read(t, certFile), read(t, keyFile)
	corefile := read(t, "testdata/corefiles/dot-server-cert.Corefile")
	t.Run("dot-server-cert", func(t *testing.T) {
		g := w.prepare(t, corefile, zone).launch(t).serving(t)
		w.checkTLS(t, g, "www.example.net A", "192.0.2.80")
		w.checkTLS(t, g, "www.example.net AAAA", "2001:db8::80")
		w.checkTLS(t, g, "api.example.net A", "www.example.net.\n192.0.2.80")
		if got := g.ask("www.example.net A tcp"); !strings.HasPrefix(got, "error: ") {
			t.Errorf("in plain text: %s", got)
		}
		wantWarnings(t, g)
		if asked := w.public.took(); len(asked) > 0 {
			t.Errorf("the zone's names were asked for elsewhere: %q", asked)
		}
	})
	// The file answers all of its zone, so that forward is only seen to work
	// with a zone that has none.
	t.Run("forward", func(t *testing.T) {
		all := strings.NewReplacer("tls://example.net:53", "tls://.:53", "    file db.example.net\n", "").Replace(corefile)
		g := w.prepare(t, all, zone).launch(t).serving(t)
		for i := range 5 {
			w.checkTLS(t, g, fmt.Sprintf("www%d.example.com A", i), "192.0.2.200")
		}
		if asked := w.public.took(); len(asked) != 5 {
			t.Errorf("the public server was asked for %q", asked)
		}
		wantWarnings(t, g)
	})
}

// checkTLS asks over TLS with kdig, which checks the certificate.
func (w *world) checkTLS(t *testing.T, g *godwit, question, want string) {
	t.Helper()
	ca := g.dir + "/../authority.pem"
	args := append([]string{"netns", "exec", w.around, "kdig", "@" + podAddress, "-p", "53", "+short", "+retry=0", "+timeout=3",
		"+tls-ca=" + ca, "+tls-hostname=example.net"}, strings.Fields(question)...)
	out, err := exec.Command("ip", args...).CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != want {
		t.Errorf("%s over TLS: %v: %s, want %s", question, err, got, want)
	}
}
