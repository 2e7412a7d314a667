package corefile

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestReference holds the whole corpus against the reference implementation.
func TestReference(t *testing.T) {
	setEnv(t)
	corpus(t, func(name string, text []byte) {
		t.Run(filepath.Base(name), func(t *testing.T) { compare(t, name, text) })
	})
}

// TestCorpus holds trees, warnings and errors of the corpus against golden files, so that a change of them is seen.
func TestCorpus(t *testing.T) {
	setEnv(t)
	got := map[string]*strings.Builder{"valid": {}, "invalid": {}, "users": {}}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	corpus(t, func(name string, text []byte) {
		file, err := Parse(OS(), name, text, os.LookupEnv)
		folder := filepath.Base(filepath.Dir(name))
		if (err != nil) != (folder == "invalid") {
			t.Errorf("%s: error %v", name, err)
		}
		out := got[folder]
		fmt.Fprintf(out, "-- %s --\n", filepath.Base(name))
		if err != nil {
			fmt.Fprintln(out, strings.ReplaceAll(err.Error(), here+"/", ""))
			return
		}
		dump(out, file)
	})
	for folder, out := range got {
		golden := "testdata/" + folder + ".golden"
		if *update {
			if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if out.String() != string(want) {
			t.Errorf("%s differs; read the change, then run: go test ./corefile -run TestCorpus -update", golden)
		}
	}
}

// dump writes a tree with one word in each pair of quotes, and its warnings.
func dump(out *strings.Builder, file *File) {
	for _, b := range file.Blocks {
		out.WriteString("block")
		for _, k := range b.Keys {
			fmt.Fprintf(out, " %s@%d:%d", short(k.Text), k.Pos.Line, k.Pos.Col)
		}
		out.WriteString("\n")
		dumpLines(out, b.Lines, "  ")
	}
	for _, w := range file.Warnings {
		fmt.Fprintf(out, "warning: %d:%d: %s\n", w.Pos.Line, w.Pos.Col, w.Text)
	}
}

func dumpLines(out *strings.Builder, lines []Line, indent string) {
	for _, l := range lines {
		fmt.Fprintf(out, "%s%s@%d:%d", indent, short(l.Name.Text), l.Name.Pos.Line, l.Name.Pos.Col)
		for _, w := range l.Args {
			out.WriteString(" " + short(w.Text))
		}
		if l.Block != nil {
			out.WriteString(" block")
		}
		out.WriteString("\n")
		dumpLines(out, l.Block, indent+"  ")
	}
}

func short(s string) string {
	if len(s) > 80 {
		return fmt.Sprintf("%q and %d bytes", s[:20], len(s)-20)
	}
	return fmt.Sprintf("%q", s)
}
