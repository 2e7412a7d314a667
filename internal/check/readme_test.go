package check

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/plugin"
	"github.com/godwit-dns/godwit/run"
)

// page is a directive's manual page: its sections by title.
type page map[string]string

// aliases are directives that another one's folder and page describe: old names.
var aliases = map[string]string{"proxy": "forward"}

func folderOf(spec chain.Spec) string {
	if other := aliases[spec.Name]; other != "" {
		return other
	}
	return spec.Name
}

func readPage(t *testing.T, name string) page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../plugin", name, "README.md"))
	if err != nil {
		t.Fatalf("every directive has a manual page: %v", err)
	}
	p := page{}
	for _, part := range strings.Split("\n"+string(text), "\n## ")[1:] {
		title, body, _ := strings.Cut(part, "\n")
		p[title] = body
	}
	return p
}

// blocks gives the fenced blocks of a kind.
func blocks(text, kind string) (list []string) {
	for _, m := range regexp.MustCompile("(?ms)^(~~~|```) *"+kind+"\n(.*?)^(~~~|```)").FindAllStringSubmatch(text, -1) {
		list = append(list, m[2])
	}
	return list
}

func TestManualPages(t *testing.T) {
	for _, spec := range plugin.All() {
		if alias := aliases[spec.Name]; alias != "" {
			if p := readPage(t, alias); !strings.Contains(p["Differences from CoreDNS"]+p["Description"], "`"+spec.Name+"`") {
				t.Errorf("%s: the page of %s does not mention it", spec.Name, alias)
			}
			continue
		}
		p := readPage(t, spec.Name)
		for _, title := range []string{"Name", "Description", "Syntax", "Examples", "See also", "Differences from CoreDNS"} {
			if strings.TrimSpace(p[title]) == "" {
				t.Errorf("%s: the manual page has no section %q", spec.Name, title)
			}
		}
		syntax := strings.Join(append(blocks(p["Syntax"], "txt"), blocks(p["Syntax"], "")...), "\n")
		flat := strings.Join(strings.Fields(syntax), " ")
		for _, line := range strings.Split(spec.Usage, "\n") {
			if want := strings.Join(strings.Fields(line), " "); !strings.Contains(flat, want) {
				t.Errorf("%s: the Syntax section does not show %q", spec.Name, want)
			}
		}
		if spec.Options == nil {
			continue
		}
		for _, row := range spec.Options() {
			if !regexp.MustCompile(`(?m)(^|[^a-z_])` + regexp.QuoteMeta(row.Name) + `($|[^a-z_])`).MatchString(p["Syntax"]) {
				t.Errorf("%s: the Syntax section does not show the option %q", spec.Name, row.Name)
			}
		}
	}
}

func TestEveryPluginIsListedAndTested(t *testing.T) {
	listed := map[string]bool{}
	for _, spec := range plugin.All() {
		listed[spec.Name] = true
		tests, err := filepath.Glob(filepath.Join("../../plugin", folderOf(spec), "*_test.go"))
		if err != nil || len(tests) == 0 {
			t.Errorf("%s has no test", spec.Name)
		}
	}
	folders, err := os.ReadDir("../../plugin")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		if f.IsDir() && !listed[f.Name()] {
			t.Errorf("plugin/%s is not in plugin.All", f.Name())
		}
	}
}

// world is a file system that has every file an example names, and the machine's own.
type world struct{ made fstest.MapFS }

// Open makes up what is asked for by its name's ending.
func (w world) Open(name string) (fs.File, error) {
	if f, err := w.made.Open(strings.TrimPrefix(name, "/")); err == nil {
		return f, nil
	}
	kind := path.Ext(name)
	switch {
	case strings.HasPrefix(path.Base(name), "db.") || kind == ".db" || kind == ".zone" || kind == ".signed":
		kind = "zone"
	case kind == ".crt" || kind == ".pem" && !strings.Contains(name, "key"):
		kind = "cert"
	case kind == ".key" || kind == ".pem":
		kind = "key"
	default:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return w.made.Open(kind)
}

func newWorld(t *testing.T) world {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := func(b []byte) *fstest.MapFile { return &fstest.MapFile{Data: b} }
	return world{fstest.MapFS{
		"cert":            file(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		"key":             file(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})),
		"zone":            file([]byte("@ 3600 IN SOA ns h 1 2 3 4 5\n@ 3600 IN NS ns\n")),
		"etc/resolv.conf": file([]byte("nameserver 192.0.2.53\n")),
		"etc/hosts":       file([]byte("127.0.0.1 localhost\n")),
	}}
}

// What a Corefile for a pod, or for a folder of manifests, says elsewhere when all else of it has been read.
const (
	noCluster = "no way to the Kubernetes API server"
	noDump    = "manifests do not load: stat ./dump"
)

// TestExamplesBuild checks and builds every Corefile of the manual pages, without binding or starting anything.
func TestExamplesBuild(t *testing.T) {
	files := newWorld(t)
	for _, spec := range plugin.All() {
		if aliases[spec.Name] != "" {
			continue
		}
		examples := 0
		for title, text := range readPage(t, spec.Name) {
			for _, example := range blocks(text, "corefile") {
				examples++
				env := &chain.Env{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: metrics.New(1), Loops: 1, Clock: loop.System(),
					Wall: time.Now, Files: files, Reload: func() {}, Fatal: func(error) {}, Print: func(int, []byte) {},
					Env:  func(string) (string, bool) { return "", false },
					Loop: func(int) *chain.Worker { return nil }}
				_, err := run.Build(env, plugin.All(), "53", "README.md", []byte(example), nil)
				if err != nil && !strings.Contains(err.Error(), noCluster) && !strings.Contains(err.Error(), noDump) {
					t.Errorf("%s, %s: %v\n%s", spec.Name, title, err, example)
				}
			}
		}
		if examples == 0 {
			t.Errorf("%s: the manual page has no example of kind corefile", spec.Name)
		}
	}
}
