package handover

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// runAdmin runs an agent's socket in a folder; what it gives ends it.
func runAdmin(t *testing.T, folder string, state func() (bool, string)) (stop func()) {
	t.Helper()
	a, err := OpenAdmin([]string{folder})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	ended.Go(func() { a.Run(ctx, state) })
	stop = func() { cancel(); ended.Wait() }
	t.Cleanup(stop)
	return stop
}

func probeCommand(t *testing.T, folder string) (int, string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := ProbeCommand(t.Context(), []string{"-dir", folder}, &out, &errs)
	return code, out.String() + errs.String()
}

func TestProbe(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "godwit")
	if code, text := probeCommand(t, folder); code != 1 || !strings.Contains(text, "no agent answers") {
		t.Errorf("without an agent: %d %q", code, text)
	}
	var owns atomic.Bool
	stop := runAdmin(t, folder, func() (bool, string) {
		if owns.Load() {
			return true, "agent 0000aaaa owns the sockets"
		}
		return false, "agent 0000aaaa has not taken over"
	})
	if code, text := probeCommand(t, folder); code != 1 || text != "agent 0000aaaa has not taken over\n" {
		t.Errorf("%d %q", code, text)
	}
	owns.Store(true)
	if code, text := probeCommand(t, folder); code != 0 || text != "agent 0000aaaa owns the sockets\n" {
		t.Errorf("%d %q", code, text)
	}
	if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	stop()
	if list, err := os.ReadDir(folder); err != nil || len(list) != 0 {
		t.Errorf("left behind: %v %v", list, err)
	}
	if code, _ := probeCommand(t, folder); code != 1 {
		t.Errorf("after its end: %d", code)
	}
}

// A restarted container finds the file of the agent that was killed.
func TestProbeAfterACrash(t *testing.T) {
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(folder, adminFile), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	if code, text := probeCommand(t, folder); code != 1 || !strings.Contains(text, "refused") {
		t.Errorf("%d %q", code, text)
	}
	first := runAdmin(t, folder, func() (bool, string) { return false, "first" })
	runAdmin(t, folder, func() (bool, string) { return true, "second" })
	first() // and leaves the second one's file alone
	if code, text := probeCommand(t, folder); code != 0 || text != "second\n" {
		t.Errorf("%d %q", code, text)
	}
}

func TestProbeTrustsNoOpenFolder(t *testing.T) {
	open := t.TempDir()
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	private := t.TempDir()
	if err := os.Chmod(private, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(private, link); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{open, link, file, filepath.Join(t.TempDir(), "no", "parent")} {
		if _, err := OpenAdmin([]string{folder}); err == nil || !strings.Contains(err.Error(), "emptyDir") {
			t.Errorf("%s: %v", folder, err)
		}
		if code, _ := probeCommand(t, folder); code != 1 {
			t.Errorf("%s: %d", folder, code)
		}
	}
	a, err := OpenAdmin([]string{open, private}) // the next one will do
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
}

// An agent that hangs is not ready, and one that babbles neither.
func TestProbeHasPatience(t *testing.T) {
	for name, say := range map[string]string{"silent": "", "babbles": "maybe\n", "without end": strings.Repeat("yes", 10000)} {
		folder := t.TempDir()
		if err := os.Chmod(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("unix", filepath.Join(folder, adminFile))
		if err != nil {
			t.Fatal(err)
		}
		var ended sync.WaitGroup
		ended.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				_, _ = c.Write([]byte(say))
				t.Cleanup(func() { c.Close() })
			}
		})
		begin := time.Now()
		if code, text := probeCommand(t, folder); code != 1 || time.Since(begin) > 5*adminPatience {
			t.Errorf("%s: %d %q after %v", name, code, text, time.Since(begin))
		}
		ln.Close()
		ended.Wait()
	}
	for _, args := range [][]string{{"x"}, {"-what"}} {
		var out, errs bytes.Buffer
		if code := ProbeCommand(t.Context(), args, &out, &errs); code != 2 || errs.Len() == 0 {
			t.Errorf("%v: %d %q", args, code, errs.String())
		}
	}
}
