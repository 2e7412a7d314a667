package cluster

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godwit-dns/godwit/test/kube"
)

// logs collects what a Cluster logs, for the test's output when it fails.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

var discard = slog.New(slog.DiscardHandler)

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startPlane runs a real control plane, or skips where it cannot be built.
func startPlane(t *testing.T, opts kube.Options) (*kube.Plane, string) {
	t.Helper()
	if testing.Short() {
		t.Skip("a control plane takes seconds")
	}
	dir, err := kube.Build(t.Context(), os.Stderr)
	if err != nil {
		t.Skipf("the control plane cannot be built on this machine: %v", err)
	}
	opts.Binaries = dir
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	plane, err := kube.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plane.Stop() })
	if err := plane.InstallDNSAccount(ctx); err != nil {
		t.Fatal(err)
	}
	path, err := plane.Kubeconfig(ctx, kube.DNSAccount)
	if err != nil {
		t.Fatal(err)
	}
	return plane, path
}

// runCluster opens and runs a Cluster for the test's duration, or until stop.
func runCluster(t *testing.T, cfg Config) (c *Cluster, stop func()) {
	t.Helper()
	out := &logs{}
	cfg.Log = slog.New(slog.NewTextHandler(out, nil))
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop = start(t, c)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(out.String())
		}
	})
	return c, stop
}

// start runs a Cluster until stop, or the test's end.
func start(t *testing.T, c *Cluster) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

func contains(s, part string) bool { return strings.Contains(s, part) }

func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > limit {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(begin)
}

func service(name, ip string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: default}
spec:
  clusterIP: %s
  ports: [{name: http, port: 80}]
`, name, ip)
}

func slice(name, service, addr string) string {
	return fmt.Sprintf(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %s, namespace: default, labels: {kubernetes.io/service-name: %s}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [%s], conditions: {ready: true}}]
`, name, service, addr)
}

func (c *Cluster) has(name string) bool { return c.Service([]byte("default"), []byte(name)) != nil }

func (c *Cluster) addrs(name string) string {
	s := c.Service([]byte("default"), []byte(name))
	if s == nil {
		return "none"
	}
	set, _ := s.Find(&Match{})
	data, _ := set.Addresses(false, nil)
	var list []string
	for ; len(data) > 0; data = data[4:] {
		list = append(list, netip.AddrFrom4([4]byte(data)).String()+" ")
	}
	slices.Sort(list)
	return strings.Join(list, "")
}

func TestPlaneStreaming(t *testing.T) { testPlane(t, true) }

func TestPlaneList(t *testing.T) { testPlane(t, false) }

func testPlane(t *testing.T, streaming bool) {
	plane, config := startPlane(t, kube.Options{Streaming: streaming})
	apply := func(m string) {
		t.Helper()
		if err := plane.Apply(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	apply(service("web", "None") + "---" + slice("web-1", "web", "10.128.0.1"))
	cfg := Config{Kubeconfig: config, Snapshot: t.TempDir(), Pods: true}
	c, stop := runCluster(t, cfg)
	if took := eventually(t, 10*time.Second, "the first sync", c.Synced); took > 5*time.Second {
		t.Errorf("the first sync took %v", took)
	}
	if got := c.addrs("web"); got != "10.128.0.1 " {
		t.Errorf("web answers %q", got)
	}
	if !c.Namespace([]byte("kube-system")) || c.Namespace([]byte("nope")) {
		t.Error("the namespaces are not those of the cluster")
	}
	for _, r := range c.Stats().Resources {
		if r.Streaming != streaming {
			t.Errorf("%s: streaming is %v", r.Name, r.Streaming)
		}
	}
	apply(slice("web-2", "web", "10.128.0.2"))
	eventually(t, time.Second, "a new slice", func() bool { return len(c.addrs("web")) > 12 })
	if err := plane.Delete(t.Context(), slice("web-1", "web", "10.128.0.1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Second, "a deleted slice", func() bool { return c.addrs("web") == "10.128.0.2 " })

	plane.KillAPI()
	if c.addrs("web") != "10.128.0.2 " || !c.Synced() {
		t.Error("what was read is gone with the API server")
	}
	time.Sleep(2 * time.Second)
	if err := plane.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	ready := time.Now()
	apply(slice("web-3", "web", "10.128.0.3"))
	eventually(t, 5*time.Second, "a change after the API server's return", func() bool { return len(c.addrs("web")) > 12 })
	// A second is promised. The change itself and other tests beside this one take their part.
	if took := time.Since(ready); took > 2*time.Second {
		t.Errorf("the watch was back after %v", took)
	}

	testSnapshot(t, plane, cfg, c, stop, apply)
}

// testSnapshot holds that a new start without the API server serves what the old one left, and that what was deleted
// meanwhile is swept when the API server is back.
func testSnapshot(t *testing.T, plane *kube.Plane, cfg Config, c *Cluster, stop func(), apply func(string)) {
	changed := time.Now()
	apply(service("marker", "None"))
	eventually(t, 15*time.Second, "a snapshot", func() bool {
		info, err := os.Stat(cfg.Snapshot + "/" + snapshotName)
		return err == nil && info.ModTime().After(changed)
	})
	stop()
	apply(service("late", "10.96.7.7"))
	if err := plane.Delete(t.Context(), slice("web-2", "web", "10.128.0.2")); err != nil {
		t.Fatal(err)
	}
	plane.KillAPI()

	away, _ := runCluster(t, cfg)
	eventually(t, 5*time.Second, "serving the snapshot", away.Synced)
	if !away.Stats().FromSnapshot || away.addrs("web") != c.addrs("web") || away.has("late") {
		t.Errorf("the snapshot serves %q, not %q", away.addrs("web"), c.addrs("web"))
	}
	if err := plane.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the API server's own state", func() bool { return away.has("late") && away.addrs("web") == "10.128.0.3 " })
	eventually(t, time.Second, "to be said", func() bool { return !away.Stats().FromSnapshot })
}

// TestPlaneExpired holds that a watch whose version is compacted reads everything again.
func TestPlaneExpired(t *testing.T) {
	plane, config := startPlane(t, kube.Options{Streaming: true})
	for i := range 3 {
		if err := plane.Apply(t.Context(), service(fmt.Sprintf("s%d", i), "None")); err != nil {
			t.Fatal(err)
		}
	}
	stale, err := Open(Config{Kubeconfig: config})
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	plane.KillAPI()
	if err := plane.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range stale.readers {
		r.version, r.listed = "1", true
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); stale.Run(ctx) }()
	eventually(t, 5*time.Second, "a complete list after 410", func() bool { return stale.Synced() && stale.has("s2") })
	cancel()
	<-done
	if stale.Stats().Resources[1].Relists == 0 {
		t.Error("no list was read")
	}
}

// TestPlaneForbidden holds that a resource which may not be read is named, and read when it may.
func TestPlaneForbidden(t *testing.T) {
	plane, config := startPlane(t, kube.Options{Streaming: true})
	if err := plane.Forbid(t.Context(), "endpointslices"); err != nil {
		t.Fatal(err)
	}
	c, _ := runCluster(t, Config{Kubeconfig: config})
	eventually(t, 10*time.Second, "the refusal", func() bool { return c.Stats().Resources[2].Forbidden > 0 })
	if c.Synced() {
		t.Error("synced without the slices")
	}
	if err := plane.Forbid(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "sync once it is allowed", c.Synced)
}
