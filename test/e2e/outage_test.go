package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/godwit-dns/godwit/test/kube"
)

// clusterCorefile is a server for the cluster's names that everything else can
// be seen of too; {$OPTIONS} are more options of kubernetes.
const clusterCorefile = `
.:{$DNS} {
    bind 127.0.0.1
    errors
    ready 127.0.0.1:{$READY}
    health 127.0.0.1:{$HEALTH}
    prometheus 127.0.0.1:{$METRICS}
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig {$KUBECONFIG}
        import {$DIR}/options
    }
    loadbalance
}
`

// clusterServer prepares a server with clusterCorefile and these options.
func clusterServer(t *testing.T, plane *kube.Plane, options string) *godwit {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "options"), options+"\n")
	return prepare(t, clusterCorefile, "DIR="+dir, "KUBECONFIG="+kubeconfig(t, plane, kube.DNSAccount))
}

// service is a Service with an address in the namespace steady, which the
// prober does not ask for.
func service(name string, last int) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: steady}
spec: {clusterIP: 10.96.0.%d, clusterIPs: [10.96.0.%[2]d], ports: [{name: http, port: 80}]}
`, name, last)
}

func serviceAnswer(name string, last int) answers {
	return answers{{name + ".steady.svc.cluster.local A", fmt.Sprintf("NOERROR 10.96.0.%d", last)}}
}

// testOutage kills the API server and brings it back.
func testOutage(t *testing.T, plane *kube.Plane) {
	apply(t, plane, steady)
	g := clusterServer(t, plane, "").launch(t).serving(t)
	background := probe(t, g)
	plane.KillAPI()
	time.Sleep(3 * time.Second) // the prober asks on
	if got := g.status(g.ready, "/ready"); got != http.StatusOK {
		t.Errorf("/ready while the API server is away: %d", got)
	}
	if !strings.Contains(g.out.String(), "lost the API server") {
		t.Error("the loss is not in the log")
	}
	startAPI(t, plane)
	ready := time.Now()
	apply(t, plane, service("late", 211))
	defer remove(t, plane, service("late", 211))
	g.becomes(t, serviceAnswer("late", 211))
	t.Logf("a new Service was answered %v after the API server was ready again", time.Since(ready))
	// One that stands still keeps its connections.
	if err := plane.PauseAPI(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if err := plane.ResumeAPI(); err != nil {
		t.Fatal(err)
	}
	apply(t, plane, service("later", 212))
	defer remove(t, plane, service("later", 212))
	t.Logf("a new Service was answered %v after a pause", g.becomes(t, serviceAnswer("later", 212)))
	background.end(t)
}

func startAPI(t *testing.T, plane *kube.Plane) {
	t.Helper()
	if err := plane.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
}

const relists = `godwit_kubernetes_relists{resource="services"}`

// testExpired has the API server forget the version that the watch is at.
func testExpired(t *testing.T, plane *kube.Plane) {
	apply(t, plane, steady)
	apply(t, plane, service("doomed", 213))
	g := clusterServer(t, plane, "").launch(t).serving(t)
	background := probe(t, g)
	g.becomes(t, serviceAnswer("doomed", 213))
	before := g.number(t, relists)
	// Versions are the store's revisions: what nobody watches moves them too.
	for i := range 3 {
		apply(t, plane, fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: filler-%d, namespace: default}\ndata: {at: %q}\n", i, time.Now()))
	}
	if err := plane.PauseAPI(); err != nil {
		t.Fatal(err)
	}
	plane.KillAPI()
	if err := plane.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	startAPI(t, plane)
	remove(t, plane, service("doomed", 213))
	g.becomes(t, answers{{"doomed.steady.svc.cluster.local A", "NXDOMAIN"}})
	eventually(t, 10*time.Second, "every resource is read again", func() bool { return g.number(t, relists) > before })
	if log := g.out.String(); !strings.Contains(log, "the watch is too old to go on") || !strings.Contains(log, "410") {
		t.Error("410 is not in the log")
	}
	background.end(t)
}

// forbiddenCount is the metric that names a resource which may not be read.
func forbiddenCount(resource string) string {
	return fmt.Sprintf("godwit_kubernetes_forbidden{resource=%q}", resource)
}

// forbidden reports whether an error in the log names the resource.
func forbidden(g *godwit, resource string) bool {
	for line := range strings.Lines(g.out.String()) {
		if strings.HasPrefix(line, "[ERROR] the API server forbids") && strings.Contains(line, "resource="+resource+" ") {
			return true
		}
	}
	return false
}

// testForbidden takes rights away from the DNS account while its server runs.
func testForbidden(t *testing.T, plane *kube.Plane) {
	apply(t, plane, steady)
	g := clusterServer(t, plane, "pods verified").launch(t).serving(t)
	background := probe(t, g)
	forbid(t, plane, "pods")
	defer forbid(t, plane)
	const pod = `
