package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestQuickStart runs examples/quickstart as `make run` does, in a copy of the
// folder whose port is another: it asks what the script says one may ask, and
// edits the cluster.
func TestQuickStart(t *testing.T) {
	if _, err := exec.LookPath("dig"); err != nil {
		t.Skipf("%v: test/deps.sh installs it", err)
	}
	folder := filepath.Join(t.TempDir(), "quickstart")
	if err := os.CopyFS(folder, os.DirFS("../../examples/quickstart")); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	corefile := filepath.Join(folder, "Corefile")
	write(t, corefile, strings.Replace(read(t, corefile), ".:1053 {", ".:"+port+" {", 1))
	if err := os.Chmod(filepath.Join(folder, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	g := &godwit{dir: folder, corefile: corefile, dns: "127.0.0.1:" + port, open: dial, get: get}
	g.process = &process{cmd: exec.Command(filepath.Join(folder, "run.sh"), program)}
	g.launch(t).serving(t)

	var got []string
	for line := range strings.Lines(g.out.String()) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "dig ") {
			got = append(got, dig(t, strings.Replace(line, "-p 1053", "-p "+port, 1)))
		}
	}
	want := []string{"10.96.0.80", "0 33 5432 db-0.db.shop.svc.cluster.local.\n0 33 5432 db-1.db.shop.svc.cluster.local.", "web.shop.svc.cluster.local."}
	if len(got) != len(want) {
		t.Fatalf("the script prints %d dig lines: %s", len(got), g.out)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("line %d answers %q, want %q", i+1, got[i], want[i])
		}
	}
	g.check(t, answers{
		{"web.shop.svc.cluster.local AAAA", "NOERROR fd00:96::80"},
		{"db-0.db.shop.svc.cluster.local AAAA", "NOERROR fd00:244:1::20"},
		{"storefront.shop.svc.cluster.local A", "NOERROR 10.96.0.80 CNAME:web.shop.svc.cluster.local."},
		{"10-244-1-20.shop.pod.cluster.local A", "NOERROR 10.244.1.20"},
	})
	checkEdits(t, g)
}

// dig runs a line that the script prints, with short answers, sorted.
func dig(t *testing.T, line string) string {
	t.Helper()
	words := append(strings.Fields(line), "+short", "+tries=1", "+time=2")
	out, err := exec.Command(words[0], words[1:]...).Output()
	if err != nil {
		t.Errorf("%s: %v: %s", line, err, out)
	}
	all := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// checkEdits changes cluster.yaml: in place, by a rename as editors do, to
// something wrong, and back.
func checkEdits(t *testing.T, g *godwit) {
	t.Helper()
	manifest := filepath.Join(g.dir, "cluster.yaml")
	first := read(t, manifest)
	second := strings.ReplaceAll(first, "10.96.0.80", "10.96.0.99")
	write(t, manifest, second)
	if took := g.becomes(t, answers{{"web.shop.svc.cluster.local A", "NOERROR 10.96.0.99"}, {"10.96.0.99 PTR", "NOERROR web.shop.svc.cluster.local."}, {"10.96.0.80 PTR", "NXDOMAIN"}}); took > time.Second {
		t.Errorf("an edit was answered after %v", took)
	}
	third := second + "---\napiVersion: v1\nkind: Service\nmetadata: {name: fresh, namespace: shop}\nspec: {clusterIP: 10.96.0.98, clusterIPs: [10.96.0.98], ports: [{port: 80}]}\n"
	write(t, manifest+".new", third)
	if err := os.Rename(manifest+".new", manifest); err != nil {
		t.Fatal(err)
	}
	if took := g.becomes(t, answers{{"fresh.shop.svc.cluster.local A", "NOERROR 10.96.0.98"}}); took > time.Second {
		t.Errorf("a new file was answered after %v", took)
	}
	write(t, manifest, "just some text\n")
	eventually(t, 5*time.Second, "the mistake is in the log", func() bool {
		return strings.Contains(g.out.String(), "[ERROR] manifests do not load")
	})
	g.check(t, answers{{"fresh.shop.svc.cluster.local A", "NOERROR 10.96.0.98"}})
	write(t, manifest, first)
	g.becomes(t, answers{{"web.shop.svc.cluster.local A", "NOERROR 10.96.0.80"}, {"fresh.shop.svc.cluster.local A", "NXDOMAIN"}})
}
