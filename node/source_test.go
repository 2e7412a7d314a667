package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godwit-dns/godwit/internal/program"
)

// logged is a log that several goroutines write.
type logged struct{ program.Output }

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// mounted is a ConfigMap's folder as kubelet makes it: files that link to a folder which is replaced as a whole.
type mounted struct {
	t    *testing.T
	dir  string
	next int
}

func mount(t *testing.T, files map[string]string) *mounted {
	m := &mounted{t: t, dir: t.TempDir()}
	m.set(files)
	return m
}

func (m *mounted) set(files map[string]string) {
	m.t.Helper()
	m.next++
	data := "..data_" + strings.Repeat("x", m.next)
	for name, text := range files {
		put(m.t, filepath.Join(m.dir, data, name), text)
	}
	if err := os.Symlink(data, filepath.Join(m.dir, "..data_tmp")); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(m.dir, "..data_tmp"), filepath.Join(m.dir, "..data")); err != nil {
		m.t.Fatal(err)
	}
	for name := range files {
		link := filepath.Join(m.dir, name)
		if _, err := os.Lstat(link); err != nil {
			if err := os.Symlink(filepath.Join("..data", name), link); err != nil {
				m.t.Fatal(err)
			}
		}
	}
}

func noEnv(string) (string, bool) { return "", false }

// changes waits until the source tells of a change and gives the new text.
func changes(t *testing.T, s *source) string {
	t.Helper()
	select {
	case <-s.Changed():
	case <-time.After(5 * time.Second):
		t.Fatal("no change was told")
	}
	_, text, err := s.Corefile()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// becomes reads until the text is right: a change may be told before it is complete.
func becomes(t *testing.T, s *source, want string) {
	t.Helper()
	for range 10 {
		if strings.Contains(changes(t, s), want) {
			return
		}
	}
	t.Fatalf("it never has %q", want)
}

func runSource(t *testing.T, s *source) {
	t.Helper()
	var running sync.WaitGroup
	ctx := t.Context()
	running.Go(func() { s.run(ctx) })
	t.Cleanup(running.Wait) // the context ends before
	select {
	case <-s.Changed(): // the watch is there
	case <-time.After(5 * time.Second):
		t.Fatal("it does not begin")
	}
}

func TestChangesAreTold(t *testing.T) {
	base := mount(t, map[string]string{"Corefile.base": ". {\n    errors\n}\n"})
	kube := mount(t, map[string]string{"stubDomains": `{}`})
	o := parse(t, "-localip 10.0.0.1 -basecorefile "+base.dir+"/Corefile.base -kubednscm "+kube.dir)
	s := newSource(o, noEnv, discard(), func() { t.Error("counted as wrong") })
	if _, text, err := s.Corefile(); err != nil || string(text) != ". {\n    errors\n}\n" {
		t.Fatalf("%q, %v", text, err)
	}
	runSource(t, s)
	base.set(map[string]string{"Corefile.base": ". {\n    whoami\n}\n"})
	becomes(t, s, "whoami")
	kube.set(map[string]string{"stubDomains": `{"a.test": ["192.0.2.1"]}`})
	becomes(t, s, "a.test:53 {")
	kube.set(map[string]string{"stubDomains": `{}`})
	becomes(t, s, "whoami\n}\n")
}

// imports of the template stand beside it: their changes are told too, though the template fills to the same text.
func TestFilesBesideTheTemplate(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "Corefile.base"), "import more\n")
	s := newSource(parse(t, "-localip 10.0.0.1 -basecorefile "+dir+"/Corefile.base"), noEnv, discard(), func() {})
	if _, _, err := s.Corefile(); err != nil {
		t.Fatal(err)
	}
	runSource(t, s)
	put(t, filepath.Join(dir, "more"), ". {\n    errors\n}\n")
	if text := changes(t, s); text != "import more\n" {
		t.Errorf("%q", text)
	}
}

