// Package deploy_test holds the manifests of this folder to what a real API
// server accepts.
package deploy_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"sigs.k8s.io/yaml"

	"github.com/godwit-dns/godwit/test/kube"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// strict has the API server refuse every pod in kube-system that does not keep
// to the restricted Pod Security Standard.
const strict = `
apiVersion: v1
kind: Namespace
metadata:
  name: kube-system
  labels: {pod-security.kubernetes.io/enforce: restricted}
`

// rootPod breaks the standard, to see that it is enforced.
const rootPod = `
apiVersion: v1
kind: Pod
metadata: {name: root, namespace: kube-system}
spec: {containers: [{name: root, image: root}]}
`

func TestManifests(t *testing.T) {
	dir, err := kube.Build(t.Context(), os.Stderr)
	if err != nil {
		t.Skipf("the control plane can not be built on this machine: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	plane, err := kube.Start(ctx, kube.Options{
		Binaries:    dir,
		Controllers: []string{"deployment-controller", "replicaset-controller"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := plane.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := plane.Apply(ctx, strict); err != nil {
		t.Fatal(err)
	}
	if err := plane.Apply(ctx, rootPod); err == nil || !strings.Contains(err.Error(), "restricted") {
		t.Fatalf("a pod that may be root: %v, want a refusal", err)
	}
	files, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var server, node []string
	for _, file := range files {
		if strings.HasPrefix(file, "node-") {
			node = append(node, file)
		} else {
			server = append(server, file)
		}
	}
	if len(server) == 0 || len(node) == 0 {
		t.Fatalf("no manifests among %q", files)
	}
	for _, file := range append(server, server...) { // and once more, as an operator would
		apply(ctx, t, plane, file)
	}
	wantPods(ctx, t, plane, 2)
	nodeManifests(ctx, t, plane, node)
}

func apply(ctx context.Context, t *testing.T, plane *kube.Plane, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.Apply(ctx, string(text)); err != nil {
		t.Errorf("%s: %v", file, err)
	}
}

// open takes the restriction away again: an agent of a node uses its host's network.
const open = `
apiVersion: v1
kind: Namespace
metadata:
  name: kube-system
  labels: {pod-security.kubernetes.io/enforce: privileged}
`

// policies stands in for the definition that Cilium installs, of which nothing but the name matters here.
const policies = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: ciliumlocalredirectpolicies.cilium.io
spec:
  group: cilium.io
  scope: Namespaced
  names: {kind: CiliumLocalRedirectPolicy, plural: ciliumlocalredirectpolicies, singular: ciliumlocalredirectpolicy}
  versions:
    - name: v2
      served: true
      storage: true
      schema:
        openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
`

// nodeManifests applies those of the nodes' agents, one kind after the other, and lets the API server check a pod of each.
func nodeManifests(ctx context.Context, t *testing.T, plane *kube.Plane, files []string) {
	for _, text := range []string{open, policies} {
		if err := plane.Apply(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	for !established(ctx, t, plane) {
		time.Sleep(50 * time.Millisecond)
	}
	apply(ctx, t, plane, "node-common.yaml")
	sets := 0
	for _, file := range append(files, files...) {
		apply(ctx, t, plane, file)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range strings.Split(string(text), "\n---\n") {
			var set struct {
				Kind string
				Spec struct{ Template map[string]any }
			}
			if err := yaml.Unmarshal([]byte(doc), &set); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if set.Kind == "DaemonSet" {
				sets++
				tryPod(ctx, t, plane, file, set.Spec.Template)
			}
		}
	}
	if sets != 2*3 {
		t.Errorf("%d DaemonSets, want 3 applied twice", sets)
	}
}

// established reports whether the API server serves policies.
func established(ctx context.Context, t *testing.T, plane *kube.Plane) bool {
	t.Helper()
	if ctx.Err() != nil {
		t.Fatal("the definition of policies is not served")
	}
	_, err := plane.Do(ctx, http.MethodGet, "/apis/cilium.io/v2/namespaces/kube-system/ciliumlocalredirectpolicies", nil)
	return err == nil
}

// tryPod asks the API server for a pod of a template, without making it.
func tryPod(ctx context.Context, t *testing.T, plane *kube.Plane, file string, template map[string]any) {
	t.Helper()
	pod := map[string]any{"apiVersion": "v1", "kind": "Pod", "spec": template["spec"],
		"metadata": map[string]any{"generateName": "node-local-dns-", "namespace": "kube-system"}}
	body, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plane.Do(ctx, http.MethodPost, "/api/v1/namespaces/kube-system/pods?dryRun=All&fieldValidation=Strict", body); err != nil {
		t.Errorf("%s: a pod of it: %v", file, err)
	}
}

// wantPods waits until the controllers have made so many pods of the
// Deployment: the pod template is checked only when they do.
func wantPods(ctx context.Context, t *testing.T, plane *kube.Plane, want int) {
	t.Helper()
	var list struct{ Items []json.RawMessage }
	for ctx.Err() == nil {
		body, err := plane.Do(ctx, http.MethodGet, "/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-dns", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(body, &list); err != nil {
			t.Fatal(err)
		}
		if len(list.Items) == want {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	body, err := plane.Do(t.Context(), http.MethodGet, "/apis/apps/v1/namespaces/kube-system/replicasets", nil)
	t.Fatalf("%d pods of the Deployment, want %d; its ReplicaSets: %s %v", len(list.Items), want, body, err)
}
