// Package e2e_test runs the program as users do: as a process, against a real
// control plane, with Corefiles that people have. What needs network
// namespaces is skipped for whoever is not root.
package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	// What the program is made of, so that go test's cache knows it.
	_ "github.com/godwit-dns/godwit/plugin"
	_ "github.com/godwit-dns/godwit/run"
	"github.com/godwit-dns/godwit/test/kube"
)

// program is the path of the binary under test; TestMain sets it once.
var program string

// binaryVariable names another binary than the one built from cmd/godwit.
const binaryVariable = "GODWIT_BINARY"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if program = os.Getenv(binaryVariable); program != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "godwit-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "godwit")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "../../cmd/godwit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "building cmd/godwit:", err)
		return 1
	}
	code := m.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// startPlane runs a control plane with the DNS account for one test. Machines
// on which the programs can not be built skip it.
func startPlane(t *testing.T, streaming bool) *kube.Plane {
	t.Helper()
	if testing.Short() {
		t.Skip("a control plane takes seconds")
	}
	dir, err := kube.Build(t.Context(), os.Stderr)
	if err != nil {
		t.Skipf("the control plane can not be built on this machine: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	plane, err := kube.Start(ctx, kube.Options{
		Streaming: streaming, Binaries: dir, Controllers: []string{"endpointslice-controller"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plane.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := plane.InstallDNSAccount(ctx); err != nil {
		t.Fatal(err)
	}
	return plane
}

func apply(t *testing.T, plane *kube.Plane, manifests string) {
	t.Helper()
	if err := plane.Apply(t.Context(), manifests); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, plane *kube.Plane, manifests string) {
	t.Helper()
	if err := plane.Delete(t.Context(), manifests); err != nil {
		t.Fatal(err)
	}
}

func kubeconfig(t *testing.T, plane *kube.Plane, user string) string {
	t.Helper()
	path, err := plane.Kubeconfig(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
