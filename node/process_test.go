package node

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/internal/freeport"
	"github.com/godwit-dns/godwit/internal/program"
)

// process is an agent that runs.
type process struct {
	*program.Running
	t *testing.T
}

// startAgent runs this test binary as the agent, with an environment of its own.
func startAgent(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{"GODWIT_TEST_AS_AGENT=1", "PATH=" + os.Getenv("PATH")}, env...)
	return &process{program.Start(t, cmd), t}
}

func freePort(t *testing.T) string {
	t.Helper()
	port, err := freeport.Find()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// answer asks for an address over UDP; empty when there is none.
func answer(addr, name string) string {
	c := &dns.Client{Timeout: time.Second}
	m, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), addr)
	if err != nil || len(m.Answer) == 0 {
		return ""
	}
	a, ok := m.Answer[0].(*dns.A)
	if !ok {
		return ""
	}
	return a.A.String()
}

func (p *process) answers(addr, name, want string) {
	p.t.Helper()
	var got string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got = answer(addr, name); got == want {
			return
		}
	}
	p.t.Fatalf("%s at %s is %q, want %q; output:\n%s", name, addr, got, want, &p.Out)
}

func fetch(url string) string {
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

// upstream answers every name with one address.
func upstream(t *testing.T, ip string) string {
	t.Helper()
	pc, ln, err := freeport.Listen()
	if err != nil {
		t.Fatal(err)
	}
	h := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: net.ParseIP(ip)}}
		}
		_ = w.WriteMsg(m)
	})
	ended := make(chan struct{}, 2)
	for _, srv := range []*dns.Server{{PacketConn: pc, Handler: h}, {Listener: ln, Handler: h}} {
		ready := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(ready) }
		go func() {
			_ = srv.ActivateAndServe()
			ended <- struct{}{}
		}()
		<-ready
		t.Cleanup(func() {
			_ = srv.Shutdown()
			<-ended
		})
	}
	return pc.LocalAddr().String()
}

// base is a template like those that clusters have, for addresses of the loopback interface.
const base = `__PILLAR__DNS__DOMAIN__:PORT {
    errors
    cache {
        success 1000 30
        denial 1000 5
    }
    reload
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__CLUSTER__DNS__:UPPORT {
        force_tcp
    }
    prometheus __PROMETHEUS__ENDPOINT__
    health __PILLAR__LOCAL__DNS__:HEALTH
}
.:PORT {
    errors
    cache 30
    reload
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__UPSTREAM__SERVERS__ {
        force_tcp
    }
}
`

func TestAgentWithoutAHost(t *testing.T) {
	cluster, first, second := upstream(t, "192.0.2.1"), upstream(t, "192.0.2.2"), upstream(t, "192.0.2.3")
	clusterHost, clusterPort, _ := net.SplitHostPort(cluster)
	port, health, web, prom := freePort(t), freePort(t), "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
	fill := strings.NewReplacer(":UPPORT", ":"+clusterPort, ":PORT", ":"+port, ":HEALTH", ":"+health)
	template := mount(t, map[string]string{"Corefile.base": fill.Replace(base)})
	kube := mount(t, map[string]string{"upstreamNameservers": `["` + first + `"]`})
	dir := t.TempDir()
	conf, pid, runDir := filepath.Join(dir, "Corefile"), filepath.Join(dir, "pid"), filepath.Join(dir, "run")
	p := startAgent(t, []string{"KUBE_DNS_UPSTREAM_SERVICE_HOST=" + clusterHost},
		"-localip", "127.0.0.1,127.0.0.2", "-setupinterface=false", "-setupiptables=false", "-dns.port", port, "-conf", conf,
		"-basecorefile", filepath.Join(template.dir, "Corefile.base"), "-kubednscm", kube.dir, "-upstreamsvc", "kube-dns-upstream",
		"-metrics-listen-address", web, "-prometheus-listen-address", prom, "-pidfile", pid, "-syncinterval", "60",
		"-cluster-domain", "k8s.test", "-run-dir", runDir)
	for _, addr := range []string{"127.0.0.1:" + port, "127.0.0.2:" + port} {
		p.answers(addr, "web.k8s.test.", "192.0.2.1")
		p.answers(addr, "example.org.", "192.0.2.2")
	}
	p.Says("k8s.test.:" + port + " on 127.0.0.2\n")
	if text, err := os.ReadFile(conf); err != nil || !strings.Contains(string(text), "bind 127.0.0.1 127.0.0.2") || strings.Contains(string(text), "__P") {
		t.Errorf("-conf has %q, %v", text, err)
	}
	for _, url := range []string{"http://" + web + "/metrics", "http://" + prom + "/metrics"} {
		body := fetch(url)
		for _, want := range []string{`coredns_nodecache_setup_errors_total{errortype="iptables"} 0`, `errortype="iptables_lock"} 0`,
			`errortype="interface_add"} 0`, `errortype="interface_check"} 0`, `errortype="configmap"} 0`, "coredns_build_info{",
			"coredns_cache_entries{", "godwit_node_handovers_total{", "go_goroutines"} {
			if !strings.Contains(body, want) {
				t.Errorf("%s has no %s:\n%.300s", url, want, body)
			}
		}
	}
	if got := fetch("http://127.0.0.1:" + health + "/health"); got != "OK" {
		t.Errorf("/health: %q", got)
	}
	probe := func() (int, string) {
		c := startAgent(t, nil, "probe", "-dir", runDir)
		return c.Exit(10 * time.Second), c.Out.String()
	}
	if code, out := probe(); code != 0 || !regexp.MustCompile(`^agent [0-9a-f]{8} serves; the host is not its to set up\n$`).MatchString(out) {
		t.Errorf("probe: %d %q", code, out)
	}
	if body := fetch("http://" + web + "/metrics"); strings.Contains(body, "godwit_node_answering") {
		t.Error("it probes addresses that it does not set up")
	}

	kube.set(map[string]string{"upstreamNameservers": `["` + second + `"]`, "stubDomains": `{"corp.test": ["` + first + `"]}`})
	p.answers("127.0.0.1:"+port, "a.corp.test.", "192.0.2.2")
	p.answers("127.0.0.2:"+port, "other.example.org.", "192.0.2.3")
	kube.set(map[string]string{"upstreamNameservers": `[`})
	p.Says("upstreamNameservers:1:")
	p.answers("127.0.0.1:"+port, "b.corp.test.", "192.0.2.2")
	within(t, 10*time.Second, "it is counted", func() bool {
		return strings.Contains(fetch("http://"+web+"/metrics"), `errortype="configmap"} 1`)
	})

	began := time.Now()
	p.Signal(syscall.SIGTERM)
	if code := p.Exit(20 * time.Second); code != 0 {
		t.Errorf("exit code %d:\n%s", code, &p.Out)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %v to end", took)
	}
	if _, err := os.Stat(pid); !os.IsNotExist(err) {
		t.Errorf("the pidfile is still there: %v", err)
	}
	if code, out := probe(); code != 1 {
		t.Errorf("probe of an agent that is gone: %d %q", code, out)
	}
}

