package e2e_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mistake is a Corefile that can not be served.
type mistake struct {
	name     string
	corefile string
	files    map[string]string // beside the Corefile
	words    []string          // all in the error; the first is the place
}

// zoneMistake has a bad line.
const zoneMistake = "$TTL 60\n@ IN SOA ns hostmaster 1 7200 1800 86400 60\n@ IN NS ns\nwww IN A not-an-address\n"

func mistakes() []mistake {
	block := func(lines string) string { return ".:{$DNS} {\n    bind 127.0.0.1\n    whoami\n    " + lines + "\n}\n" }
	manifests := block("kubernetes cluster.local {\n        manifests cluster.yaml\n    }")
	return []mistake{
		{"unknown directive", block("forwrad . 192.0.2.1"), nil, []string{"Corefile:4:5:", "forwrad", "forward"}},
		{"unknown option", block("kubernetes {\n        pod insecure\n    }"), nil, []string{"Corefile:5:9:", "pod", "pods"}},
		{"wrong argument", block("cache 30 {\n        success many\n    }"), nil, []string{"Corefile:5:17:", "many"}},
		{"argument out of bounds", block("kubernetes {\n        ttl 90000\n    }"), nil, []string{"Corefile:5:13:", "90000", "3600"}},
		{"missing argument", block("forward ."), nil, []string{"Corefile:4:", "forward"}},
		{"unclosed block", ".:{$DNS} {\n    whoami\n", nil, []string{"Corefile:"}},
		{"zone twice", block("") + block(""), nil, []string{"Corefile:6:1:", "already defined"}},
		{"missing import", block("import nothing/here"), nil, []string{"Corefile:4:", "nothing/here"}},
		{"transport that is not served", "https://.:{$DNS} {\n    whoami\n}\n", nil, []string{"Corefile:1:1:", "https"}},
		{"zone file with a bad line", block("file db.bad example.org"), map[string]string{"db.bad": zoneMistake}, []string{"Corefile:4:", "db.bad:4", "not-an-address"}},
		{"kubeconfig that does not parse", block("kubernetes {\n        kubeconfig config\n    }"), map[string]string{"config": "clusters: {"}, []string{"Corefile:4:", "config"}},
		{"kubeconfig that is not there", block("kubernetes {\n        kubeconfig nowhere\n    }"), nil, []string{"Corefile:4:", "nowhere"}},
		{"no cluster", block("kubernetes"), nil, []string{"Corefile:4:", "kubeconfig", "manifests"}},
		{"manifest that does not parse", manifests, map[string]string{"cluster.yaml": "kind: Service\nmetadata: {\n"}, []string{"Corefile:4:", "cluster.yaml", "line"}},
		{"manifest that is no manifest", manifests, map[string]string{"cluster.yaml": "---\nkind: Namespace\nmetadata: {name: a}\n---\njust some text\n"}, []string{"Corefile:4:", "cluster.yaml", "line 5"}},
		{"manifest without a kind", manifests, map[string]string{"cluster.yaml": "colour: blue\n"}, []string{"Corefile:4:", "cluster.yaml", "kind"}},
		{"manifest with a wrong field", manifests, map[string]string{"cluster.yaml": "kind: Service\nmetadata: {name: a, namespace: b}\nspec: {ports: none}\n"}, []string{"Corefile:4:", "cluster.yaml", "Service"}},
		{"manifest that is not there", manifests, nil, []string{"Corefile:4:", "cluster.yaml"}},
	}
}

// install writes the mistake's files into the program's folder.
func (m mistake) install(t *testing.T, g *godwit) {
	t.Helper()
	for name, text := range m.files {
		write(t, filepath.Join(g.dir, name), text)
	}
	write(t, g.corefile, m.corefile)
}

// judge looks whether an error says what is wrong and where.
func (m mistake) judge(t *testing.T, text string) {
	t.Helper()
	for _, word := range m.words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is not in the error: %s", word, text)
		}
	}
}

// TestMistakes: the program says what is wrong and where, and ends.
func TestMistakes(t *testing.T) {
	for _, m := range mistakes() {
		t.Run(m.name, func(t *testing.T) {
			g := prepare(t, "", outsideOfCluster...)
			m.install(t, g)
			m.judge(t, refused(t, g))
		})
	}
	t.Run("Corefile that is a folder", func(t *testing.T) {
		g := prepare(t, "")
		if err := os.Remove(g.corefile); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(g.corefile, "file"), "")
		mistake{words: []string{g.corefile, "directory"}}.judge(t, refused(t, g))
	})
	t.Run("Corefile that is not there", func(t *testing.T) {
		g := prepare(t, "")
		if err := os.Remove(g.corefile); err != nil {
			t.Fatal(err)
		}
		mistake{words: []string{g.corefile, "no such file"}}.judge(t, refused(t, g))
	})
}

// outsideOfCluster hides that these tests may themselves run in a pod.
var outsideOfCluster = []string{"KUBERNETES_SERVICE_HOST=", "KUBERNETES_SERVICE_PORT="}

// hold takes a port of 127.0.0.1 as a careless or a sharing program would.
func hold(t *testing.T, network, address string, share bool) {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if share {
			if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); e != nil {
				return e
			}
		}
		return err
	}}
	var closer interface{ Close() error }
	var err error
	if network == "udp" {
		closer, err = config.ListenPacket(context.Background(), network, address)
	} else {
		closer, err = config.Listen(context.Background(), network, address)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closer.Close() })
}

