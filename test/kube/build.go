package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// BinariesVariable names the environment variable with the folder of the
// programs; when it is set nothing is built.
const BinariesVariable = "GODWIT_CONTROLPLANE"

// Build returns the folder with etcd, kube-apiserver and
// kube-controller-manager. It runs test/controlplane/build.sh of the module
// that the working directory is in: minutes the first time, nothing later.
// progress gets a line for each program that is built.
func Build(ctx context.Context, progress io.Writer) (string, error) {
	if dir := os.Getenv(BinariesVariable); dir != "" {
		return dir, nil
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	script := filepath.Join(root, "test", "controlplane", "build.sh")
	cmd := exec.CommandContext(ctx, script)
	// The compiler is a child of the script: end both, or Output waits for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var complaint bytes.Buffer
	cmd.Stderr = io.MultiWriter(progress, &complaint)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w; set %s to a folder that has the programs, or see what it printed: %s",
			script, err, BinariesVariable, strings.TrimSpace(complaint.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// moduleRoot is the nearest folder upwards that has test/controlplane in it.
func moduleRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		_, err := os.Stat(filepath.Join(dir, "test", "controlplane", "build.sh"))
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no test/controlplane/build.sh in %s or above; set %s to a folder that has the programs",
				start, BinariesVariable)
		}
	}
}
