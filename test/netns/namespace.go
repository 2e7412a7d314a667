// Package netns is a node, its pods and two cluster DNS servers in network namespaces of one machine, with the rules that
// kube-proxy has for the cluster DNS Service, so that the real program can be upgraded, killed and starved under load.
package netns

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace of the test's own.
type Namespace struct {
	Name string
	t    testing.TB
	fd   int
}

// newName gives a name that no other test has: what is left of a killed run is found by its beginning.
func newName(what string) string {
	var b [3]byte
	rand.Read(b[:]) // never fails (Go 1.24)
	return "gw" + hex.EncodeToString(b[:]) + "-" + what
}

// newNamespace makes a namespace that lives as long as the test.
func newNamespace(t testing.TB, name string) *Namespace {
	t.Helper()
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("ip netns add %s (this needs root): %v: %s", name, err, out)
	}
	fd, err := unix.Open(filepath.Join("/run/netns", name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := &Namespace{Name: name, t: t, fd: fd}
	t.Cleanup(func() {
		unix.Close(fd)
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			t.Errorf("ip netns del %s: %v: %s", name, err, out)
		}
	})
	for _, which := range []string{"default", "all"} { // addresses of IPv6 would take seconds to be of use
		n.Set("net/ipv6/conf/"+which+"/accept_dad", "0")
	}
	n.Run("ip", "link", "set", "lo", "up")
	return n
}

// Do runs f on a thread that is in the namespace. Sockets that f opens stay there.
func (n *Namespace) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter %s: %w", n.Name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Command is a command that will run in the namespace.
func (n *Namespace) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.Name, name}, args...)...)
}

// Try runs a command in the namespace.
func (n *Namespace) Try(name string, args ...string) (string, error) {
	out, err := n.Command(name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %s %s: %w: %s", n.Name, name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// Run runs a command that must succeed and gives what it printed.
func (n *Namespace) Run(name string, args ...string) string {
	n.t.Helper()
	out, err := n.Try(name, args...)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// Feed runs a command that must succeed with an input.
func (n *Namespace) Feed(input, name string, args ...string) {
	n.t.Helper()
	cmd := n.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("%s: %s %s: %v: %s", n.Name, name, strings.Join(args, " "), err, out)
	}
}

// Set writes a sysctl of the namespace.
func (n *Namespace) Set(path, value string) {
	n.t.Helper()
	n.Feed(value, "tee", filepath.Join("/proc/sys", path))
}
