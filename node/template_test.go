package node

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/godwit-dns/godwit/corefile"
)

// fixture is a template with what it is filled from, unpacked.
type fixture struct {
	source *source
	files  map[string]string
	log    *bytes.Buffer
	failed *int
}

func readFixture(t *testing.T, path string) *fixture {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := &fixture{files: map[string]string{}, log: new(bytes.Buffer), failed: new(int)}
	kube := false
	for _, file := range archive.Files {
		f.files[file.Name] = string(file.Data)
		if file.Name == "Corefile.base" || strings.HasPrefix(file.Name, "kube-dns/") {
			put(t, filepath.Join(dir, file.Name), string(file.Data))
			kube = kube || file.Name != "Corefile.base"
		}
	}
	o := parse(t, strings.TrimSpace(f.files["flags"]))
	o.base, o.conf = filepath.Join(dir, "Corefile.base"), filepath.Join(dir, "Corefile")
	o.kubeDNS = filepath.Join(dir, "none")
	if kube {
		o.kubeDNS = filepath.Join(dir, "kube-dns")
	} else if err := os.Mkdir(o.kubeDNS, 0o755); err != nil {
		t.Fatal(err)
	}
	env := func(name string) (string, bool) {
		for line := range strings.Lines(f.files["env"]) {
			if key, value, _ := strings.Cut(strings.TrimSpace(line), "="); key == name {
				return value, true
			}
		}
		return "", false
	}
	f.source = newSource(o, env, slog.New(slog.NewTextHandler(f.log, nil)), func() { *f.failed++ })
	return f
}

func TestTemplates(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal(err, "no fixtures")
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			f := readFixture(t, path)
			name, text, err := f.source.Corefile()
			if name != f.source.o.conf {
				t.Errorf("it is called %s", name)
			}
			if want, fails := f.files["error"]; fails {
				want = filepath.Join(filepath.Dir(f.source.o.base), strings.TrimSpace(want))
				if err == nil || err.Error() != want {
					t.Errorf("error\n%v\nwant\n%s", err, want)
				}
				if *f.failed != 1 {
					t.Errorf("counted %d times", *f.failed)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := f.files["want"]; string(text) != want {
				t.Errorf("got\n%s\nwant\n%s", text, want)
			}
			if written, err := os.ReadFile(f.source.o.conf); err != nil || !bytes.Equal(written, text) {
				t.Errorf("-conf has %q, %v", written, err)
			}
			if _, err := corefile.Parse(corefile.OS(), name, text, os.LookupEnv); err != nil {
				t.Error(err)
			}
			complaint, complains := f.files["log"]
			if got := f.log.String(); !strings.Contains(got, strings.TrimSpace(complaint)) || complains != (*f.failed == 1) {
				t.Errorf("counted %d times, logged\n%s", *f.failed, got)
			}
		})
	}
}

func TestStubDomainsAreStable(t *testing.T) {
	v := values{local: parse(t, "-localip 10.0.0.1").localIPs, port: 53, dns: dnsConfig{Stubs: map[string][]string{}}}
	for i := range 50 {
		v.dns.Stubs[fmt.Sprintf("zone-%d.test", i)] = []string{"192.0.2.1"}
	}
	first, err := fill("x", nil, &v)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if again, _ := fill("x", nil, &v); !bytes.Equal(first, again) {
			t.Fatal("the same ConfigMap makes another Corefile")
		}
	}
}

func TestConfigMapsThatAreWrong(t *testing.T) {
	for _, c := range []struct{ key, text, want string }{
		{"stubDomains", `{"a.test": ["192.0.2.1"`, "stubDomains:1:"},
		{"stubDomains", "{\n\"a.test\": [,]}", "stubDomains:2:12: invalid character ','"},
		{"stubDomains", `{"a.test": "192.0.2.1"}`, "cannot unmarshal string"},
		{"stubDomains", `["a.test"]`, "cannot unmarshal array"},
		{"stubDomains", `{"A.test": ["192.0.2.1"]}`, `"A.test" is no domain`},
		{"stubDomains", `{"a.test.": ["192.0.2.1"]}`, `"a.test." is no domain`},
		{"stubDomains", `{"a_b.test": ["192.0.2.1"]}`, "is no domain"},
		{"stubDomains", `{"": ["192.0.2.1"]}`, "is no domain"},
		{"stubDomains", `{"` + strings.Repeat("a.", 130) + `test": ["192.0.2.1"]}`, "is no domain"},
		{"stubDomains", `{"a.test": []}`, `"a.test" has 0 servers`},
		{"stubDomains", `{"a.test": ["` + strings.Repeat(`192.0.2.1","`, 15) + `192.0.2.1"]}`, "has 16 servers"},
		{"stubDomains", `{"a.test": ["dns.test"]}`, "neither ADDRESS nor ADDRESS:PORT"},
		{"stubDomains", `{"a.test": ["192.0.2.1:0"]}`, "neither ADDRESS nor ADDRESS:PORT"},
		{"stubDomains", `{"a.test": ["192.0.2.1 }"]}`, "neither ADDRESS nor ADDRESS:PORT"},
		{"stubDomains", `{"a.test": ["tls://192.0.2.1"]}`, "neither ADDRESS nor ADDRESS:PORT"},
		{"stubDomains", "{\"a.test\": [\"\xff\"]}", "not UTF-8"},
		{"upstreamNameservers", `["192.0.2.1","192.0.2.2","192.0.2.3","192.0.2.4"]`, "has 4 entries; at most 3"},
		{"upstreamNameservers", `["/etc/resolv.conf"]`, "neither ADDRESS nor ADDRESS:PORT"},
		{"upstreamNameservers", `["fe80::1%eth0"]`, "neither ADDRESS nor ADDRESS:PORT"},
		{"upstreamNameservers", `["2001:db8::1:53x"]`, "neither ADDRESS nor ADDRESS:PORT"},
	} {
		dir := t.TempDir()
		put(t, filepath.Join(dir, "stubDomains"), `{"good.test": ["192.0.2.9"]}`)
		put(t, filepath.Join(dir, c.key), c.text)
		got, err := readConfigMap(dir)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s %q: %v, want %q", c.key, c.text, err, c.want)
		}
		if got.Stubs != nil || got.Upstream != nil {
			t.Errorf("%s %q: half of it is taken: %v", c.key, c.text, got)
		}
	}
	if _, err := readConfigMap(filepath.Join(t.TempDir(), "nowhere")); err == nil {
		t.Error("a folder that is not there is no error")
	}
	file := filepath.Join(t.TempDir(), "file")
	put(t, file, "")
	if _, err := readConfigMap(file); err == nil || !strings.Contains(err.Error(), "is no folder") {
		t.Errorf("a file: %v", err)
	}
}

// FuzzFill looks for templates that make it panic, and that lose or gain lines.
func FuzzFill(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			f.Add(string(file.Data), "192.0.2.1")
		}
	}
	f.Fuzz(func(t *testing.T, template, upstream string) {
		v := values{local: parse(t, "-localip 10.0.0.1,fd00::1").localIPs, port: 53, domain: "d", prometheus: ":1"}
		v.cluster = v.local[1]
		if isServer(upstream) {
			v.dns.Upstream = []string{upstream}
		}
		text, err := fill("x", []byte(template), &v)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(template, "\n") != bytes.Count(text, []byte("\n")) {
			t.Errorf("%q became %q", template, text)
		}
	})
}
