package corefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/godwit-dns/godwit/internal/invariant"
)

func mapFS(files map[string]string) fs.FS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

// TestPositions checks that every word knows its place, and the imports that led there.
func TestPositions(t *testing.T) {
	fsys := mapFS(map[string]string{
		"etc/common.conf":   "(opts) {\n\tsuccess 10\n}\n",
		"etc/d/cache.conf":  "cache 30 {\n  import opts\n}\n",
		"etc/d/errors.conf": "errors\n",
	})
	file, err := Parse(fsys, "etc/Corefile", []byte("import common.conf\n.:53 {\n    import d/*.conf\n}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := file.Blocks[0].Lines
	for _, c := range []struct {
		word Word
		want string
	}{
		{file.Blocks[0].Keys[0], "etc/Corefile:2:1"},
		{lines[0].Name, "etc/d/cache.conf:1:1 (imported at etc/Corefile:3:5)"},
		{lines[0].Args[0], "etc/d/cache.conf:1:7 (imported at etc/Corefile:3:5)"},
		{lines[0].Block[0].Name, "etc/common.conf:2:2 (imported at etc/d/cache.conf:2:3) (imported at etc/Corefile:3:5)"},
		{lines[1].Name, "etc/d/errors.conf:1:1 (imported at etc/Corefile:3:5)"},
	} {
		if got := c.word.Pos.String(); got != c.want {
			t.Errorf("%q is at %s, want %s", c.word.Text, got, c.want)
		}
	}
	var names []string
	for _, s := range file.Sources {
		names = append(names, s.Name)
	}
	if got, want := strings.Join(names, " "), "etc/Corefile etc/common.conf etc/d/cache.conf etc/d/errors.conf"; got != want {
		t.Errorf("sources %s, want %s", got, want)
	}
}

func TestColumnsCountBytes(t *testing.T) {
	file, err := Parse(nil, "Corefile", []byte("\ufeffä.example\tb.example\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if keys := file.Blocks[0].Keys; keys[0].Pos.Col != 1 || keys[1].Pos.Col != 12 {
		t.Errorf("columns %d and %d, want 1 and 12", keys[0].Pos.Col, keys[1].Pos.Col)
	}
}

// TestOS imports by absolute and by climbing relative paths, from a Corefile that is named both ways.
func TestOS(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{"up.conf": "log\n", "conf/in.conf": "errors\nimport ../up.conf\n", "conf/Corefile": ""} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text := []byte(". {\nimport in.conf\nimport " + dir + "/up.c*\nimport ../up.conf\n}\n")
	var hash string
	for _, name := range []string{"conf/Corefile", "./conf/../conf/Corefile", filepath.Join(dir, "conf/Corefile")} {
		file, err := Parse(OS(), name, text, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(file.Blocks[0].Lines); n != 4 {
			t.Errorf("%s: %d directives, want 4", name, n)
		}
		if len(file.Sources) != 3 || file.Sources[1].Name != filepath.Join(dir, "conf/in.conf") {
			t.Errorf("%s: sources %v", name, file.Sources)
		}
		if hash != "" && file.Hash != hash {
			t.Errorf("%s: the name of the Corefile changes the hash", name)
		}
		hash = file.Hash
		compare(t, name, text)
	}
}

func TestNoFileSystem(t *testing.T) {
	if _, err := Parse(nil, "stdin", []byte("import a\n"), nil); err == nil || !strings.HasPrefix(err.Error(), "stdin:1:8: cannot import a: ") {
		t.Errorf("error %v", err)
	}
}

func TestVariables(t *testing.T) {
	env := map[string]string{"LOOP": "{$LOOP}", "GROW": "{$GROW}{$GROW}x", "BIG": strings.Repeat("x", maxWordBytes), "OK": "a b"}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	for text, want := range map[string]string{
		". {\nlog {$LOOP}\n}":       "Corefile:2:5: more than 1000 variables",
		". {\nlog {%LOOP%}{$OK}\n}": "Corefile:2:5: more than 1000 variables",
		"{$GROW}":                   "Corefile:1:1: the word grows to",
		"a {$BIG}{$BIG}":            "Corefile:1:3: the word grows to",
		". {\n{$LOOP}\n}":           "Corefile:2:1: more than",
		". {\nimport {$LOOP}\n}":    "Corefile:2:8: more than",
	} {
		if _, err := Parse(nil, "Corefile", []byte(text), lookup); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: error %v, want %s", text, err, want)
		}
	}
	file, err := Parse(nil, "Corefile", []byte(". {\nlog {$OK} {$MISSING}{$MISSING} {$GONE}\n}"), lookup)
	if err != nil {
		t.Fatal(err)
	}
	if args := file.Blocks[0].Lines[0].Args; len(args) != 3 || args[0].Text != "a b" || args[1].Text != "" {
		t.Errorf("arguments %v", args)
	}
	if len(file.Warnings) != 2 {
		t.Errorf("warnings %v, want one for each variable", file.Warnings)
	}
}

// TestLimits gives the parser what would cost memory or time without bound. Each must be refused, and soon.
func TestLimits(t *testing.T) {
	double := strings.Builder{}
	double.WriteString("(s0) {\nlog a b c\n}\n")
	for i := 1; i < 60; i++ {
		fmt.Fprintf(&double, "(s%d) {\nimport s%d\nimport s%d\n}\n", i, i-1, i-1)
	}
	double.WriteString(". {\nimport s59\n}\n")
	wide := "(s) {\n" + strings.Repeat("log a b c\n", 10_000) + "}\n. {\n" + strings.Repeat("import s\n", 100) + "}\n"
	for _, c := range []struct {
		name, text, want string
		files            map[string]string
	}{
		{"large file", strings.Repeat(" ", maxFileBytes+1), "Corefile is too large", nil},
		{"large import", "import big\n", "cannot import big: big is too large", map[string]string{"big": strings.Repeat(" ", maxFileBytes+1)}},
		{"large sum", "import *\n", "is too large", map[string]string{
			"a": strings.Repeat(" ", maxFileBytes), "b": strings.Repeat(" ", maxFileBytes), "c": strings.Repeat(" ", maxFileBytes),
			"d": strings.Repeat(" ", maxFileBytes), "e": " "}},
		{"words", strings.Repeat("a ", maxWords+1), "to more than 1048576 words", nil},
		{"words after imports", wide, "more than 1048576 words once imports are filled in", nil},
		{"doubling snippets", double.String(), "more than 10000 imports of snippets", nil},
		{"file imports itself", "import self\n", "more than 100000 imports of files", map[string]string{"self": "import self\n"}},
		{"file with words imports itself", ". {\nimport self\n}\n", "more than", map[string]string{"self": strings.Repeat("log a b c d\n", 100) + "import self\n"}},
		{"pattern matches itself", "import *\n", "more than 1048576 files come from imports", manyFiles(300)},
		{"nesting", ". {\n" + strings.Repeat("a {\n", maxDepth+1), "nested more than 64 deep", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			_, err := Parse(mapFS(c.files), "Corefile", []byte(c.text), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
			if e := (*Error)(nil); !errors.As(err, &e) || len(err.Error()) > 2000 {
				t.Errorf("%T of %d bytes", err, len(err.Error()))
			}
			limit := 10 * time.Second
			if invariant.On { // the race detector takes several times as long
				limit *= 6
			}
			if d := time.Since(start); d > limit {
				t.Errorf("took %v", d)
			}
		})
	}
}

// manyFiles are n files that import each other through one pattern.
func manyFiles(n int) map[string]string {
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("f%d", i)] = "import *\n"
	}
	return files
}

// TestLimitsLeaveRoom takes what is large but sane.
func TestLimitsLeaveRoom(t *testing.T) {
	var hosts strings.Builder
	hosts.WriteString(". {\nhosts {\n")
	for i := range 200_000 {
		fmt.Fprintf(&hosts, "10.%d.%d.%d host%d.example\n", i>>16, i>>8&255, i&255, i)
	}
	hosts.WriteString("}\n}\n")
	file, err := Parse(nil, "Corefile", []byte(hosts.String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(file.Blocks[0].Lines[0].Block); n != 200_000 {
		t.Errorf("%d hosts", n)
	}
	deep := ". {\n" + strings.Repeat("a {\n", maxDepth) + strings.Repeat("}\n", maxDepth) + "}\n"
	if _, err := Parse(nil, "Corefile", []byte(deep), nil); err != nil {
		t.Error(err)
	}
	chain := "(s0) {\nlog\n}\n"
	for i := 1; i < 9999; i++ {
		chain += fmt.Sprintf("(s%d) {\nimport s%d\n}\n", i, i-1)
	}
	if _, err := Parse(nil, "Corefile", []byte(chain+". {\nimport s9998\n}\n"), nil); err != nil {
		t.Error(err)
	}
}

// TestBlockNil tells a directive without braces from one with empty braces.
func TestBlockNil(t *testing.T) {
	file, err := Parse(nil, "Corefile", []byte(". {\na\nb { }\nc {\n}\n}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := file.Blocks[0].Lines
	if lines[0].Block != nil || lines[1].Block == nil || lines[2].Block == nil || len(lines[1].Block)+len(lines[2].Block) != 0 {
		t.Errorf("blocks %v, %v, %v", lines[0].Block, lines[1].Block, lines[2].Block)
	}
}

// TestHashValue pins the value that CoreDNS 1.14.7 showed for this Corefile as coredns_reload_version_info.
func TestHashValue(t *testing.T) {
	text := "(common) {\n    errors\n    cache {$TTL}\n}\n.:15353 example.org:15353 {\n    import common\n    reload 2s 0s\n" +
		"    prometheus 127.0.0.1:19153\n    whoami\n}\n"
	file, err := Parse(nil, "Corefile", []byte(text), func(string) (string, bool) { return "45", true })
	if err != nil {
		t.Fatal(err)
	}
	const want = "1634b05f01922713731f075c78a0d977e9308d46e63a88112f3b8dcb253e3efe76bd829d7c02bb6ed2afe96393aefad8f68766e8132a64240a7ae67a723a742f"
	if file.Hash != want {
		t.Errorf("hash %s, want %s", file.Hash, want)
	}
}

// TestHash says what makes a server reload.
func TestHash(t *testing.T) {
	hash := func(text string) string {
		file, err := Parse(nil, "Corefile", []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		return file.Hash
	}
	base := hash(". {\n    whoami\n}\n")
	if hash(".    {\n whoami # comment\n}") != base {
		t.Error("blanks and a comment at a line's end change the hash")
	}
	if hash("# comment\n. {\n    whoami\n}\n") == base {
		t.Error("a line more does not change the hash")
	}
}
