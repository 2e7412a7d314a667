package run

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/plugin"
)

func buildText(text string, files fstest.MapFS) (*Built, error) {
	env := &chain.Env{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: metrics.New(1), Loops: 1, Clock: loop.System(),
		Wall: time.Now, Files: files, Env: func(string) (string, bool) { return "", false },
		Loop: func(int) *chain.Worker { return nil }, Reload: func() {}, Fatal: func(error) {}, Print: func(int, []byte) {}}
	return Build(env, plugin.All(), "5353", "Corefile", []byte(text), nil)
}

func TestBuildErrorsHaveAPlace(t *testing.T) {
	files := fstest.MapFS{"imported": &fstest.MapFile{Data: []byte("whoami\nwhoam\n")}}
	for text, want := range map[string]string{
		".:53 {\n    whoami\n    whomai\n}\n":                                  `Corefile:3:5: unknown directive "whomai"; did you mean whoami?`,
		".:53 {\n    whoami x\n}\n":                                            "Corefile:2:",
		".:53 {\n    whoami\n":                                                 "Corefile:",
		".:99999 {\n    whoami\n}\n":                                           "Corefile:1:1",
		"a..b {\n    whoami\n}\n":                                              "Corefile:1:1",
		"https://.:443 {\n    whoami\n}\n":                                     "Corefile:1:1",
		".:53 {\n    import nothing-there\n}\n":                                "Corefile:2:",
		".:53 {\n    import imported\n}\n":                                     "imported:2:1",
		".:53 {\n    whoami\n}\n. {\n    whoami\n}\n.:5353 {\n    whoami\n}\n": "Corefile:7:1: cannot serve dns://.:5353 - it is already defined",
		".:53 {\n    whoami\n}\n.:53 {\n    bind 127.0.0.1\n    whoami\n}\n":   "zone overlap",
		".:53 {\n    cache {\n        nonsense\n    }\n}\n":                    "Corefile:3:",
		".:53 {\n    forward . not-an-address\n}\n":                            "Corefile:2:",
		".:53 {\n    file nowhere.db example.org\n    health a b c\n}\n":       "Corefile:3:",
		".:53 {\n    kubernetes cluster.local {\n        nonsense\n    }\n}\n": "Corefile:3:",
	} {
		_, err := buildText(text, files)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestBuildListeners(t *testing.T) {
	b, err := buildText(strings.Join([]string{
		"example.org {\n whoami\n}", ".:1053 {\n bind 127.0.0.1 ::1\n whoami\n}", "tls://. {\n whoami\n}", "unix://x {\n whoami\n}",
		"10.0.0.0/23 {\n whoami\n}",
	}, "\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, s := range b.Specs {
		keys = append(keys, s.Key())
	}
	if got := strings.Join(keys, " "); got != "dns://:5353 dns://127.0.0.1:1053 dns://[::1]:1053 tls://:853" {
		t.Errorf("listeners %s", got)
	}
	warned := ""
	for _, w := range b.Config.Warnings {
		warned += w.Text + "\n"
	}
	if !strings.Contains(warned, "tls CERT KEY") || !strings.Contains(warned, "listened to nowhere") {
		t.Errorf("warnings:\n%s", warned)
	}
	if got := (&instance{Built: b}).banner(); !strings.Contains(got, "example.org.:5353\n") || !strings.Contains(got, ".:1053 on ::1\n") ||
		!strings.Contains(got, "tls://.:853\n") || !strings.Contains(got, "0.0.10.in-addr.arpa.:5353\n") || strings.Contains(got, "unix") {
		t.Errorf("banner\n%s", got)
	}
}

func TestCorefileWithoutABlockIsTheDefault(t *testing.T) {
	for _, text := range []string{"", "\n\n", "# nothing\n", "(snippet) {\n    errors\n}\n"} {
		b, err := buildText(text, nil)
		if err != nil || len(b.Specs) != 1 || b.Specs[0].Key() != "dns://:5353" {
			t.Errorf("%q: %v", text, err)
			continue
		}
		names := ""
		for name := range b.Config.Blocks[0].Chain().Handlers {
			names += name + " "
		}
		if names != "log whoami " {
			t.Errorf("%q: handlers %s", text, names)
		}
	}
}

// state is what a failed reload must not change.
type state struct{ goroutines, descriptors, series int }

func stateOf(t *testing.T, p *process) (s state) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	s.descriptors = len(list)
	s.goroutines = goroutines()
	for _, f := range p.env.Metrics.Families() {
		s.series += len(f.Series())
	}
	return s
}

// serving starts a process on a Corefile and gives it with the function that ends it.
func startProcess(t *testing.T, conf string) *process {
	t.Helper()
	log := NewLog(io.Discard, new(slog.LevelVar))
	p, err := newProcess(Options{Conf: conf, Port: "53", Directives: plugin.All(), Stdout: io.Discard}, log)
	if err != nil {
		t.Fatal(err)
	}
	p.level = new(slog.LevelVar)
	p.env.Print = func(int, []byte) {}
	stop := runServer(t, p)
	first, err := p.load()
	if err == nil {
		err = first.start(t.Context())
	}
	if err != nil {
		stop()
		t.Fatal(err)
	}
	p.serving(first)
	t.Cleanup(func() {
		if p.retiring != nil {
			<-p.retiring
		}
		p.current.stop(true)
		stop()
	})
	return p
}

func TestAThousandBadReloadsLeaveNothing(t *testing.T) {
	dns, held := freePort(t), freePort(t)
	port := dns[strings.LastIndexByte(dns, ':')+1:]
	dir := t.TempDir()
	conf := filepath.Join(dir, "Corefile")
	put := func(text string) {
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	good := ".:" + port + " {\n bind 127.0.0.1\n whoami\n cache\n pprof " + held + "\n forward . 127.0.0.1:9\n}\n"
	put(good)
	p := startProcess(t, conf)
	other := freePort(t)
	free := other[strings.LastIndexByte(other, ':')+1:]
	bad := []string{
		".:" + port + " {\n whoami\n",
		".:" + port + " {\n nonsense\n}\n",
		".:" + free + " {\n bind 127.0.0.1\n cache\n forward . 127.0.0.1:9\n bind 203.0.113.9\n}\n",
		".:" + free + " {\n bind 127.0.0.1\n health 203.0.113.9:80\n forward . 127.0.0.1:9\n prometheus " + other + "\n}\n",
		"import nothing-there\n",
		".:" + port + " {\n bind 127.0.0.1\n kubernetes cluster.local {\n  kubeconfig /nowhere\n }\n cache\n}\n",
		".:" + port + " {\n bind 127.0.0.1\n tls a.pem b.pem\n}\n",
	}
	once := func() {
		for _, text := range bad {
			put(text)
			before := p.current
			if p.reload(true); p.current != before {
				t.Fatalf("taken: %s", text)
			}
		}
	}
	before := stateOf(t, p)
	for range 1000/len(bad) + 1 {
		once()
	}
	var after state
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if after = stateOf(t, p); after == before || time.Now().After(end) {
			break
		}
	}
	if after != before {
		t.Errorf("before %+v, after %+v", before, after)
	}
	put(good + "# changed\n")
	was := p.current
	if p.reload(true); p.current == was {
		t.Error("the good file was not taken afterwards")
	}
}
