package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godwit-dns/godwit/internal/freeport"
)

// process is one run of a program.
type process struct {
	cmd  *exec.Cmd
	out  *output
	done chan struct{} // closed when it has been reaped
	err  error         // how it ended; read after done
}

// output gathers what a process prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

// Write takes what the process printed.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// startProcess starts cmd, which dies with this process.
func startProcess(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, out: new(output), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		// Pdeathsig fires at the end of the thread that made the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only if it has ended already
	<-p.done
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// wait returns the exit code of a process that has to end by itself.
func (p *process) wait(t *testing.T, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		t.Fatalf("still running after %v: %s", limit, p.out)
		return 0
	}
}

// signal sends a signal to a process that is running.
func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// freePort gives a port that is free for UDP and TCP.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := freeport.Find()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// godwit is the program under test with a Corefile. The Corefile reads its
// ports from the variables DNS, READY, HEALTH and METRICS, and the path of the
// folder testdata from TESTDATA.
type godwit struct {
	*process
	dir                         string // where Corefile is, the working directory
	corefile                    string // its path
	dns, ready, health, metrics string // addresses, host:port
	open                        dialer // how it is reached
	get                         func(url string) (int, string, error)
}

// prepare writes a Corefile and draws ports; env has NAME=VALUE pairs that the
// Corefile uses. Nothing runs yet.
func prepare(t *testing.T, corefile string, env ...string) *godwit {
	t.Helper()
	g := &godwit{dir: t.TempDir(), open: dial, get: get}
	g.corefile = filepath.Join(g.dir, "Corefile")
	write(t, g.corefile, corefile)
	for _, one := range []struct {
		name string
		addr *string
	}{{"DNS", &g.dns}, {"READY", &g.ready}, {"HEALTH", &g.health}, {"METRICS", &g.metrics}} {
		port := freePort(t)
		*one.addr = "127.0.0.1:" + port
		env = append(env, one.name+"="+port)
	}
	testdata, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	env = append(env, "TESTDATA="+testdata)
	_ = os.Getenv(binaryVariable) // go test's cache sees what is read after TestMain
	cmd := exec.Command(program, "-conf", g.corefile)
	cmd.Dir = g.dir
	cmd.Env = append(os.Environ(), env...)
	g.process = &process{cmd: cmd}
	return g
}

// launch starts what was prepared.
func (g *godwit) launch(t *testing.T) *godwit {
	t.Helper()
	g.process = startProcess(t, g.cmd)
	p := g.process
	t.Cleanup(func() {
		log := p.out.String()
		if strings.Contains(log, "panic: ") || strings.Contains(log, "fatal error: ") || strings.Contains(log, "DATA RACE") {
			t.Error("the program is broken")
		}
		if t.Failed() {
			t.Logf("what %s printed:\n%s", filepath.Base(program), tail(log, 60))
		}
	})
	return g
}

// serve starts the program and waits until it serves.
func serve(t *testing.T, corefile string, env ...string) *godwit {
	t.Helper()
	return prepare(t, corefile, env...).launch(t).serving(t)
}

// serving waits until the program has printed its banner, which it does when
// it answers.
func (g *godwit) serving(t *testing.T) *godwit {
	t.Helper()
	eventually(t, 20*time.Second, "the program serves", func() bool {
		if !g.running() {
			t.Fatalf("the program ended: %v: %s", g.err, g.out)
		}
		return strings.Contains(g.out.String(), "\n"+runtime.GOOS+"/"+runtime.GOARCH+", ")
	})
	return g
}

// refused runs the program with a Corefile that it has to refuse, and returns
// what it printed: exit code 1, one error line.
func refused(t *testing.T, g *godwit) string {
	t.Helper()
	g.process = startProcess(t, g.cmd)
	if code := g.wait(t, 20*time.Second); code != 1 {
		t.Errorf("exit code %d, want 1: %s", code, g.out)
	}
	return theError(t, g.out.String())
}

// theError is the one line at level ERROR of a log.
func theError(t *testing.T, log string) string {
	t.Helper()
	var found []string
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, "[ERROR] ") {
			found = append(found, strings.TrimPrefix(strings.TrimSpace(line), "[ERROR] "))
		}
	}
	if len(found) != 1 {
		t.Errorf("%d error lines, want 1: %s", len(found), log)
		return strings.Join(found, "\n")
	}
	return found[0]
}

// stop ends the program by SIGTERM.
func (g *godwit) stop(t *testing.T) {
	t.Helper()
	g.signal(t, syscall.SIGTERM)
	if code := g.wait(t, 20*time.Second); code != 0 {
		t.Errorf("exit code %d after SIGTERM: %s", code, g.out)
	}
}

// again prepares the program once more, with the same Corefile and ports.
func (g *godwit) again() *godwit {
	next := *g
	cmd := exec.Command(g.cmd.Path, g.cmd.Args[1:]...)
	cmd.Dir, cmd.Env = g.cmd.Dir, g.cmd.Env
	next.process = &process{cmd: cmd}
	return &next
}

// status asks an HTTP endpoint for its status; 0 when nobody answers.
func (g *godwit) status(address, path string) int {
	code, _, err := g.get("http://" + address + path)
	if err != nil {
		return 0
	}
	return code
}

// metric gives a series' value as it stands in the exposition, "" for none.
// series is a name with labels in the order that they are printed.
func (g *godwit) metric(t *testing.T, series string) string {
	t.Helper()
	_, text, err := g.get("http://" + g.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// number is metric for series that must be there.
func (g *godwit) number(t *testing.T, series string) float64 {
	t.Helper()
	text := g.metric(t, series)
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Errorf("metric %s: %q", series, text)
	}
	return n
}

func get(url string) (int, string, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// eventually waits until ok, and returns how long that took.
func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > limit {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(begin)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// tail is the end of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	if len(all) > lines {
		all = append([]string{fmt.Sprintf("(%d lines before)", len(all)-lines)}, all[len(all)-lines:]...)
	}
	return strings.Join(all, "\n")
}