apiVersion: v1
kind: Pod
metadata: {name: late, namespace: steady}
spec: {nodeName: node-1, containers: [{name: late, image: example.com/late}]}
status: {phase: Running, podIP: 10.128.250.1, podIPs: [{ip: 10.128.250.1}]}
`
	defer remove(t, plane, pod)
	// A watch goes on until it ends.
	plane.KillAPI()
	startAPI(t, plane)
	eventually(t, 10*time.Second, "the refusal is counted", func() bool { return g.number(t, forbiddenCount("pods")) > 0 })
	apply(t, plane, pod)
	apply(t, plane, service("allowed", 214))
	defer remove(t, plane, service("allowed", 214))
	g.becomes(t, serviceAnswer("allowed", 214))
	// While the API server starts it may forbid everything for a moment; that is
	// counted, but not logged.
	eventually(t, 30*time.Second, "the log names what is forbidden", func() bool { return forbidden(g, "pods") })
	pods, services := g.number(t, forbiddenCount("pods")), g.number(t, forbiddenCount("services"))
	eventually(t, 10*time.Second, "another refusal", func() bool { return g.number(t, forbiddenCount("pods")) > pods })
	if n := g.number(t, forbiddenCount("services")); n != services {
		t.Errorf("services were forbidden %v times more", n-services)
	}
	if forbidden(g, "services") || forbidden(g, "namespaces") || forbidden(g, "endpointslices") {
		t.Error("the log names what is not forbidden")
	}
	forbid(t, plane)
	eventually(t, 40*time.Second, "pods are read when they may be", func() bool {
		return strings.HasPrefix(g.ask("10-128-250-1.steady.pod.cluster.local A"), "NOERROR")
	})
	background.end(t)
}

// testForbiddenStart begins without a right.
func testForbiddenStart(t *testing.T, plane *kube.Plane) {
	apply(t, plane, steady)
	forbid(t, plane, "endpointslices")
	defer forbid(t, plane)
	g := clusterServer(t, plane, "startup_timeout 1s").launch(t).serving(t)
	g.check(t, answers{
		{"web.steady.svc.cluster.local A", "NOERROR 10.96.0.200"},
		{"db.steady.svc.cluster.local A", "SERVFAIL"}, // it may have endpoints
	})
	if n := g.number(t, forbiddenCount("endpointslices")); n == 0 {
		t.Error("the refusal is not counted")
	}
	if !forbidden(g, "endpointslices") {
		t.Error("the log does not name the resource that is forbidden")
	}
	if got := g.status(g.ready, "/ready"); got != http.StatusServiceUnavailable {
		t.Errorf("/ready: %d", got)
	}
	forbid(t, plane)
	eventually(t, 40*time.Second, "ready when it is allowed", func() bool { return g.status(g.ready, "/ready") == http.StatusOK })
	g.check(t, steadyAnswers)
}

func forbid(t *testing.T, plane *kube.Plane, resources ...string) {
	t.Helper()
	if err := plane.Forbid(t.Context(), resources...); err != nil {
		t.Fatal(err)
	}
}

// testAway starts servers while the API server is away: one without a
// snapshot, one with, and one that may fall through.
func testAway(t *testing.T, plane *kube.Plane) {
	apply(t, plane, steady)
	apply(t, plane, service("doomed", 216))
	folder := t.TempDir()
	kept := clusterServer(t, plane, "snapshot "+folder).launch(t).serving(t)
	kept.becomes(t, append(serviceAnswer("doomed", 216), steadyAnswers...))
	eventually(t, 20*time.Second, "a snapshot", func() bool {
		files, err := os.ReadDir(folder)
		return err == nil && len(files) == 1 && !strings.HasSuffix(files[0].Name(), ".tmp")
	})
	bare := clusterServer(t, plane, "startup_timeout 1s")
	falling := clusterServer(t, plane, "startup_timeout 1s\nfallthrough")
	write(t, falling.corefile, strings.Replace(clusterCorefile, "loadbalance", "file {$TESTDATA}/db.fallback cluster.local", 1))
	kept.stop(t)
	remove(t, plane, service("doomed", 216)) // which the snapshot does not know
	plane.KillAPI()
	defer func() {
		startAPI(t, plane)
		kept.becomes(t, answers{{"doomed.steady.svc.cluster.local A", "NXDOMAIN"}})
		bare.becomes(t, steadyAnswers)
		eventually(t, 5*time.Second, "ready", func() bool { return bare.status(bare.ready, "/ready") == http.StatusOK })
		eventually(t, 5*time.Second, "no snapshot any more", func() bool { return kept.number(t, "godwit_kubernetes_from_snapshot") == 0 })
		apply(t, plane, service("since", 215))
		kept.becomes(t, serviceAnswer("since", 215))
		bare.becomes(t, serviceAnswer("since", 215))
		remove(t, plane, service("since", 215))
	}()
	kept = kept.again().launch(t)
	bare.launch(t)
	falling.launch(t)
	bare.serving(t)
	bare.check(t, answers{
		{"web.steady.svc.cluster.local A", "SERVFAIL"},
		{"cluster.local A", "NODATA"},
		{"svc.cluster.local A", "NODATA"},
	})
	if got := bare.status(bare.ready, "/ready"); got != http.StatusServiceUnavailable {
		t.Errorf("/ready without anything read: %d", got)
	}
	if got := bare.status(bare.health, "/health"); got != http.StatusOK {
		t.Errorf("/health: %d", got)
	}
	falling.serving(t)
	falling.check(t, answers{{"web.steady.svc.cluster.local A", "NOERROR 192.0.2.99"}})
	kept.serving(t)
	kept.check(t, append(serviceAnswer("doomed", 216), steadyAnswers...))
	if got := kept.number(t, "godwit_kubernetes_from_snapshot"); got != 1 {
		t.Errorf("godwit_kubernetes_from_snapshot is %v", got)
	}
}

// TestStartup holds startup_timeout: how long the start waits for an API
// server that takes connections and says nothing.
func TestStartup(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for limit, bounds := range map[string][2]time.Duration{"500ms": {400 * time.Millisecond, 3 * time.Second}, "3s": {2900 * time.Millisecond, 6 * time.Second}} {
		g := prepare(t, strings.Replace(clusterCorefile, "kubeconfig {$KUBECONFIG}", "endpoint http://"+l.Addr().String(), 1), "DIR="+t.TempDir())
		write(t, g.corefile, strings.Replace(read(t, g.corefile), "import {$DIR}/options", "startup_timeout "+limit, 1))
		begin := time.Now()
		g.launch(t)
		// Whoever probes it meanwhile gets an answer.
		eventually(t, 2*time.Second, "/health", func() bool { return g.status(g.health, "/health") == http.StatusOK })
		if got := g.status(g.ready, "/ready"); got != http.StatusServiceUnavailable {
			t.Errorf("/ready while it starts: %d", got)
		}
		if strings.Contains(g.out.String(), runtime.GOARCH) {
			t.Errorf("it served before its probes were answered, %v after its start", time.Since(begin))
		}
		g.serving(t)
		if took := time.Since(begin); took < bounds[0] || took > bounds[1] {
			t.Errorf("startup_timeout %s: the start took %v", limit, took)
		}
		g.check(t, answers{{"web.steady.svc.cluster.local A", "SERVFAIL"}})
		g.stop(t)
	}
}
