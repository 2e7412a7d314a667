package root_test

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/plugin/root"
)

// closed is a file system that refuses everything but the Corefile.
type closed struct{}

func (closed) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}

func TestRoot(t *testing.T) {
	var got string
	seen := chain.Spec{Name: "seen", New: func(s *chain.Setup) error {
		got = s.Block.Root
		return nil
	}}
	for _, c := range []struct {
		text, root, err, warning string
		files                    fs.FS
	}{
		{"root zones", "zones", "", "", fstest.MapFS{"zones/db": {}}},
		{"root zones\nroot other", "other", "", "", fstest.MapFS{"other/db": {}}},
		{"root none", "none", "", "does not exist", fstest.MapFS{}},
		{"root", "", "takes 1", "", fstest.MapFS{}},
		{"root a b", "", "takes 1", "", fstest.MapFS{}},
		{"root a {\n}", "", "takes no block", "", fstest.MapFS{}},
		{"root shut", "", "permission denied", "", closed{}},
	} {
		b, err := chaintest.Build(t, ". {\nseen\n"+c.text+"\n}\n", chaintest.Options{Specs: []chain.Spec{root.Spec, seen}, Files: c.files})
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: error is %v, want %q", c.text, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if got != c.root {
			t.Errorf("%q: the root is %q, want %q", c.text, got, c.root)
		}
		if n := len(b.Config.Warnings); n > 1 || (n == 1) != (c.warning != "") || n == 1 && !strings.Contains(b.Config.Warnings[0].Text, c.warning) {
			t.Errorf("%q: warnings are %v", c.text, b.Config.Warnings)
		}
	}
}
