package image_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// nodeTemplate answers one name by itself.
const nodeTemplate = `.:53 {
    errors
    bind __PILLAR__LOCAL__DNS__
    health __PILLAR__LOCAL__DNS__:8080
    hosts {
        192.0.2.53 image.test
    }
}
`

func TestNodeImage(t *testing.T) {
	rootfs, config := build(t, "node-cache")
	t.Run("contents", func(t *testing.T) { checkNodeContents(t, rootfs, config) })
	for _, rules := range []string{"nftables", "iptables"} {
		t.Run(rules, func(t *testing.T) { checkNodeServes(t, startNode(t, rootfs, config, rules), rules) })
	}
	if text, err := os.ReadFile(filepath.Join(rootfs, "etc/Corefile")); err != nil || !strings.Contains(string(text), "bind 169.254.20.10 fd00:10::53") {
		t.Errorf("/etc/Corefile has %q, %v", text, err)
	}
}

// checkNodeContents looks whether every program finds what it loads.
func checkNodeContents(t *testing.T, rootfs string, config imageConfig) {
	c := config.Config
	if c.User != "0:0" || !slices.Equal(c.Entrypoint, []string{"/node-cache"}) || len(c.Cmd) != 0 || c.WorkingDir != "/" ||
		!slices.Equal(c.Env, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}) {
		t.Errorf("the image's configuration is %+v", c)
	}
	for program, want := range map[string]string{
		"/usr/sbin/iptables": "(nf_tables)", "/usr/sbin/ip6tables": "(nf_tables)",
		"/usr/sbin/iptables-nft-restore": "(nf_tables)", "/usr/sbin/ip6tables-nft-save": "(nf_tables)",
		"/usr/sbin/iptables-legacy": "(legacy)", "/usr/sbin/ip6tables-legacy-restore": "(legacy)",
		"/node-cache": "Godwit-",
	} {
		flag := "--version"
		if out := run(t, "chroot", rootfs, program, flag); !strings.Contains(out, want) {
			t.Errorf("%s %s: %q", program, flag, out)
		}
	}
	for _, file := range []string{"etc/ssl/certs/ca-certificates.crt", "usr/share/doc/iptables/copyright"} {
		if info, err := os.Stat(filepath.Join(rootfs, file)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// startNode runs the image as the DaemonSet of deploy does, in a network namespace that takes the place of the node's.
func startNode(t *testing.T, rootfs string, config imageConfig, rules string) *container {
	t.Helper()
	c := newContainer(t, fmt.Sprintf("godwit-node-%d-%s", os.Getpid(), rules))
	etc := filepath.Join(c.dir, "etc")
	if err := os.Mkdir(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(etc, "Corefile.base"), []byte(nodeTemplate), 0o644); err != nil {
		t.Fatal(err)
	}
	c.start(t, nodeSpec(config, rootfs, "/run/netns/"+c.name, etc, rules))
	return c
}

// nodeSpec is the OCI runtime configuration of the DaemonSet's container: root with two capabilities, and a file system
// that it may write to.
func nodeSpec(config imageConfig, rootfs, netns, etc, rules string) map[string]any {
	capabilities := []string{"CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"}
	flags := []string{"nosuid", "noexec", "nodev"}
	args := append(slices.Clone(config.Config.Entrypoint), "-localip", "169.254.20.10,fd00:10::53", "-conf", "/etc/Corefile", "-rules", rules)
	return map[string]any{
		"ociVersion": "1.0.2",
		"process": map[string]any{
			"args":            args,
			"cwd":             config.Config.WorkingDir,
			"env":             config.Config.Env,
			"user":            map[string]any{"uid": 0, "gid": 0},
			"noNewPrivileges": true,
			"capabilities":    map[string]any{"bounding": capabilities, "effective": capabilities, "permitted": capabilities, "inheritable": capabilities},
		},
		"root": map[string]any{"path": rootfs},
		"mounts": []any{
			map[string]any{"destination": "/proc", "type": "proc", "source": "proc", "options": flags},
			map[string]any{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755", "size=65536k"}},
			map[string]any{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": append([]string{"ro"}, flags...)},
			map[string]any{"destination": "/etc/coredns", "source": etc, "type": "bind", "options": []string{"rbind", "ro"}},
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

// inside runs a program in the container's network namespace.
func (c *container) inside(args ...string) (string, error) {
	out, err := exec.Command("ip", append([]string{"netns", "exec", c.name}, args...)...).CombinedOutput()
	return string(out), err
}

// checkNodeServes asks a running container at its addresses, asks its probe, stops it, and looks at what is left.
func checkNodeServes(t *testing.T, c *container, rules string) {
	t.Helper()
	var probe string
	for range 100 { // until it owns the sockets
		out, err := exec.Command("runc", "--root", c.state, "exec", c.name, "/node-cache", "probe").CombinedOutput()
		if probe = string(out); err == nil {
			break
		}
		select {
		case err := <-c.done:
			c.done <- nil
			t.Fatalf("the program ended: %v: %s", err, c.out)
		case <-time.After(100 * time.Millisecond):
		}
	}
	if !strings.Contains(probe, "owns the sockets") {
		t.Errorf("probe: %s", probe)
	}
	for _, at := range []string{"@169.254.20.10", "@fd00:10::53"} {
		for _, how := range []string{"+notcp", "+tcp"} {
			out, err := c.inside("dig", at, how, "+short", "+tries=1", "+time=2", "image.test")
			if err != nil || strings.TrimSpace(out) != "192.0.2.53" {
				t.Errorf("%s %s: %q, %v", at, how, out, err)
			}
		}
	}
	if status, err := get(c.name, "169.254.20.10:8080/health"); status != 200 {
		t.Errorf("/health: %d, %v", status, err)
	}
	ruled := func() string {
		if rules == "nftables" {
			return run(t, "ip", "netns", "exec", c.name, "nft", "list", "ruleset")
		}
		return run(t, "ip", "netns", "exec", c.name, "iptables-nft-save") + run(t, "ip", "netns", "exec", c.name, "ip6tables-nft-save")
	}
	if got := ruled(); !strings.Contains(got, "169.254.20.10") || !strings.Contains(got, "fd00:10::53") {
		t.Errorf("rules:\n%s", got)
	}
	c.stop(t)
	if err, out := c.wait(t, 20*time.Second); err != nil {
		t.Errorf("after SIGTERM: %v: %s", err, out)
	}
	if got := ruled(); strings.Contains(got, "169.254.20.10") || strings.Contains(got, "fd00:10::53") {
		t.Errorf("rules that are left:\n%s", got)
	}
	if links, err := c.inside("ip", "-o", "link"); err != nil || strings.Contains(links, "nodelocaldns") {
		t.Errorf("links that are left: %s, %v", links, err)
	}
}
