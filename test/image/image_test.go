// Package image_test builds the image and runs it as a cluster would.
package image_test

import (
	"bufio"
	"crypto/x509"
	"debug/elf"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const corefile = `.:53 {
    errors
    health
    ready
    hosts {
        192.0.2.53 image.test
        2001:db8::53 image.test
    }
}
`

var bindOnly = []string{"CAP_NET_BIND_SERVICE"}

// build makes one of the images and unpacks it.
func build(t *testing.T, target string) (rootfs string, config imageConfig) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may keep file capabilities and make network namespaces: run this test as root")
	}
	for _, tool := range []string{"buildah", "setcap", "runc", "ip", "dig", "sysctl", "iptables-nft", "iptables-legacy", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%v: test/deps.sh installs it", err)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "image.tar")
	run(t, "./build.sh", file, target)
	a, err := readArchive(file)
	if err != nil {
		t.Fatal(err)
	}
	rootfs = filepath.Join(dir, "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		t.Fatal(err)
	}
	if config, err = a.unpack(rootfs); err != nil {
		t.Fatal(err)
	}
	return rootfs, config
}

func TestImage(t *testing.T) {
	rootfs, config := build(t, "coredns")
	t.Run("contents", func(t *testing.T) { checkContents(t, rootfs, config) })
	for _, first := range []int{0, 1024} {
		t.Run(fmt.Sprintf("unprivileged ports from %d", first), func(t *testing.T) {
			checkServes(t, startContainer(t, rootfs, config, corefile, setting{first, bindOnly}))
		})
	}
	// deploy/README.md says so, and where the capability comes from.
	t.Run("every capability dropped", func(t *testing.T) {
		err, out := startContainer(t, rootfs, config, corefile, setting{0, []string{}}).wait(t, 20*time.Second)
		if err == nil || !strings.Contains(out, "operation not permitted") {
			t.Errorf("ended with %v, want a refusal of the kernel: %s", err, out)
		}
	})
	t.Run("no capability on the file", func(t *testing.T) {
		program := filepath.Join(rootfs, "coredns")
		if err := unix.Removexattr(program, capabilityAttr); err != nil {
			t.Fatal(err)
		}
		checkServes(t, startContainer(t, rootfs, config, corefile, setting{0, []string{}}))
		err, out := startContainer(t, rootfs, config, corefile, setting{1024, bindOnly}).wait(t, 20*time.Second)
		if err == nil || !strings.Contains(out, "permission denied") {
			t.Errorf("ended with %v, want a refusal of port 53: %s", err, out)
		}
	})
}

// checkContents looks at what is in the image, before anything is run.
func checkContents(t *testing.T, rootfs string, config imageConfig) {
	c := config.Config
	if c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/coredns"}) || len(c.Cmd) != 0 || c.WorkingDir != "/" {
		t.Errorf("the image's configuration is %+v", c)
	}
	var files []string
	err := filepath.WalkDir(rootfs, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, strings.TrimPrefix(path, rootfs))
		}
		return err
	})
	if want := []string{"/coredns", "/etc/ssl/certs/ca-certificates.crt"}; err != nil || !slices.Equal(files, want) {
		t.Errorf("files %v, %v; want %v", files, err, want)
	}
	program := filepath.Join(rootfs, "coredns")
	binary, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	for _, part := range binary.Progs {
		if part.Type == elf.PT_INTERP {
			t.Error("/coredns needs a dynamic loader, and the image has none")
		}
	}
	checkCapability(t, program)
	text, err := os.ReadFile(filepath.Join(rootfs, "etc/ssl/certs/ca-certificates.crt"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no certificate in ca-certificates.crt")
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		t.Error(err)
	}
}

// checkCapability reads the file's capabilities as the kernel does (struct
// vfs_cap_data in linux/capability.h).
func checkCapability(t *testing.T, program string) {
	t.Helper()
	value := make([]byte, 64)
	n, err := unix.Getxattr(program, capabilityAttr, value)
	if err != nil || n < 20 {
		t.Fatalf("%s of /coredns: %d bytes, %v", capabilityAttr, n, err)
	}
	const effective = 1
	head := binary.LittleEndian.Uint32(value)
	permitted := binary.LittleEndian.Uint32(value[4:])
	if head&effective == 0 || permitted != 1<<unix.CAP_NET_BIND_SERVICE {
		t.Errorf("capabilities of /coredns: head %#x, permitted %#x", head, permitted)
	}
}

// checkServes asks a running container everything and stops it.
func checkServes(t *testing.T, c *container) {
	t.Helper()
	var answer string
	for range 100 {
		var err error
		if answer, err = c.dig("image.test"); err == nil {
			break
		}
		select {
		case err := <-c.done:
			c.done <- nil
			t.Fatalf("the program ended: %v: %s", err, c.out)
		case <-time.After(100 * time.Millisecond):
		}
	}
	if answer != "192.0.2.53" {
		t.Errorf("A over UDP: %q", answer)
	}
	if answer, err := c.dig("+tcp", "image.test", "AAAA"); answer != "2001:db8::53" {
		t.Errorf("AAAA over TCP: %q, %v", answer, err)
	}
	for _, address := range []string{"127.0.0.1:8080/health", "127.0.0.1:8181/ready"} {
		if status, err := get(c.name, address); status != http.StatusOK {
			t.Errorf("GET %s: %d, %v", address, status, err)
		}
	}
	checkConfined(t, c.pid(t))
	c.stop(t)
	if err, out := c.wait(t, 20*time.Second); err != nil {
		t.Errorf("after SIGTERM: %v: %s", err, out)
	}
}

// checkConfined looks whether the runtime really did what these tests are for.
func checkConfined(t *testing.T, pid int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := make(map[string]string)
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.Join(strings.Fields(value), " ")
	}
	if got := fields["Uid"]; got != "65532 65532 65532 65532" {
		t.Errorf("Uid: %s", got)
	}
	if fields["NoNewPrivs"] != "1" {
		t.Errorf("NoNewPrivs: %s", fields["NoNewPrivs"])
	}
	if got := fields["CapBnd"]; got != "0000000000000400" && got != "0000000000000000" {
		t.Errorf("CapBnd: %s, want CAP_NET_BIND_SERVICE at most", got)
	}
	err = os.WriteFile(fmt.Sprintf("/proc/%d/root/written", pid), nil, 0o644)
	if !errors.Is(err, syscall.EROFS) {
		t.Errorf("writing to the root file system: %v, want that it is read-only", err)
	}
}

// get asks an HTTP server inside a network namespace.
func get(namespace, address string) (int, error) {
	hostPort, path, _ := strings.Cut(address, "/")
	type result struct {
		status int
		err    error
	}
	done := make(chan result, 1)
	go func() {
		// The thread stays locked, so that it ends with this goroutine and its
		// namespace with it.
		runtime.LockOSThread()
		status, err := getHere(namespace, hostPort, "/"+path)
		done <- result{status, err}
	}()
	r := <-done
	return r.status, r.err
}

func getHere(namespace, hostPort, path string) (int, error) {
	ns, err := os.Open("/run/netns/" + namespace)
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return 0, err
	}
	conn, err := net.DialTimeout("tcp", hostPort, 2*time.Second)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return 0, err
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, hostPort)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}