func TestWhatIsWrongIsSaidOnce(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "Corefile.base"), ". {\n    errors\n}\n")
	kube := mount(t, map[string]string{"stubDomains": `{"a.test": ["192.0.2.1"]}`})
	var log logged
	failed := 0
	s := newSource(parse(t, "-localip 10.0.0.1 -basecorefile "+dir+"/Corefile.base -kubednscm "+kube.dir), noEnv, log.logger(), func() { failed++ })
	look := func(wantText string, wantFailed int) {
		t.Helper()
		for range 3 {
			if _, text, err := s.Corefile(); err != nil || !strings.Contains(string(text), wantText) {
				t.Fatalf("%q, %v", text, err)
			}
		}
		if failed != wantFailed {
			t.Errorf("counted %d times, want %d:\n%s", failed, wantFailed, &log)
		}
	}
	look("a.test", 0)
	kube.set(map[string]string{"stubDomains": `{"a.test": [`})
	look("a.test", 1) // what was read before stays
	kube.set(map[string]string{"stubDomains": `{"a.test": []}`})
	look("a.test", 2)
	kube.set(map[string]string{"stubDomains": `{"b.test": ["192.0.2.1"]}`})
	look("b.test", 2)
	kube.set(map[string]string{"stubDomains": `{"a.test": []}`})
	look("b.test", 3) // the same mistake made again
	if n := strings.Count(log.String(), "level=ERROR"); n != 3 {
		t.Errorf("%d errors in\n%s", n, &log)
	}
}

func TestTemplateThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "Corefile")
	var log logged
	failed := 0
	s := newSource(parse(t, "-localip 10.0.0.1 -basecorefile "+dir+"/none -conf "+conf), noEnv, log.logger(), func() { failed++ })
	if _, _, err := s.Corefile(); err == nil || !strings.Contains(err.Error(), "-basecorefile says where it is") {
		t.Fatal(err)
	}
	put(t, conf, ". {\n    whoami\n}\n")
	if _, text, err := s.Corefile(); err != nil || string(text) != ". {\n    whoami\n}\n" {
		t.Fatalf("%q, %v", text, err)
	}
	if !strings.Contains(log.String(), "is served as it is") || failed != 2 {
		t.Errorf("counted %d times:\n%s", failed, &log)
	}
	put(t, filepath.Join(dir, "none"), ". {\n    errors\n}\n")
	if _, text, err := s.Corefile(); err != nil || string(text) != ". {\n    errors\n}\n" {
		t.Fatalf("%q, %v", text, err)
	}
	if written, err := os.ReadFile(conf); err != nil || string(written) != ". {\n    errors\n}\n" {
		t.Errorf("%q, %v", written, err)
	}
}

// A file that is being written is empty for a moment.
func TestTemplateThatServesNothing(t *testing.T) {
	dir := t.TempDir()
	path, conf := filepath.Join(dir, "base"), filepath.Join(dir, "Corefile")
	kube := mount(t, map[string]string{"stubDomains": `{"a.test": ["192.0.2.1"]}`})
	s := newSource(parse(t, "-localip 10.0.0.1 -basecorefile "+path+" -conf "+conf+" -kubednscm "+kube.dir), noEnv, discard(), func() {})
	for _, text := range []string{"", "# nothing\n", "(snippet) {\n    errors\n}\n"} {
		put(t, path, text)
		if _, _, err := s.Corefile(); err == nil || !strings.Contains(err.Error(), path+" has no server block") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	put(t, conf, "\n")
	if _, _, err := s.Corefile(); err == nil || !strings.Contains(err.Error(), conf+" has no server block") {
		t.Error(err)
	}
}

func TestConfThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "base"), ". {\n    errors\n}\n")
	var log logged
	s := newSource(parse(t, "-localip 10.0.0.1 -basecorefile "+dir+"/base -conf "+dir+"/no/such/folder/Corefile"), noEnv, log.logger(),
		func() { t.Error("counted as wrong") })
	for range 3 {
		if _, text, err := s.Corefile(); err != nil || string(text) != ". {\n    errors\n}\n" {
			t.Fatalf("%q, %v", text, err)
		}
	}
	if n := strings.Count(log.String(), "served from memory alone"); n != 1 {
		t.Errorf("said %d times:\n%s", n, &log)
	}
}

func TestConfIsNotWrittenAgain(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "Corefile")
	put(t, filepath.Join(dir, "base"), ". {\n    errors\n}\n")
	s := newSource(parse(t, "-localip 10.0.0.1 -basecorefile "+dir+"/base -conf "+conf), noEnv, discard(), func() {})
	if _, _, err := s.Corefile(); err != nil {
		t.Fatal(err)
	}
	old := time.Unix(1e9, 0)
	if err := os.Chtimes(conf, old, old); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Corefile(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(conf); err != nil || !info.ModTime().Equal(old) {
		t.Errorf("%v, %v", info.ModTime(), err)
	}
}
