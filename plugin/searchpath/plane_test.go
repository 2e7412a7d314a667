package searchpath_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/plugin/searchpath"
	"github.com/godwit-dns/godwit/test/kube"
)

const account = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: node-local-dns, namespace: kube-system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: default}
`

// aPod is a pod as a kubelet would have it running.
func aPod(name, node, addr string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: default}
spec:
  nodeName: %s
  containers: [{name: app, image: registry.example/app}]
  dnsConfig: {searches: [own.example], options: [{name: ndots, value: "3"}]}
status:
  phase: Running
  podIP: %s
  podIPs: [{ip: %s}, {ip: "fd00::%s"}]
  startTime: "2026-01-01T00:00:00Z"
`, name, node, addr, addr, addr[strings.LastIndexByte(addr, '.')+1:])
}

// agent is a configuration at work against a real API server.
type agent struct {
	*chaintest.Bench
	stop func()
}

// startAgent builds and starts the configuration as a process would; the error is what it would be refused with.
func startAgent(t *testing.T, w *truth, kubeconfig string) (*agent, error) {
	t.Helper()
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolv, []byte("search corp.example\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("cluster.local {\nsearchpath {\nnode worker-1\nkubeconfig %s\nresolv_conf %s\n}\ntruth\n}\n. {\ntruth\n}\n", kubeconfig, resolv)
	a := &agent{Bench: chaintest.New(t, text, chaintest.Options{Specs: []chain.Spec{searchpath.Spec, w.spec()}})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, task := range a.Config.Tasks {
			if err := task(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	}()
	a.stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(a.stop)
	for _, f := range a.Config.Starts {
		if err := f(ctx); err != nil {
			a.stop()
			return nil, err
		}
	}
	return a, nil
}

// value is a metric of the agent's.
func (a *agent) value(name string, labels ...metrics.Label) float64 {
	for _, f := range a.Env.Metrics.Families() {
		for _, s := range f.Series() {
			switch s := s.(type) {
			case *metrics.Counter:
				if f.Name == name && fmt.Sprint(s.Labels) == fmt.Sprint(labels) {
					return float64(s.Value())
				}
			case *metrics.GaugeFunc:
				if f.Name == name {
					return s.Value()
				}
			}
		}
	}
	return -1
}

// lookup is a glibc's in a pod; it gives the questions it took.
func (a *agent) lookup(t *testing.T, addr, name string) (o outcome, asked int) {
	n := &node{t: t, Bench: a.Bench}
	p := pod{netip.AddrPortFrom(netip.MustParseAddr(addr), 4242),
		conf{search: []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example", "own.example"}, ndots: 3}}
	return glibc(name, both, p.conf, n.from(p)), n.asked
}

// TestRealAPIServer: without the role the line is refused with the role to apply; with it the pods of the node, and no
// others, are followed; without the API server nothing is completed.
func TestRealAPIServer(t *testing.T) {
	if testing.Short() {
		t.Skip("a control plane takes seconds")
	}
	dir, err := kube.Build(t.Context(), os.Stderr)
	if err != nil {
		t.Skipf("the control plane cannot be built on this machine: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	plane, err := kube.Start(ctx, kube.Options{Streaming: true, Binaries: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plane.Stop() })
	apply := func(text string) {
		t.Helper()
		if err := plane.Apply(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	apply(account)
	apply(aPod("old", "worker-1", "10.1.0.1"))
	apply(aPod("elsewhere", "worker-2", "10.1.0.2"))
	config, err := plane.Kubeconfig(ctx, "kube-system/node-local-dns")
	if err != nil {
		t.Fatal(err)
	}
	w := &truth{names: map[string][2]fact{"www.example.": {address, address}, "db.own.example.": {address, noRecord}}}
	a := refusedThenAllowed(t, w, config, apply)
	testPods(t, a, apply)

	plane.KillAPI()
	time.Sleep(6 * time.Second)
	if _, asked := a.lookup(t, "10.1.0.3", "www.example"); asked != 12 || a.value("godwit_searchpath_left_alone_total", metrics.L("reason", "watch")...) == 0 {
		t.Errorf("without the API server a lookup takes %d questions", asked)
	}
	if err := plane.StartAPI(ctx); err != nil {
		t.Fatal(err)
	}
	back := func() bool {
		_, asked := a.lookup(t, "10.1.0.3", "www.example")
		return asked == 2
	}
	eventually(t, "completion after the API server's return", back)
	if err := plane.Delete(ctx, aPod("new", "worker-1", "10.1.0.3")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a pod to be forgotten", func() bool { return a.value("godwit_searchpath_addresses") == 2 })
}

// refusedThenAllowed starts an agent with what its refusal said.
func refusedThenAllowed(t *testing.T, w *truth, config string, apply func(string)) (a *agent) {
	t.Helper()
	_, err := startAgent(t, w, config)
	if err == nil {
		t.Fatal("the line was taken without the role")
	}
	_, role, ok := strings.Cut(err.Error(), "with kubectl:\n")
	if !ok || !strings.Contains(err.Error(), "Corefile:2:1") || !strings.Contains(role, "name: node-local-dns\n  namespace: kube-system") {
		t.Fatalf("refused with: %v", err)
	}
	apply(role)
	eventually(t, "the role to be in force", func() bool {
		a, err = startAgent(t, w, config)
		return err == nil
	})
	return a
}

func testPods(t *testing.T, a *agent, apply func(string)) {
	t.Helper()
	eventually(t, "the node's pod", func() bool { return a.value("godwit_searchpath_addresses") == 2 })
	for _, addr := range []string{"10.1.0.1", "fd00::1"} {
		for _, name := range []string{"www.example", "db"} {
			first, walked := a.lookup(t, addr, name)
			again, asked := a.lookup(t, addr, name)
			if addr == "10.1.0.1" && walked < 10 || asked != 2 || len(first.addrs) == 0 || !first.equal(again) {
				t.Errorf("%s from %s: %v in %d questions, then %v in %d", name, addr, first, walked, again, asked)
			}
		}
	}
	for range 2 {
		if _, asked := a.lookup(t, "10.1.0.2", "www.example"); asked != 12 {
			t.Errorf("another node's pod is helped: %d questions", asked)
		}
	}
	// A pod that comes while we watch is left alone for its first five seconds.
	apply(aPod("new", "worker-1", "10.1.0.3"))
	eventually(t, "a new pod", func() bool { return a.value("godwit_searchpath_addresses") == 4 })
	for range 3 {
		if _, asked := a.lookup(t, "10.1.0.3", "www.example"); asked != 12 {
			t.Errorf("a pod that has just begun is helped: %d questions", asked)
		}
	}
	a.Advance(6 * time.Second)
	a.lookup(t, "10.1.0.3", "www.example")
	if o, asked := a.lookup(t, "10.1.0.3", "www.example"); asked != 2 || len(o.addrs) != 2 {
		t.Errorf("a pod of six seconds: %v in %d questions", o, asked)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not happen: %s", what)
		}
	}
}

func TestMistakes(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	w := &truth{names: map[string][2]fact{}}
	for _, c := range []struct{ text, want string }{
		{"cluster.local {\n searchpath\n}", "no way to the Kubernetes API server"},
		{"cluster.local {\n searchpath a b\n}", "one cluster domain"},
		{"cluster.local {\n searchpath .\n}", "no cluster domain"},
		{"cluster.local {\n searchpath\n searchpath\n}", "only once"},
		{"cluster.local {\n searchpath {\n endpoint http://127.0.0.1:1\n }\n}", "valueFrom: {fieldRef: {fieldPath: spec.nodeName}}"},
		{"cluster.local {\n searchpath {\n node n\n endpoint http://127.0.0.1:1\n resolv_conf /nonexistent\n }\n}", "resolv_conf"},
		{"cluster.local {\n searchpath {\n manifests /nonexistent\n }\n}", "manifests do not load"},
		{"cluster.local {\n truth\n}\n. {\n searchpath {\n node n\n endpoint http://127.0.0.1:1\n }\n}", "no query for svc.cluster.local"},
		{"example.org {\n searchpath cluster.local {\n node n\n endpoint http://127.0.0.1:1\n }\n}", "no query for svc.cluster.local"},
	} {
		_, err := chaintest.Build(t, c.text, chaintest.Options{Specs: []chain.Spec{searchpath.Spec, w.spec()}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n: %v, want %s", c.text, err, c.want)
		}
	}
}

// TestStartsWithoutTheAPIServer: a node's DNS does not wait for a control plane that is away.
func TestStartsWithoutTheAPIServer(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config")
	text := `{apiVersion: v1, kind: Config, current-context: x, clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}],
contexts: [{name: x, context: {cluster: c, user: u}}], users: [{name: u, user: {}}]}`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &truth{names: map[string][2]fact{"www.example.": {address, address}}}
	begin := time.Now()
	a, err := startAgent(t, w, config)
	if err != nil || time.Since(begin) > 4*time.Second {
		t.Fatalf("after %v: %v", time.Since(begin), err)
	}
	if o, asked := a.lookup(t, "10.1.0.1", "www.example"); len(o.addrs) != 2 || asked != 12 {
		t.Errorf("%v in %d questions", o, asked)
	}
	if !strings.Contains(a.Log.String(), "have not been read yet") {
		t.Errorf("the log does not say so: %s", a.Log)
	}
}
