package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestManifestForms(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/a.yaml", "# a comment\n---\n"+service("one", "None")+"---\n# nothing\n---\n"+slice("one-1", "one", "10.0.0.1"))
	put(t, dir+"/b.yml", "--- {apiVersion: v1, kind: Service, metadata: {name: inline, namespace: default}, spec: {clusterIP: 10.96.0.9}}\n")
	put(t, dir+"/c.json", `{"kind":"List","items":[{"kind":"Service","metadata":{"name":"two","namespace":"default"},"spec":{"clusterIP":"10.96.0.2"}},
{"kind":"Deployment","metadata":{"name":"x"},"spec":{"ports":"not of this kind"}}]}
{"kind":"ServiceList","items":[{"metadata":{"name":"three","namespace":"other"},"spec":{"clusterIP":"10.96.0.3"}}]}`)
	put(t, dir+"/notes.txt", "}{ not read")
	put(t, dir+"/.hidden.yaml", "}{ not read")
	c, _ := runCluster(t, Config{Manifests: dir})
	eventually(t, 5*time.Second, "the manifests", c.Synced)
	for _, n := range []string{"one", "two", "inline"} {
		if !c.has(n) {
			t.Errorf("%s is missing", n)
		}
	}
	if c.addrs("one") != "10.0.0.1 " || c.Import([]byte("other"), []byte("three")) != nil || c.Service([]byte("other"), []byte("three")) == nil {
		t.Error("lists or slices were not read")
	}
	if !c.Namespace([]byte("other")) || c.Namespace([]byte("nope")) {
		t.Error("the namespaces are not those of the objects")
	}
}

// TestManifestSwap changes a folder as the kubelet changes a mounted ConfigMap: a link is replaced.
func TestManifestSwap(t *testing.T) {
	dir := t.TempDir()
	for _, v := range []string{"v1", "v2"} {
		if err := os.Mkdir(filepath.Join(dir, v), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, v, "all.yaml"), service(v, "None"))
	}
	link := func(to string) {
		t.Helper()
		if err := os.Symlink(to, dir+"/..tmp"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(dir+"/..tmp", dir+"/..data"); err != nil {
			t.Fatal(err)
		}
	}
	link("v1")
	if err := os.Symlink("..data/all.yaml", dir+"/all.yaml"); err != nil {
		t.Fatal(err)
	}
	c, _ := runCluster(t, Config{Manifests: dir + "/all.yaml"})
	eventually(t, 5*time.Second, "the first version", func() bool { return c.Synced() && c.has("v1") })
	link("v2")
	eventually(t, 5*time.Second, "the second version", func() bool { return c.has("v2") && !c.has("v1") })
}

func TestManifestSelectors(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/a.yaml", `
{apiVersion: v1, kind: Namespace, metadata: {name: shown, labels: {show: "yes"}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: default}}
---
{apiVersion: v1, kind: Service, metadata: {name: a, namespace: default, labels: {app: a}}, spec: {clusterIP: None}}
---
{apiVersion: v1, kind: Service, metadata: {name: b, namespace: default, labels: {app: b}}, spec: {clusterIP: None}}
`)
	c, _ := runCluster(t, Config{Manifests: dir, Selector: "app in (a)", NamespaceSelector: "show"})
	eventually(t, 5*time.Second, "the manifests", c.Synced)
	if !c.has("a") || c.has("b") {
		t.Error("the selector does not select")
	}
	if !c.Namespace([]byte("shown")) || c.Namespace([]byte("default")) {
		t.Error("the namespaces' selector does not select")
	}
}

func TestManifestErrors(t *testing.T) {
	if _, err := Open(Config{Manifests: "/nonexistent/manifests"}); err == nil || !strings.Contains(err.Error(), "/nonexistent/manifests") {
		t.Errorf("a missing path: %v", err)
	}
	for text, want := range map[string]string{
		"kind: Secret\n---\nkind: [": "line 3", "a: b": "has no kind", "kind: Service": "without metadata.name", "kind: Service\nmetadata: {name: x}\nspec: {ports: 5}": "Service",
	} {
		var m manifestSet
		if err := m.read("x.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "x.yaml") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestDamagedSnapshot(t *testing.T) {
	dir := t.TempDir()
	_, cfg := startFake(t, nil)
	cfg.Snapshot = dir
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var o object
	o.reset(kindService)
	o.namespace, o.name, o.clusterIP = []byte("default"), []byte("a"), []byte("None")
	c.store.upsert(&o)
	path := filepath.Join(dir, snapshotName)
	if err := c.writeSnapshot(path); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	load := func(cfg Config, b []byte) (int, bool) {
		t.Helper()
		put(t, path, string(b))
		d, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		n, err := d.loadSnapshot(path)
		d.store.publishAll()
		return n, err == nil && d.has("a")
	}
	if n, ok := load(cfg, whole); n != 1 || !ok {
		t.Fatalf("%d objects, %v", n, ok)
	}
	for i := range whole {
		b := append([]byte(nil), whole...)
		b[i] ^= 0x20
		if n, ok := load(cfg, b); n != 0 || ok {
			t.Fatalf("a snapshot with octet %d changed was used", i)
		}
	}
	for i := range whole {
		if n, ok := load(cfg, whole[:i]); n != 0 || ok {
			t.Fatalf("a snapshot of %d octets was used", i)
		}
	}
	other := cfg
	other.PodNames = true
	if _, ok := load(other, whole); ok {
		t.Error("a snapshot of another configuration was used")
	}
}
