package kubernetes

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/internal/chaintest"
)

// build gives the handler of a directive that reads an empty folder of manifests.
func build(t *testing.T, keys, zones, options string) (*Kubernetes, *chaintest.Bench, error) {
	t.Helper()
	text := keys + " {\n kubernetes " + zones + " {\n manifests " + t.TempDir() + "\n" + options + "\n }\n}\n"
	b, err := chaintest.Build(t, text, chaintest.Options{Specs: []chain.Spec{Spec}})
	if err != nil {
		return nil, nil, err
	}
	return handlerOf(b), b, nil
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		options string
		check   func(c *Config) bool
	}{
		{"", func(c *Config) bool {
			return c.TTL == 5 && c.Pods == podsDisabled && c.StartTimeout == 5*time.Second && c.Fallthrough == nil
		}},
		{"ttl 0", func(c *Config) bool { return c.TTL == 0 }},
		{"ttl 3600 and more", func(c *Config) bool { return c.TTL == 3600 }},
		{"pods verified", func(c *Config) bool { return c.Pods == podsVerified }},
		{"namespaces b a\nnamespaces c a", func(c *Config) bool { return slices.Equal(c.Namespaces, []string{"a", "b", "c"}) }},
		{"labels environment in (staging, qa),application=nginx", func(c *Config) bool {
			return c.Cluster.Selector == "application=nginx,environment in (qa,staging)"
		}},
		{"namespace_labels istio-injection=enabled", func(c *Config) bool { return c.Cluster.NamespaceSelector == "istio-injection=enabled" }},
		{"endpoint_pod_names", func(c *Config) bool { return c.Cluster.PodNames }},
		{"noendpoints", func(c *Config) bool { return c.Cluster.NoEndpoints }},
		{"ignore empty_service", func(c *Config) bool { return c.IgnoreEmpty }},
		{"ignore", func(c *Config) bool { return !c.IgnoreEmpty }},
		{"fallthrough", func(c *Config) bool { return slices.Equal(c.Fallthrough, []string{"."}) }},
		{"fallthrough in-addr.arpa IP6.arpa", func(c *Config) bool { return slices.Equal(c.Fallthrough, []string{"in-addr.arpa.", "ip6.arpa."}) }},
		{"zonal", func(c *Config) bool { return c.Zonal }},
		{"multicluster cluster.local", func(c *Config) bool { return slices.Equal(c.Multicluster, []string{"cluster.local."}) }},
		{"multicluster", func(c *Config) bool { return len(c.Multicluster) == 0 }},
		{"startup_timeout 1m30s", func(c *Config) bool { return c.StartTimeout == 90*time.Second }},
		{"apiserver_qps 2.5\napiserver_burst 7\napiserver_max_inflight 3", func(c *Config) bool {
			return c.Cluster.QPS == 2.5 && c.Cluster.Burst == 7 && c.Cluster.MaxInFlight == 3
		}},
		{"upstream 1.2.3.4\nresyncperiod 5m", func(c *Config) bool { return true }},
	} {
		k, _, err := build(t, "cluster.local", "", c.options)
		if err != nil {
			t.Errorf("%q: %v", c.options, err)
		} else if !c.check(&k.cfg) {
			t.Errorf("%q: %+v", c.options, k.cfg)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct{ keys, zones, options, want string }{
		{".", "cluster.local", "pods both", "Corefile:4:6"},
		{".", "cluster.local", "pods", "pods has 0 arguments"},
		{".", "cluster.local", "pods verified insecure", "takes 1"},
		{".", "cluster.local", "ttl", "ttl has 0 arguments"},
		{".", "cluster.local", "ttl 3601", "out of range"},
		{".", "cluster.local", "ttl -1", "out of range"},
		{".", "cluster.local", "ttl five", "not a number"},
		{".", "cluster.local", "namespaces", "namespaces has 0"},
		{".", "cluster.local", "labels a in (b", "label selector"},
		{".", "cluster.local", "namespaces a\nnamespace_labels b=c", "cannot both be set"},
		{".", "cluster.local", "ignore all", "empty_service"},
		{".", "cluster.local", "noendpoints now", "noendpoints has 1 argument"},
		{".", "cluster.local", "zonal\nnoendpoints", "remove noendpoints"},
		{".", "cluster.local", "multicluster other.local", "none of the directive's zones"},
		{".", "cluster.local", "startup_timeout soon", "Corefile:4"},
		{".", "cluster.local", "tls a b", "tls has 2 arguments"},
		{".", "cluster.local", "kubeconfig", "kubeconfig has 0"},
		{".", "cluster.local", "endpoint https://x", "manifests take the place"},
		{".", "cluster.local", "apiserver_qps -1", "out of range"},
		{".", "cluster.local", "apiserver_burst x", "not a number"},
		{".", "cluster.local", "ttls 5", "ttl"},
		{".", "10.in-addr.arpa", "", "non-reverse zone name must be used"},
		{"10.0.0.0/8", "", "", "non-reverse zone name must be used"},
	} {
		_, _, err := build(t, c.keys, c.zones, c.options)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %q: got %v, want %q in it", c.zones, c.options, err, c.want)
		}
	}
	_, err := chaintest.Build(t, ".:53 {\n kubernetes a\n kubernetes b\n}\n", chaintest.Options{Specs: []chain.Spec{Spec}})
	if err == nil || !strings.Contains(err.Error(), "only once") {
		t.Errorf("two lines: %v", err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	_, err = chaintest.Build(t, ".:53 {\n kubernetes cluster.local\n}\n", chaintest.Options{Specs: []chain.Spec{Spec}})
	if err == nil || !strings.Contains(err.Error(), "outside a pod") {
		t.Errorf("outside a pod: %v", err)
	}
}

func TestZones(t *testing.T) {
	k, _, err := build(t, "10.0.0.0/17 Cluster.LOCAL", "", "")
	if err != nil {
		t.Fatal(err)
	}
	if k.primary.String() != "cluster.local." || len(k.zones) < 2 {
		t.Errorf("primary %v, %d zones", k.primary, len(k.zones))
	}
}

func TestReadmeNamesEveryOption(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(b)
	if !strings.Contains(readme, Spec.Usage) {
		t.Error("the README's Syntax is not the directive's usage")
	}
	for _, row := range Spec.Options() {
		if !strings.Contains(readme, "`"+row.Name) {
			t.Errorf("the README says nothing of %s", row.Name)
		}
	}
	if lines := Spec.Options().Usage(); !strings.Contains(Spec.Usage, strings.TrimRight(lines, "\n")) {
		t.Errorf("the usage is not made of the rows:\n%s", lines)
	}
	var _ corefile.Options = Spec.Options()
}
