package kube

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// script makes the working directory a module with this build.sh.
func script(t *testing.T, text string) {
	t.Helper()
	t.Setenv(BinariesVariable, "")
	root := t.TempDir()
	dir := filepath.Join(root, "test", "controlplane")
	if err := os.MkdirAll(filepath.Join(root, "some", "package"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "build.sh"), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(root, "some", "package"))
}

func TestBuild(t *testing.T) {
	script(t, "echo building >&2\necho /some/folder\n")
	var progress strings.Builder
	dir, err := Build(t.Context(), &progress)
	if err != nil || dir != "/some/folder" || progress.String() != "building\n" {
		t.Errorf("got %q, %v; progress %q", dir, err, progress.String())
	}
	t.Setenv(BinariesVariable, "/another")
	if dir, err := Build(t.Context(), io.Discard); dir != "/another" || err != nil {
		t.Errorf("with %s set: %q, %v", BinariesVariable, dir, err)
	}
}

func TestBuildFails(t *testing.T) {
	script(t, "echo no compiler here >&2\nexit 3\n")
	_, err := Build(t.Context(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "no compiler here") || !strings.Contains(err.Error(), BinariesVariable) {
		t.Errorf("error %v does not say what to do", err)
	}
	t.Chdir(t.TempDir())
	if _, err := Build(t.Context(), io.Discard); err == nil {
		t.Error("a folder outside of every module was good enough")
	}
}

func TestBuildStops(t *testing.T) {
	script(t, "sleep 60 &\nwait\n") // its own child holds the pipe, as the compiler would
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := Build(ctx, io.Discard); err == nil {
		t.Error("no error from a build that was cut off")
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("stopping took %v", took)
	}
}
