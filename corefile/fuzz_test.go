package corefile

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzParse holds whatever the fuzzer invents against the reference implementation, and formats it: that must keep the
// tokens, and formatting twice must be formatting once.
func FuzzParse(f *testing.F) {
	setEnv(f)
	corpus(f, func(_ string, text []byte) { f.Add(text) })
	dir := f.TempDir()
	for name, text := range map[string]string{
		"a": "errors\nlog a\n", "b": "x,\ny", "c": "import a\ncache {\nsuccess 1\n}\n", "d": "}\n(s) {\nlog\n}\n. {\n", "e": "import e\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			f.Fatal(err)
		}
	}
	name := filepath.Join(dir, "Corefile")
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 4096 || bytes.Contains(text, []byte("import")) && bytes.ContainsAny(text, "/~") {
			return // files outside the folder, devices among them, would be read by the reference without bound
		}
		compare(t, name, text)
		compareFormat(t, name, text)
	})
}
