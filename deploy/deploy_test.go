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
	if len(files) == 0 {
		t.Fatal("no manifests")
	}
	for _, file := range append(files, files...) { // and once more, as an operator would
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := plane.Apply(ctx, string(text)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	wantPods(ctx, t, plane, 2)
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
