package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// configMap is a mounted ConfigMap's folder, changed as kubelet does it: a new folder of all files, then one rename.
type configMap struct {
	t   *testing.T
	dir string
	n   int
}

func (c *configMap) write(files map[string]string) {
	c.t.Helper()
	old, _ := os.Readlink(filepath.Join(c.dir, "..data")) // none at first
	c.n++
	fresh := fmt.Sprintf("..2026_11_21_%d", c.n)
	c.must(os.Mkdir(filepath.Join(c.dir, fresh), 0o755))
	for name, text := range files {
		c.must(os.WriteFile(filepath.Join(c.dir, fresh, name), []byte(text), 0o644))
	}
	c.must(os.Symlink(fresh, filepath.Join(c.dir, "..data_tmp")))
	c.must(os.Rename(filepath.Join(c.dir, "..data_tmp"), filepath.Join(c.dir, "..data")))
	for name := range files {
		if _, err := os.Lstat(filepath.Join(c.dir, name)); err != nil {
			c.must(os.Symlink(filepath.Join("..data", name), filepath.Join(c.dir, name)))
		}
	}
	if old != "" {
		c.must(os.RemoveAll(filepath.Join(c.dir, old)))
	}
}

func (c *configMap) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// from waits until names below a domain are answered by a server, whose address the lab's answers hold.
func (l *Lab) from(t *testing.T, domain string, s *Server) {
	t.Helper()
	var last any
	for began, n := time.Now(), 0; time.Since(began) < 15*time.Second; n++ {
		r, _, err := l.Pods[0].Ask(ClusterDNS4, fmt.Sprintf("n%d-%d.%s", n, began.UnixNano(), domain), dns.TypeA, time.Second)
		if err == nil && len(r.Answer) == 1 && strings.HasSuffix(r.Answer[0].String(), s.Addr4.String()) {
			t.Logf("%s by %s after %v", domain, s.Addr4, time.Since(began).Round(time.Millisecond))
			return
		}
		last = fmt.Sprint(r, err)
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%s is not answered by %s: %v", domain, s.Addr4, last)
}

// TestConfigMap changes the kube-dns ConfigMap under load, as kubelet does: upstream servers, then a stub domain, then
// something that is wrong, then no stub domain.
func TestConfigMap(t *testing.T) {
	t.Parallel()
	l := NewLab(t, 5)
	c := &configMap{t: t, dir: l.dir + "/kube-dns"}
	c.must(os.Mkdir(c.dir, 0o755))
	one, two := l.Servers[0], l.Servers[1]
	upstream := func(s *Server) string { return fmt.Sprintf("[%q]", s.Addr4) }
	c.write(map[string]string{"upstreamNameservers": upstream(one)})
	a := l.Agent(AgentOptions{Args: []string{"-kubednscm", c.dir}}).Ready()
	l.from(t, "example.", one)
	load := l.usual()
	load.Name = func(n int) string { // half of them in the cluster's zone, half in the root's
		if n%2 == 0 {
			return fmt.Sprintf("www-%d.example.", n)
		}
		return fmt.Sprintf("svc-%d.default.svc.cluster.local.", n%100)
	}
	load.Rate, load.TCPRate = 300, 30
	wantNoLoss(t, l.under(load, func() {
		c.write(map[string]string{"upstreamNameservers": upstream(two)})
		l.from(t, "example.", two)
		c.write(map[string]string{"upstreamNameservers": upstream(two), "stubDomains": fmt.Sprintf(`{"corp.example": [%q]}`, one.Addr4)})
		l.from(t, "corp.example.", one)
		l.from(t, "example.", two)
		c.write(map[string]string{"upstreamNameservers": upstream(one), "stubDomains": `{"corp.example": "no list"}`})
		time.Sleep(time.Second)
		l.from(t, "corp.example.", one)
		l.from(t, "example.", two)
		c.write(map[string]string{"upstreamNameservers": upstream(two), "stubDomains": "{}"})
		l.from(t, "corp.example.", two)
	}))
	if text := a.Metrics(9353); !strings.Contains(text, `coredns_nodecache_setup_errors_total{errortype="configmap"} 1`) {
		t.Errorf("the mistake in the ConfigMap is not counted once: %s", text)
	}
	a.End()
	l.wantClean(t)
}
