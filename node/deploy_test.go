package node

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/plugin"
	"github.com/godwit-dns/godwit/run"
)

// manifest is what these tests read of the objects in deploy.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		UpdateStrategy struct {
			RollingUpdate struct{ MaxSurge, MaxUnavailable any }
		}
		Template struct {
			Spec struct {
				HostNetwork bool
				Containers  []struct {
					Args           []string
					Ports          []any
					ReadinessProbe struct{ Exec struct{ Command []string } }
					LivenessProbe  struct {
						HTTPGet struct {
							Host string
							Port int
						}
					}
					SecurityContext struct {
						Capabilities struct{ Add, Drop []string }
					}
				}
			}
		}
	}
}

func manifests(t *testing.T, path string) (list []manifest) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range bytes.Split(text, []byte("\n---\n")) {
		var m manifest
		if err := yaml.Unmarshal(doc, &m); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		list = append(list, m)
	}
	return list
}

func find(t *testing.T, list []manifest, kind string) manifest {
	t.Helper()
	i := slices.IndexFunc(list, func(m manifest) bool { return m.Kind == kind })
	if i < 0 {
		t.Fatalf("there is no %s", kind)
	}
	return list[i]
}

// TestDeployedAgents starts as far as the configuration what the manifests of deploy start.
func TestDeployedAgents(t *testing.T) {
	services := ""
	for _, m := range manifests(t, "../deploy/node-common.yaml") {
		services += m.Kind + "/" + m.Metadata.Name + " "
	}
	for file, onHost := range map[string]bool{"node-kube-proxy.yaml": true, "node-ipvs.yaml": true, "node-cilium.yaml": false} {
		t.Run(file, func(t *testing.T) {
			list := manifests(t, "../deploy/"+file)
			set := find(t, list, "DaemonSet")
			c := set.Spec.Template.Spec.Containers[0]
			o, err := parseFlags(c.Args, "node-cache", io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if o.setsUp() != onHost || set.Spec.Template.Spec.HostNetwork != onHost || (len(c.Ports) == 0) != onHost {
				t.Errorf("sets the host up: %v, host network: %v, ports: %v", o.setsUp(), set.Spec.Template.Spec.HostNetwork, c.Ports)
			}
			if u := set.Spec.UpdateStrategy.RollingUpdate; u.MaxSurge != float64(1) || u.MaxUnavailable != float64(0) {
				t.Errorf("update strategy %+v", u)
			}
			want := []string{"NET_BIND_SERVICE"}
			if onHost {
				want = []string{"NET_ADMIN", "NET_BIND_SERVICE"}
			}
			if k := c.SecurityContext.Capabilities; !slices.Equal(k.Add, want) || !slices.Equal(k.Drop, []string{"ALL"}) {
				t.Errorf("capabilities %+v", k)
			}
			if !slices.Equal(c.ReadinessProbe.Exec.Command, []string{"/node-cache", "probe"}) {
				t.Errorf("readiness probe %q", c.ReadinessProbe.Exec.Command)
			}
			if !strings.Contains(services, "Service/"+o.upstreamSvc+" ") {
				t.Errorf("there is no Service %s among %s", o.upstreamSvc, services)
			}
			if o.fallback != nil || o.fallbackName != "" { // the Service of the upstreams is it
				t.Errorf("a fallback of its own: %v %s", o.fallback, o.fallbackName)
			}
			built := buildFilled(t, o, find(t, list, "ConfigMap").Data["Corefile"])
			health := slices.IndexFunc(built.Config.Endpoints, func(e chain.Endpoint) bool { return e.Path == "/health" })
			probed := c.LivenessProbe.HTTPGet
			if health < 0 || built.Config.Endpoints[health].Addr != probed.Host+":8080" || probed.Port != 8080 {
				t.Errorf("the liveness probe asks %+v, and health is at %+v", probed, built.Config.Endpoints)
			}
			var served []string
			for _, b := range built.Config.Blocks[0].Bind {
				served = append(served, b.Addr)
			}
			if got := strings.Join(served, " "); got != join(o.localIPs) {
				t.Errorf("served at %s, not at %s", got, join(o.localIPs))
			}
			if len(built.Config.Warnings) != 0 {
				t.Errorf("warnings %v", built.Config.Warnings)
			}
		})
	}
}

// buildFilled fills a template and builds what comes of it.
func buildFilled(t *testing.T, o *options, template string) *run.Built {
	t.Helper()
	o.base, o.kubeDNS = filepath.Join(t.TempDir(), "Corefile.base"), t.TempDir()
	put(t, o.base, template)
	s := newSource(o, func(name string) (string, bool) { return "10.101.7.3", name == "KUBE_DNS_UPSTREAM_SERVICE_HOST" }, discard(), func() { t.Error("counted as wrong") })
	name, text, err := s.Corefile()
	if err != nil {
		t.Fatal(err)
	}
	env := &chain.Env{Log: discard(), Metrics: metrics.New(1), Loops: 1, Clock: loop.System(), Wall: time.Now, Node: true,
		Files: corefile.OS(), Env: noEnv, Loop: func(int) *chain.Worker { return nil }, Reload: func() {}, Fatal: func(error) {}, Print: func(int, []byte) {}}
	built, err := run.Build(env, plugin.All(), "53", name, text, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return built
}