// A configuration that the node cannot have changes nothing, and is tried again when it changes.
func TestAgentKeepsWhatServes(t *testing.T) {
	port := freePort(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "base")
	block := func(line string) string {
		return ".:" + port + " {\n    bind __PILLAR__LOCAL__DNS__\n    hosts {\n        " + line + "\n    }\n}\n"
	}
	put(t, path, block("192.0.2.1 a.test"))
	p := startAgent(t, nil, "-localip", "127.0.0.1", "-setupinterface=false", "-rules", "none", "-p", port, "-basecorefile", path, "-quiet",
		"-metrics-listen-address=", "-run-dir", filepath.Join(dir, "run"))
	p.answers("127.0.0.1:"+port, "a.test.", "192.0.2.1")
	put(t, path, block("192.0.2.2 a.test")+"broken {\n    nonsense\n}\n")
	p.Says(`unknown directive "nonsense"`)
	p.answers("127.0.0.1:"+port, "a.test.", "192.0.2.1")
	put(t, path, block("192.0.2.2 a.test")) // no reload directive is needed
	p.answers("127.0.0.1:"+port, "a.test.", "192.0.2.2")
	put(t, path, "cluster.local {\n    forward . __PILLAR__CLUSTER__DNS__\n}\n")
	p.Says("KUBE_DNS_SERVICE_HOST is not set")
	p.answers("127.0.0.1:"+port, "a.test.", "192.0.2.2")
	p.Signal(syscall.SIGINT)
	if code := p.Exit(20 * time.Second); code != 0 {
		t.Errorf("exit code %d:\n%s", code, &p.Out)
	}
}

func TestAgentThatCannotStart(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "base")
	put(t, path, "cluster.local {\n    forward . __PILLAR__CLUSTER__DNS__\n}\n")
	without := []string{"-localip", "127.0.0.1", "-setupinterface=false", "-setupiptables=false", "-metrics-listen-address=", "-run-dir", filepath.Join(dir, "run")}
	for what, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no Service":   {append(without, "-basecorefile", path), 1, path + ":2:15: __PILLAR__CLUSTER__DNS__: the address of the Service \"kube-dns\" is not known"},
		"no template":  {append(without, "-basecorefile", "/nowhere"), 1, "-basecorefile says where it is"},
		"no address":   {[]string{"-conf", "/etc/Corefile"}, 1, "-localip is missing"},
		"unknown flag": {[]string{"-nonsense"}, 2, "Usage of node-cache:"},
		"help":         {[]string{"-help"}, 0, "-localip"},
		"version":      {[]string{"-version"}, 0, "Godwit-0\ntest\n"},
		"plugins":      {[]string{"-plugins"}, 0, "dns.cache\n"},
	} {
		p := startAgent(t, nil, c.args...)
		if code := p.Exit(20 * time.Second); code != c.code || !strings.Contains(p.Out.String(), c.says) {
			t.Errorf("%s: exit code %d, want %d:\n%s", what, code, c.code, &p.Out)
		}
	}
}

// A port that somebody else has is no reason not to serve DNS.
func TestMetricsThatCannotBeServed(t *testing.T) {
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	port, dir := freePort(t), t.TempDir()
	put(t, filepath.Join(dir, "base"), fmt.Sprintf(".:%s {\n    bind 127.0.0.1\n    hosts {\n        192.0.2.1 a.test\n    }\n}\n", port))
	p := startAgent(t, nil, "-localip", "127.0.0.1", "-setupinterface=false", "-setupiptables=false", "-p", port, "-basecorefile", filepath.Join(dir, "base"),
		"-metrics-listen-address", held.Addr().String(), "-run-dir", filepath.Join(dir, "run"))
	p.answers("127.0.0.1:"+port, "a.test.", "192.0.2.1")
	p.Says("the agent's metrics are not served")
	p.Signal(syscall.SIGTERM)
	if code := p.Exit(20 * time.Second); code != 0 {
		t.Errorf("exit code %d:\n%s", code, &p.Out)
	}
}
