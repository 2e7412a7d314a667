package image_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// setting is what differs between the containers of these tests.
type setting struct {
	firstPort    int      // net.ipv4.ip_unprivileged_port_start in the pod
	capabilities []string // what is left after drop: ALL
}

// container is one run of the image, in a network namespace of its own.
type container struct {
	name  string // of the container and of its namespace
	dir   string // the bundle's
	state string // runc's folder
	cmd   *exec.Cmd
	out   *bytes.Buffer // what the program printed; read it after wait
	done  chan error    // gets Wait's result once
}

// startContainer runs the image in rootfs with the Corefile, as kubelet and
// containerd run the pod of kubeadm's Deployment.
func startContainer(t *testing.T, rootfs string, config imageConfig, corefile string, s setting) *container {
	t.Helper()
	c := newContainer(t, fmt.Sprintf("godwit-image-%d-%d", os.Getpid(), s.firstPort))
	run(t, "ip", "netns", "exec", c.name, "sysctl", "-q", "-w", fmt.Sprintf("net.ipv4.ip_unprivileged_port_start=%d", s.firstPort))

	etc, cache := filepath.Join(c.dir, "etc"), filepath.Join(c.dir, "cache")
	for _, folder := range []string{etc, cache} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(etc, "Corefile"), []byte(corefile), 0o644); err != nil {
		t.Fatal(err)
	}
	// As kubelet does for an emptyDir with fsGroup 65532.
	if err := errors.Join(os.Chown(cache, 0, 65532), os.Chmod(cache, 0o775|os.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	c.start(t, runtimeSpec(config, rootfs, "/run/netns/"+c.name, etc, cache, s.capabilities))
	return c
}

// newContainer makes a container that is not started, and the network namespace of its name.
func newContainer(t *testing.T, name string) *container {
	t.Helper()
	dir := t.TempDir()
	c := &container{name: name, dir: dir, state: filepath.Join(dir, "runc"), out: new(bytes.Buffer), done: make(chan error, 1)}
	run(t, "ip", "netns", "add", c.name)
	t.Cleanup(func() { run(t, "ip", "netns", "del", c.name) })
	run(t, "ip", "-n", c.name, "link", "set", "lo", "up")
	return c
}

// start runs it as an OCI runtime configuration says.
func (c *container) start(t *testing.T, spec map[string]any) {
	t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.dir, "config.json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	c.cmd = exec.Command("runc", "--root", c.state, "run", "--bundle", c.dir, c.name)
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.out
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { c.done <- c.cmd.Wait() }()
	t.Cleanup(func() {
		// Also when a test has failed half way; a container that is gone is fine.
		_ = exec.Command("runc", "--root", c.state, "delete", "--force", c.name).Run()
		select {
		case <-c.done:
		default:
			_ = c.cmd.Process.Kill()
			<-c.done
		}
	})
}

// wait returns how the program ended, and what it had printed.
func (c *container) wait(t *testing.T, limit time.Duration) (error, string) {
	t.Helper()
	select {
	case err := <-c.done:
		c.done <- nil // for the cleanup
		return err, c.out.String()
	case <-time.After(limit):
		t.Fatalf("%s: still running after %v", c.name, limit)
		return nil, ""
	}
}

// pid is the program's process number, seen from here.
func (c *container) pid(t *testing.T) int {
	t.Helper()
	var state struct{ Pid int }
	if err := json.Unmarshal([]byte(run(t, "runc", "--root", c.state, "state", c.name)), &state); err != nil {
		t.Fatal(err)
	}
	return state.Pid
}

// stop sends SIGTERM to the program, as kubelet does.
func (c *container) stop(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(c.pid(t), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// dig asks the container's 127.0.0.1 and returns the short answer.
func (c *container) dig(args ...string) (string, error) {
	all := append([]string{"netns", "exec", c.name, "dig", "@127.0.0.1", "+short", "+tries=1", "+time=2"}, args...)
	out, err := exec.Command("ip", all...).Output()
	return strings.TrimSpace(string(out)), err
}

// runtimeSpec is the OCI runtime configuration that containerd writes for a
// container with the securityContext of kubeadm's Deployment and uid 65532.
func runtimeSpec(config imageConfig, rootfs, netns, etc, cache string, capabilities []string) map[string]any {
	flags := []string{"nosuid", "noexec", "nodev"}
	bind := func(from, to string, options ...string) map[string]any {
		return map[string]any{"destination": to, "source": from, "type": "bind", "options": append([]string{"rbind"}, options...)}
	}
	return map[string]any{
		"ociVersion": "1.0.2",
		"process": map[string]any{
			"args":            append(append([]string{}, config.Config.Entrypoint...), "-conf", "/etc/coredns/Corefile"),
			"cwd":             config.Config.WorkingDir,
			"env":             config.Config.Env,
			"user":            map[string]any{"uid": 65532, "gid": 65532, "additionalGids": []int{65532}},
			"noNewPrivileges": true, // allowPrivilegeEscalation: false
			"capabilities":    map[string]any{"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
		},
		"root": map[string]any{"path": rootfs, "readonly": true},
		"mounts": []any{
			map[string]any{"destination": "/proc", "type": "proc", "source": "proc", "options": flags},
			map[string]any{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755", "size=65536k"}},
			map[string]any{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": append([]string{"ro"}, flags...)},
			bind(etc, "/etc/coredns", "ro"),
			bind(cache, "/var/cache/godwit", "rw"),
			bind("/etc/resolv.conf", "/etc/resolv.conf", "ro"),
		},
		"linux": map[string]any{
			"namespaces": []any{
				map[string]any{"type": "pid"}, map[string]any{"type": "ipc"}, map[string]any{"type": "uts"},
				map[string]any{"type": "mount"}, map[string]any{"type": "network", "path": netns},
			},
			"maskedPaths":   []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"},
			"readonlyPaths": []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
			"seccomp":       refusedCalls(),
		},
	}
}

// refusedCalls are system calls that runtimes' default profiles refuse to a
// container without capabilities: those a network server could come near.
func refusedCalls() map[string]any {
	return map[string]any{
		"defaultAction": "SCMP_ACT_ALLOW",
		"syscalls": []any{map[string]any{
			"action": "SCMP_ACT_ERRNO",
			"names": []string{
				"bpf", "io_uring_setup", "io_uring_enter", "io_uring_register", "perf_event_open", "userfaultfd",
				"setns", "unshare", "mount", "umount2", "keyctl", "add_key", "request_key", "open_by_handle_at",
				"clock_settime", "settimeofday", "sethostname", "syslog", "process_vm_readv", "vmsplice",
			},
		}},
	}
}

// run runs a program that has to succeed and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var complaint bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", cmd, err, complaint.String())
	}
	return string(out)
}
