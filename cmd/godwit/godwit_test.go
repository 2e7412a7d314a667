package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/internal/freeport"
	"github.com/godwit-dns/godwit/internal/program"
)

func TestMain(m *testing.M) {
	if os.Getenv("GODWIT_TEST_AS_COMMAND") != "" { // the test binary is the program, so that signals and exit codes are real
		os.Exit(command(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

// godwit is a running process.
type godwit struct {
	*program.Running
	t *testing.T
}

func start(t *testing.T, dir, stdin string, args ...string) *godwit {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "GODWIT_TEST_AS_COMMAND=1")
	return &godwit{program.Start(t, cmd), t}
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

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// ask asks over UDP; nil when no answer comes.
func ask(port, name string) *dns.Msg {
	c := &dns.Client{Timeout: 2 * time.Second}
	m, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), "127.0.0.1:"+port)
	if err != nil {
		return nil
	}
	return m
}

func (g *godwit) answers(port, name string) {
	g.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if m := ask(port, name); m != nil && m.Rcode == dns.RcodeSuccess {
			return
		}
		if time.Now().After(end) {
			g.t.Fatalf("no answer; output:\n%s", &g.Out)
		}
	}
}

func TestMissingAndEmptyCorefilesAreTheDefault(t *testing.T) {
	for _, make := range []func(dir string) []string{
		func(string) []string { return nil },
		func(dir string) []string { write(t, dir, "Corefile", "# nothing\n"); return nil },
		func(string) []string { return []string{"-conf", "stdin"} },
	} {
		dir, port := t.TempDir(), freePort(t)
		g := start(t, dir, "", append(make(dir), "-dns.port", port)...)
		g.Says("Godwit-")
		g.answers(port, "example.org.")
		g.Says(`"A IN example.org. udp`)
		if !strings.Contains(g.Out.String(), ".:"+port+"\n") {
			t.Errorf("banner:\n%s", &g.Out)
		}
		g.Signal(syscall.SIGTERM)
		if code := g.Exit(15 * time.Second); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
}

func TestConfFromStdinAndPidfile(t *testing.T) {
	dir, port := t.TempDir(), freePort(t)
	pid := filepath.Join(dir, "pid")
	g := start(t, dir, ".:"+port+" {\n whoami\n}\n", "-conf", "stdin", "-pidfile", pid, "-quiet")
	g.answers(port, "example.org.")
	text, err := os.ReadFile(pid)
	for end := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		text, err = os.ReadFile(pid)
	}
	if err != nil || strings.TrimSpace(string(text)) != fmt.Sprint(g.Process.Pid) {
		t.Errorf("pidfile %q, %v", text, err)
	}
	g.Signal(syscall.SIGUSR1) // the same text again
	g.Says("Reloading complete")
	g.answers(port, "example.org.")
	if strings.Contains(g.Out.String(), "Godwit-") {
		t.Errorf("-quiet prints\n%s", &g.Out)
	}
	g.Signal(syscall.SIGINT)
	if code := g.Exit(15 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(pid); !os.IsNotExist(err) {
		t.Errorf("the pidfile is still there: %v", err)
	}
}

func TestErrorsAtStart(t *testing.T) {
	dir := t.TempDir()
	held, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	port := fmt.Sprint(held.LocalAddr().(*net.UDPAddr).Port)
	free := freePort(t)
	for what, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no such file":    {[]string{"-conf", "nowhere"}, 1, "nowhere"},
		"unknown word":    {[]string{"-conf", write(t, dir, "a", ".:"+free+" {\n  whomai\n}\n")}, 1, "a:2:3: unknown directive \"whomai\"; did you mean whoami?"},
		"port in use":     {[]string{"-conf", write(t, dir, "b", ".:"+port+" {\n  bind 127.0.0.1\n  whoami\n}\n")}, 1, "b:2:8: listen udp 127.0.0.1:" + port + ": bind: address already in use; another process holds the port"},
		"pidfile":         {[]string{"-pidfile", "/nowhere/pid", "-dns.port", free}, 1, "-pidfile"},
		"unknown flag":    {[]string{"-nonsense"}, 2, "-nonsense"},
		"arguments":       {[]string{"x"}, 1, "extra command line arguments"},
		"no cluster here": {[]string{"-conf", write(t, dir, "c", ".:"+free+" {\n  kubernetes cluster.local\n}\n")}, 1, "KUBERNETES_SERVICE_HOST"},
	} {
		g := start(t, dir, "", c.args...)
		if code := g.Exit(20 * time.Second); code != c.code || !strings.Contains(g.Out.String(), c.says) {
			t.Errorf("%s: exit code %d, want %d:\n%s", what, code, c.code, &g.Out)
		}
	}
}

func TestVersionPluginsHelp(t *testing.T) {
	run := func(arg string) (int, string) {
		g := start(t, t.TempDir(), "", arg)
		return g.Exit(10 * time.Second), g.Out.String()
	}
	if code, out := run("-version"); code != 0 || !strings.HasPrefix(out, "Godwit-") || strings.Count(out, "\n") != 2 {
		t.Errorf("-version: %d %q", code, out)
	}
	if code, out := run("-plugins"); code != 0 || !strings.Contains(out, "dns.whoami\n") {
		t.Errorf("-plugins: %d %q", code, out)
	}
	if code, out := run("-help"); code != 0 || !strings.Contains(out, "-dns.port") {
		t.Errorf("-help: %d %q", code, out)
	}
}

func TestSecondProcessOnTheSamePort(t *testing.T) {
	dir, port := t.TempDir(), freePort(t)
	conf := write(t, dir, "Corefile", ".:"+port+" {\n whoami\n}\n")
	first := start(t, dir, "", "-conf", conf)
	first.answers(port, "a.")
	second := start(t, dir, "", "-conf", conf)
	if code := second.Exit(10 * time.Second); code != 1 || !strings.Contains(second.Out.String(), "another process holds the port") {
		t.Errorf("exit code %d:\n%s", code, &second.Out)
	}
	first.answers(port, "a.")
}

func TestSignals(t *testing.T) {
	dir, port, web := t.TempDir(), freePort(t), "127.0.0.1:"+freePort(t)
	block := func(extra string) string {
		return ".:" + port + " {\n whoami\n health " + web + " {\n  lameduck 2s\n }\n" + extra + "}\n"
	}
	write(t, dir, "Corefile", block(""))
	g := start(t, dir, "")
	g.answers(port, "a.")
	g.Signal(syscall.SIGHUP)
	g.answers(port, "a.")
	write(t, dir, "Corefile", block(" nonsense\n"))
	g.Signal(syscall.SIGUSR1)
	g.Says("unknown directive \"nonsense\"")
	g.answers(port, "a.")
	write(t, dir, "Corefile", block(" template IN A b. {\n  rcode NXDOMAIN\n }\n"))
	g.Signal(syscall.SIGUSR1)
	g.Says("Reloading complete")
	if m := ask(port, "b."); m == nil || m.Rcode != dns.RcodeNameError {
		t.Errorf("the new configuration does not answer: %v", m)
	}
	began := time.Now()
	g.Signal(syscall.SIGTERM)
	g.Says("SIGTERM: Shutting down")
	for time.Since(began) < 1500*time.Millisecond { // lameduck: it goes on answering, and is healthy
		if m := ask(port, "a."); m == nil {
			t.Fatal("no answer during the lameduck")
		}
		if got := get("http://" + web + "/health"); got != "OK" {
			t.Fatalf("/health says %q during the lameduck", got)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if code := g.Exit(20 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("ended after %v, before the lameduck was over", took)
	}
}

func get(url string) string {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Second}
	r, err := c.Get(url)
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestImpatientSignals(t *testing.T) {
	for _, c := range []struct {
		first, second os.Signal
		code          int
	}{{syscall.SIGINT, syscall.SIGINT, 2}, {syscall.SIGTERM, syscall.SIGQUIT, 0}, {syscall.SIGQUIT, nil, 0}} {
		dir, port, web := t.TempDir(), freePort(t), "127.0.0.1:"+freePort(t)
		write(t, dir, "Corefile", ".:"+port+" {\n whoami\n health "+web+" {\n  lameduck 30s\n }\n}\n")
		g := start(t, dir, "")
		g.answers(port, "a.")
		began := time.Now()
		g.Signal(c.first)
		if c.second != nil {
			g.Says("Shutting down")
			g.Signal(c.second)
		}
		if code := g.Exit(10 * time.Second); code != c.code || time.Since(began) > 5*time.Second {
			t.Errorf("%v %v: exit code %d after %v", c.first, c.second, code, time.Since(began))
		}
	}
}
