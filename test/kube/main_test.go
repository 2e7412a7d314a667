package kube_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/test/kube"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a control plane for one test. Machines on which the programs can
// not be built skip it; a control plane that does not start is a failure.
func start(t *testing.T, opts kube.Options) *kube.Plane {
	t.Helper()
	if opts.Binaries == "" {
		dir, err := kube.Build(t.Context(), os.Stderr)
		if err != nil {
			t.Skipf("the control plane can not be built on this machine: %v", err)
		}
		opts.Binaries = dir
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	plane, err := kube.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plane.Stop(); err != nil {
			t.Error(err)
		}
	})
	return plane
}

// oneService is a Service with one endpoint.
const oneService = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  namespace: default
  labels: {kubernetes.io/service-name: web}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.128.0.1], conditions: {ready: true}}]
`

// event is a watch event, or the Status that takes its place when it is ERROR.
type event struct {
	Type   string `json:"type"`
	Object struct {
		Metadata struct {
			Name        string            `json:"name"`
			Version     string            `json:"resourceVersion"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"object"`
}

// watch opens a watch of the cluster's EndpointSlices. It returns the HTTP
// status and, when that is 200, a function that reads the next event.
func watch(t *testing.T, plane *kube.Plane, query url.Values) (int, func() event) {
	t.Helper()
	query.Set("watch", "1")
	query.Set("allowWatchBookmarks", "true")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, plane.URL()+"/apis/discovery.k8s.io/v1/endpointslices?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := plane.HTTPClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return resp.StatusCode, func() event {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("the watch ended: %v", lines.Err())
		}
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%v in %s", err, lines.Text())
		}
		return e
	}
}

var streamingList = url.Values{"sendInitialEvents": {"true"}, "resourceVersionMatch": {"NotOlderThan"}}

func TestStreamingList(t *testing.T) {
	plane := start(t, kube.Options{Streaming: true, Progress: os.Stderr})
	if err := plane.Apply(t.Context(), oneService); err != nil {
		t.Fatal(err)
	}
	status, next := watch(t, plane, streamingList)
	if status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	seen := false
	for {
		e := next()
		if e.Type == "ADDED" && e.Object.Metadata.Name == "web-1" {
			seen = true
		}
		if e.Type == "BOOKMARK" && e.Object.Metadata.Annotations["k8s.io/initial-events-end"] == "true" {
			break
		}
		if e.Type != "ADDED" {
			t.Fatalf("event %+v before the bookmark that ends the list", e)
		}
	}
	if !seen {
		t.Error("the list ended without the slice web-1")
	}
}

// TestList holds the other leg's promise: clients have to LIST.
func TestList(t *testing.T) {
	plane := start(t, kube.Options{Address: netip.MustParseAddr("127.0.0.2")})
	if err := plane.Apply(t.Context(), oneService); err != nil {
		t.Fatal(err)
	}
	status, next := watch(t, plane, streamingList)
	switch {
	case status >= 400 && status < 500:
	case status == http.StatusOK:
		if e := next(); e.Type != "ERROR" {
			t.Fatalf("a streaming list was not refused; first event %+v", e)
		}
	default:
		t.Fatalf("status %d", status)
	}
	body, err := plane.Do(t.Context(), http.MethodGet, "/apis/discovery.k8s.io/v1/endpointslices", nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(body), `"name":"web-1"`) {
		t.Errorf("no slice web-1 in %s", body)
	}
}

// TestVersion: tests that depend on a version's behaviour rely on it.
func TestVersion(t *testing.T) {
	dir, err := kube.Build(t.Context(), os.Stderr)
	if err != nil {
		t.Skipf("the control plane can not be built on this machine: %v", err)
	}
	out, err := exec.CommandContext(t.Context(), dir+"/kube-apiserver", "--version").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	if want := "Kubernetes v1.36."; len(out) < len(want) || string(out[:len(want)]) != want {
		t.Errorf("kube-apiserver --version says %q", out)
	}
}