// TestPortInUse: whoever else has the port, also who would share it.
func TestPortInUse(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		for _, share := range []bool{false, true} {
			name := network
			if share {
				name += " shared"
			}
			t.Run(name, func(t *testing.T) {
				g := prepare(t, ".:{$DNS} {\n    bind 127.0.0.1\n    whoami\n}\n")
				hold(t, network, g.dns, share)
				mistake{words: []string{"Corefile:2:10:", g.dns, "in use"}}.judge(t, refused(t, g))
			})
		}
	}
	t.Run("of all addresses", func(t *testing.T) {
		g := prepare(t, ".:{$DNS} {\n    whoami\n}\n")
		hold(t, "udp", g.dns, true)
		mistake{words: []string{"Corefile:1:1:", "in use"}}.judge(t, refused(t, g))
	})
	t.Run("of another of us", func(t *testing.T) {
		first := serve(t, ".:{$DNS} {\n    bind 127.0.0.1\n    hosts {\n        192.0.2.1 first.test\n    }\n}\n")
		second := prepare(t, read(t, first.corefile))
		second.cmd.Env = append(second.cmd.Env, "DNS="+first.dns[strings.LastIndex(first.dns, ":")+1:])
		mistake{words: []string{"Corefile:2:10:", first.dns, "in use"}}.judge(t, refused(t, second))
		first.check(t, answers{{"first.test A", "NOERROR 192.0.2.1"}})
	})
}

const (
	reloadFailed = "coredns_reload_failed_total"
	// steadyCorefile is what goes on when a reload fails.
	steadyCorefile = `
.:{$DNS} {
    bind 127.0.0.1
    hosts {
        192.0.2.1 old.test
    }
    prometheus 127.0.0.1:{$METRICS}
    reload 2s 1s
}
`
)

// TestReloadMistakes: the same mistakes change nothing when they come later.
func TestReloadMistakes(t *testing.T) {
	g := prepare(t, "", outsideOfCluster...)
	// Only SIGUSR1 reloads here, so that each mistake is met once.
	steady := strings.Replace(steadyCorefile, "    reload 2s 1s\n", "", 1)
	write(t, g.corefile, steady)
	g.launch(t).serving(t)
	if got := g.metric(t, reloadFailed); got != "0" {
		t.Errorf("%s before all: %q", reloadFailed, got)
	}
	taken := freePort(t)
	hold(t, "udp", "127.0.0.1:"+taken, true)
	all := append(mistakes(), mistake{"port in use", "other.test:" + taken + " {\n    bind 127.0.0.1\n    whoami\n}\n" + steady, nil, []string{"Corefile:2:10:", taken, "in use"}})
	for i, m := range all {
		t.Run(m.name, func(t *testing.T) {
			// What an earlier mistake left behind must not help this one.
			for _, name := range []string{"cluster.yaml", "config", "db.bad"} {
				if err := os.Remove(filepath.Join(g.dir, name)); err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
			}
			m.install(t, g)
			before := len(g.out.String())
			g.signal(t, syscall.SIGUSR1)
			// The line comes through a pipe, and may arrive after the count.
			eventually(t, 10*time.Second, "the failure is logged and counted", func() bool {
				_, line, logged := strings.Cut(g.out.String()[before:], "[ERROR]")
				return logged && strings.Contains(line, "\n") && g.number(t, reloadFailed) == float64(i+1)
			})
			m.judge(t, theError(t, g.out.String()[before:]))
			g.check(t, answers{{"old.test A", "NOERROR 192.0.2.1"}, {"old.test A tcp", "NOERROR 192.0.2.1"}})
		})
	}
	write(t, g.corefile, strings.Replace(steady, "192.0.2.1 old.test", "192.0.2.2 old.test", 1))
	g.signal(t, syscall.SIGUSR1)
	g.becomes(t, answers{{"old.test A", "NOERROR 192.0.2.2"}})
	if got := g.number(t, reloadFailed); got != float64(len(all)) {
		t.Errorf("%s after a reload that succeeded: %v, want %d", reloadFailed, got, len(all))
	}
}

// TestReloadTimer: the directive sees a change by itself, and tries a mistake
// once.
func TestReloadTimer(t *testing.T) {
	g := serve(t, steadyCorefile)
	write(t, g.corefile, steadyCorefile+"nonsense {\n    nonsense\n}\n")
	eventually(t, 10*time.Second, "the failure is counted", func() bool { return g.number(t, reloadFailed) == 1 })
	time.Sleep(5 * time.Second) // two more looks at the file
	if got := g.number(t, reloadFailed); got != 1 {
		t.Errorf("%s: %v", reloadFailed, got)
	}
	mistake{words: []string{"Corefile:11:5:", "nonsense"}}.judge(t, theError(t, g.out.String()))
	g.check(t, answers{{"old.test A", "NOERROR 192.0.2.1"}})
	write(t, g.corefile, strings.Replace(steadyCorefile, "192.0.2.1 old.test", "192.0.2.2 new.test", 1))
	eventually(t, 10*time.Second, "the new Corefile serves", func() bool { return g.ask("new.test A") == "NOERROR 192.0.2.2" })
	if got := g.number(t, reloadFailed); got != 1 {
		t.Errorf("%s after a reload that succeeded: %v", reloadFailed, got)
	}
}
