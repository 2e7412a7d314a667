package check

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// floorPlan says which packages of ours a package may import, and behind the bar which modules of others. A star stands
// for one folder. What is not listed is forbidden; tests may import anything.
const floorPlan = `
wire                  :                                                     |
corefile              :                                                     |
metrics               :                                                     |
metrics/exposition    : metrics                                             | github.com/prometheus/client_golang github.com/prometheus/client_model
internal/invariant    :                                                     |
loop                  : internal/invariant                                  | golang.org/x/sys
chain                 : wire corefile metrics loop internal/invariant       | github.com/miekg/dns
zone                  : wire internal/invariant                             | github.com/miekg/dns
upstream              : wire loop metrics internal/invariant                | golang.org/x/sys
cluster               : wire metrics internal/watch                         | k8s.io/client-go k8s.io/apimachinery sigs.k8s.io/yaml
server                : wire chain loop metrics corefile internal/invariant | golang.org/x/sys
plugin/prometheus     : wire chain corefile metrics metrics/exposition      | github.com/prometheus/client_golang github.com/prometheus/client_model golang.org/x/crypto sigs.k8s.io/yaml
plugin/template       : wire chain corefile metrics loop zone               | github.com/miekg/dns github.com/expr-lang/expr
plugin/transfer       : wire chain corefile metrics loop zone               | github.com/miekg/dns
plugin/kubernetes     : wire chain corefile metrics loop cluster            |
plugin/searchpath     : wire chain corefile metrics loop cluster            |
plugin/*              : wire chain corefile metrics loop zone upstream      |
plugin                : chain plugin/*                                      |
run                   : chain server server/* corefile metrics loop wire    | golang.org/x/sys
hostnet               : metrics                                             | golang.org/x/sys
handover              :                                                     | golang.org/x/sys
node                  : run server chain hostnet handover metrics metrics/exposition corefile wire internal/watch | golang.org/x/sys sigs.k8s.io/yaml
tool/*                : run plugin chain corefile wire metrics cluster      |
tool                  : tool/* run plugin chain corefile wire metrics       |
cmd/*                 : plugin run node tool tool/*                         |
internal/freeport     :                                                     |
internal/program      :                                                     |
internal/watch        :                                                     | golang.org/x/sys
internal/chaintest    : chain corefile loop metrics wire                    | github.com/miekg/dns
internal/scenario     : chain corefile loop metrics run server wire         | github.com/miekg/dns golang.org/x/tools
internal/check        :                                                     |
deploy                :                                                     |
`

// free are folders without rules of their own: programs and helpers of the tests, which nothing of the server may import.
var free = []string{"test", "bench", "examples"}

const module = "github.com/godwit-dns/godwit"

// listed is what go list tells of a package.
type listed struct {
	ImportPath string
	Dir        string
	Standard   bool
	Imports    []string
	Deps       []string
}

// golist runs go list in the module's root.
func golist(t *testing.T, args ...string) (list []listed) {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-e", "-json=ImportPath,Dir,Standard,Imports,Deps"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(out); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return list
}

type rule struct {
	of           string
	ours, others []string
}

func rules() (list []rule) {
	for _, line := range strings.Split(strings.TrimSpace(floorPlan), "\n") {
		of, rest, _ := strings.Cut(line, ":")
		ours, others, _ := strings.Cut(rest, "|")
		list = append(list, rule{strings.TrimSpace(of), strings.Fields(ours), strings.Fields(others)})
	}
	return list
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return err == nil && ok
	})
}

func TestFloorPlan(t *testing.T) {
	plan := rules()
	for _, p := range golist(t, "./...") {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if top, _, _ := strings.Cut(name, "/"); slices.Contains(free, top) {
			continue
		}
		at := slices.IndexFunc(plan, func(r rule) bool { return matches([]string{r.of}, name) })
		if at < 0 {
			t.Errorf("%s is not in the floor plan (internal/check/floor_test.go)", name)
			continue
		}
		for _, imported := range p.Imports {
			if inside, ok := strings.CutPrefix(imported, module+"/"); ok {
				if !matches(plan[at].ours, inside) {
					t.Errorf("%s may not import %s: move what they share to a package of its own, or to an interface in chain", name, inside)
				}
				continue
			}
			host, _, _ := strings.Cut(imported, "/")
			if strings.Contains(host, ".") && !slices.ContainsFunc(plan[at].others, func(m string) bool { return imported == m || strings.HasPrefix(imported, m+"/") }) {
				t.Errorf("%s may not import %s: do without, or change the floor plan", name, imported)
			}
		}
	}
}

// TestPluginsDoNotKnowEachOther holds for what plugins reach through others, too.
func TestPluginsDoNotKnowEachOther(t *testing.T) {
	for _, p := range golist(t, "-deps", "./plugin/...") {
		name, ok := strings.CutPrefix(p.ImportPath, module+"/plugin/")
		if !ok {
			continue
		}
		for _, d := range p.Deps {
			inside, ok := strings.CutPrefix(d, module+"/")
			if ok && (strings.HasPrefix(inside, "plugin") || inside == "server" || inside == "run") {
				t.Errorf("plugin/%s reaches %s", name, inside)
			}
		}
	}
}

// TestKubernetesStaysInCluster keeps the large parts of the client library out of the program: with them godwit -version is
// not below 20 MiB. That no other package than cluster imports the rest is the floor plan's.
func TestKubernetesStaysInCluster(t *testing.T) {
	heavy := []string{"k8s.io/client-go/kubernetes", "k8s.io/client-go/tools/cache", "k8s.io/client-go/informers", "k8s.io/client-go/dynamic"}
	for _, p := range golist(t, "-deps", "./cmd/godwit") {
		for _, h := range heavy {
			if p.ImportPath == h || strings.HasPrefix(p.ImportPath, h+"/") {
				t.Errorf("the program links %s", p.ImportPath)
			}
		}
	}
}
