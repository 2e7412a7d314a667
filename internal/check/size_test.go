package check

import (
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

const (
	mostBinary   = 40 << 20 // octets of the program without symbols
	mostResident = 20 << 10 // KiB of memory that godwit -version takes: what is linked costs before it is used
)

func TestSizeOfTheProgram(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "godwit")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./cmd/godwit")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > mostBinary {
		t.Errorf("the program has %.1f MiB, at most %d", float64(info.Size())/(1<<20), mostBinary>>20)
	}
	if resident := peak(t, binary, "-version"); resident > mostResident {
		t.Errorf("godwit -version takes %.1f MiB, at most %d", float64(resident)/1024, mostResident>>10)
	}
}

// peak gives the most memory that a program has had, in KiB, when it writes its first output: that goes to a pipe which is
// full, so the program waits there for as long as it takes to look. Its rusage would not do: it begins with the memory of
// the process that started it.
func peak(t *testing.T, binary string, args ...string) (kib int) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd := int(w.Fd()) // blocking from here on, as the program expects it
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = syscall.Write(fd, make([]byte, 4096))
	}
	if !errors.Is(err, syscall.EAGAIN) {
		t.Fatal(err)
	}
	if err := syscall.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	for still := 0; still < 20; still++ { // until it has not grown for a while
		time.Sleep(20 * time.Millisecond)
		if now := highWater(t, cmd.Process.Pid); now != kib {
			kib, still = now, 0
		}
	}
	buf := make([]byte, 1<<16)
	for err = nil; err == nil; {
		_, err = r.Read(buf)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return kib
}

func highWater(t *testing.T, pid int) (kib int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, line, found := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscanf(line, "%d kB", &kib); !found || err != nil {
		t.Fatalf("no peak in %s", status)
	}
	return kib
}
