package kube_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/godwit-dns/godwit/test/kube"
)

// TestOutages takes parts away and back and looks at what is left.
func TestOutages(t *testing.T) {
	plane := start(t, kube.Options{Streaming: true})
	if err := plane.Apply(t.Context(), oneService); err != nil {
		t.Fatal(err)
	}
	old := version(t, plane)

	plane.KillAPI()
	if _, err := plane.Do(t.Context(), http.MethodGet, "/readyz", nil); err == nil {
		t.Error("a killed API server answers")
	}
	url := plane.URL()
	if err := plane.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	if plane.URL() != url {
		t.Errorf("the API server moved from %s to %s", url, plane.URL())
	}
	if err := plane.StartAPI(t.Context()); err == nil {
		t.Error("a second API server was started beside the first")
	}

	plane.KillEtcd()
	if err := plane.StartEtcd(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitService(t, plane)

	// Something must have happened since, or there is nothing to forget.
	for i := range 3 {
		more := strings.ReplaceAll(oneService, "web", "web"+strconv.Itoa(i))
		if err := plane.Apply(t.Context(), more); err != nil {
			t.Fatal(err)
		}
	}
	if err := plane.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	plane.KillAPI()
	if err := plane.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantExpired(t, plane, old)
}

// wantExpired holds what Compact's comment says: a watch from before is 410.
func wantExpired(t *testing.T, plane *kube.Plane, old string) {
	t.Helper()
	status, next := watch(t, plane, url.Values{"resourceVersion": {old}})
	if status == http.StatusGone {
		return
	}
	if status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	if e := next(); e.Type != "ERROR" || e.Object.Code != http.StatusGone {
		t.Errorf("a watch from version %s goes on after the compaction: %+v", old, e)
	}
}

// version is the present resource version of the cluster's EndpointSlices.
func version(t *testing.T, plane *kube.Plane) string {
	t.Helper()
	body, err := plane.Do(t.Context(), http.MethodGet, "/apis/discovery.k8s.io/v1/endpointslices", nil)
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Metadata struct {
			Version string `json:"resourceVersion"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatal(err)
	}
	return list.Metadata.Version
}

// waitService waits until the API server has found etcd again.
func waitService(t *testing.T, plane *kube.Plane) {
	t.Helper()
	var err error
	for range 200 {
		if _, err = plane.Do(t.Context(), http.MethodGet, "/api/v1/namespaces/default/services/web", nil); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("the Service did not come back with etcd: %v", err)
}

// TestAccess holds the DNS account to the rights that kubeadm gives it.
func TestAccess(t *testing.T) {
	plane := start(t, kube.Options{})
	if err := plane.InstallDNSAccount(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	env, err := plane.InCluster(t.Context(), dir, kube.DNSAccount)
	if err != nil {
		t.Fatal(err)
	}
	get := podClient(t, dir, env)
	const slices, services = "/apis/discovery.k8s.io/v1/endpointslices", "/api/v1/services"
	for path, want := range map[string]int{
		slices: 200, services: 200, "/api/v1/pods": 200, "/api/v1/namespaces": 200, "/api/v1/endpoints": 200,
		"/api/v1/secrets": 403, "/api/v1/nodes": 403, "/api/v1/namespaces/default/services/kubernetes": 403,
	} {
		if got := get(path); got != want {
			t.Errorf("GET %s as the DNS account: %d, want %d", path, got, want)
		}
	}
	if err := plane.Forbid(t.Context(), "endpointslices"); err != nil {
		t.Fatal(err)
	}
	if a, b := get(slices), get(services); a != 403 || b != 200 {
		t.Errorf("without the right to slices: slices %d, services %d", a, b)
	}
	if err := plane.Forbid(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := get(slices); got != 200 {
		t.Errorf("with the right to slices again: %d", got)
	}
	if err := plane.Forbid(t.Context(), "secrets"); err == nil {
		t.Error("a resource that is not in the role was taken out of it")
	}
	path, err := plane.Kubeconfig(t.Context(), kube.DNSAccount)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), plane.URL()) {
		t.Errorf("kubeconfig %s: %v\n%s", path, err, text)
	}
}

// podClient asks the API server with nothing but what a pod would have, and
// returns the HTTP status.
func podClient(t *testing.T, dir string, env []string) func(path string) int {
	t.Helper()
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if got := string(read("namespace")); got != "kube-system" {
		t.Errorf("namespace file: %q", got)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(read("ca.crt")) {
		t.Fatal("no certificate in ca.crt")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool}}}
	values := make(map[string]string)
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		values[name] = value
	}
	base := fmt.Sprintf("https://%s:%s", values["KUBERNETES_SERVICE_HOST"], values["KUBERNETES_SERVICE_PORT"])
	token := string(read("token"))
	return func(path string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
}

// TestLoad counts what Load made.
func TestLoad(t *testing.T) {
	plane := start(t, kube.Options{})
	spec := kube.LoadSpec{Services: 30, Headless: 5, Endpoints: 3100, Namespaces: 4}
	for range 2 { // the second time everything is there already
		if err := plane.Load(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	body, err := plane.Do(t.Context(), http.MethodGet, "/apis/discovery.k8s.io/v1/endpointslices?labelSelector=kubernetes.io/service-name", nil)
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Items []struct {
			Metadata  struct{ Namespace string }
			Endpoints []struct {
				Addresses []string
				Hostname  string
			}
		}
	}
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatal(err)
	}
	addresses, hostnames := make(map[string]bool), 0
	for _, item := range list.Items {
		if !strings.HasPrefix(item.Metadata.Namespace, "load-") {
			continue
		}
		for _, e := range item.Endpoints {
			addresses[e.Addresses[0]] = true
			if e.Hostname != "" {
				hostnames++
			}
		}
	}
	if len(addresses) != spec.Endpoints {
		t.Errorf("%d different addresses, want %d", len(addresses), spec.Endpoints)
	}
	if want := 5 * 104; hostnames != want { // 3100/30, and one more for each of the first ten
		t.Errorf("%d endpoints with a hostname, want %d", hostnames, want)
	}
	err = plane.Load(t.Context(), kube.LoadSpec{Services: 1, Endpoints: 1, Prefix: "Not a name"})
	if err == nil {
		t.Error("a namespace with a bad name was made")
	}
}

// TestControllers sees the controller make what tests make by hand elsewhere.
func TestControllers(t *testing.T) {
	plane := start(t, kube.Options{Controllers: []string{"endpointslice-controller"}})
	err := plane.Apply(t.Context(), `
apiVersion: v1
kind: Node # the controller leaves out pods of nodes that do not exist
metadata: {name: node-1}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: default, labels: {app: web}}
spec: {containers: [{name: web, image: web}], nodeName: node-1}
status:
  phase: Running
  podIP: 10.128.0.9
  podIPs: [{ip: 10.128.0.9}]
  conditions: [{type: Ready, status: "True"}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
`)
	if err != nil {
		t.Fatal(err)
	}
	const path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name%3Dweb"
	var body []byte
	for range 300 {
		if body, err = plane.Do(t.Context(), http.MethodGet, path, nil); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(body), "10.128.0.9") {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("no slice with the pod's address: %s", body)
}

// TestLoadedServices: what Load stores behind the API server's back is to it
// like a Service of its own.
func TestLoadedServices(t *testing.T) {
	plane := start(t, kube.Options{})
	if err := plane.Load(t.Context(), kube.LoadSpec{Services: 20}); err != nil {
		t.Fatal(err)
	}
	const service = "/api/v1/namespaces/load-0/services/service-7"
	body, err := plane.Do(t.Context(), http.MethodGet, service, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Spec struct{ ClusterIP string } }
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	same := strings.ReplaceAll(oneService, "spec:", "spec:\n  clusterIP: "+got.Spec.ClusterIP)
	if err := plane.Apply(t.Context(), same); err == nil || !strings.Contains(err.Error(), "allocated") {
		t.Errorf("the address %s was given out twice: %v", got.Spec.ClusterIP, err)
	}
	changed := strings.NewReplacer("name: web, namespace: default", "name: service-7, namespace: load-0", "{app: web}", "{app: other}").Replace(oneService)
	if err := plane.Apply(t.Context(), strings.Split(changed, "---")[0]); err != nil {
		t.Error(err)
	}
	if _, err := plane.Do(t.Context(), http.MethodDelete, service, nil); err != nil {
		t.Error(err)
	}
	for range 100 { // the allocator sees its own deletion a moment later
		if err = plane.Apply(t.Context(), same); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("the address did not come back with the Service's end: %v", err)
}
