package corefile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"crypto/sha512"
	"encoding/hex"

	"github.com/coredns/caddy/caddyfile"
)

// reference parses as CoreDNS does; the file name is absolute in neither of the two.
func reference(name string, text []byte) ([]caddyfile.ServerBlock, error) {
	return caddyfile.Parse(name, bytes.NewReader(text), nil)
}

// texts flattens our tokens of one block by directive, as the reference keeps them.
func texts(b tokenBlock) map[string][]string {
	m := map[string][]string{}
	for _, d := range b.directives {
		for _, t := range d.tokens {
			m[d.name] = append(m[d.name], fmt.Sprintf("%s:%d:%s", t.file, t.pos.Line, t.text))
		}
	}
	return m
}

func referenceTexts(b caddyfile.ServerBlock) map[string][]string {
	m := map[string][]string{}
	for dir, tokens := range b.Tokens {
		for _, t := range tokens {
			m[dir] = append(m[dir], fmt.Sprintf("%s:%d:%s", t.File, t.Line, t.Text))
		}
	}
	return m
}

// oursOnly reports whether we refuse text on purpose though the reference takes it: sizes that it does not bound.
func oursOnly(err error) bool {
	for _, limit := range []string{"nested more than", "more than", "is too large", "the limit is"} {
		if strings.Contains(err.Error(), limit) {
			return true
		}
	}
	return false
}

// linesOnly reports whether err is one of the refusals that the reference leaves to the directives.
func linesOnly(err error) bool {
	for _, reason := range []string{"stands on a line of its own", "does not begin a line", "nothing stands before it"} {
		if strings.Contains(err.Error(), reason) {
			return true
		}
	}
	return false
}

// compare checks text, called name, against the reference: same verdict, same keys, same tokens, same hash.
func compare(t *testing.T, name string, text []byte) {
	t.Helper()
	want, wantErr := reference(name, text)
	blocks, _, err := parseBlocks(OS(), name, text, os.LookupEnv)
	if err != nil && wantErr == nil && oursOnly(err) {
		return
	}
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("error %v, reference %v\n%s", err, wantErr, text)
	}
	if err != nil {
		return
	}
	if len(blocks) != len(want) {
		t.Fatalf("%d blocks, reference %d\n%s", len(blocks), len(want), text)
	}
	for i, b := range blocks {
		var keys []string
		for _, k := range b.keys {
			keys = append(keys, k.Text)
		}
		if !slices.Equal(keys, want[i].Keys) {
			t.Fatalf("block %d: keys %q, reference %q\n%s", i, keys, want[i].Keys, text)
		}
		got, ref := texts(b), referenceTexts(want[i])
		if len(got) != len(ref) {
			t.Fatalf("block %d: directives %q, reference %q\n%s", i, got, ref, text)
		}
		for dir := range ref {
			if !slices.Equal(got[dir], ref[dir]) {
				t.Fatalf("block %d, %q: tokens %q, reference %q\n%s", i, dir, got[dir], ref[dir], text)
			}
		}
	}
	marshalled, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512(marshalled)
	if hash := hashBlocks(blocks); hash != hex.EncodeToString(sum[:]) {
		t.Fatalf("hash %s, reference %x\n%s", hash, sum, text)
	}
	compareTree(t, name, text, blocks)
}

// compareTree checks that Parse gives the same tokens as the blocks it was made from.
func compareTree(t *testing.T, name string, text []byte, blocks []tokenBlock) {
	t.Helper()
	file, err := Parse(OS(), name, text, os.LookupEnv)
	if err != nil {
		if !linesOnly(err) && !oursOnly(err) {
			t.Fatalf("the tokens are accepted, the tree is not: %v\n%s", err, text)
		}
		return
	}
	for i, b := range file.Blocks {
		if len(b.Keys) != len(blocks[i].keys) || len(b.Lines) != len(blocks[i].directives) {
			t.Fatalf("block %d: %q has %d lines, its tokens %d\n%s", i, b.Keys, len(b.Lines), len(blocks[i].directives), text)
		}
		for j, line := range b.Lines {
			d := blocks[i].directives[j]
			want := []string{d.name}
			for _, tok := range d.tokens[1:] {
				want = append(want, tok.text)
			}
			if got := flatten(nil, line); !slices.Equal(got, want) && balanced(want[1:]) {
				t.Fatalf("block %d: line %q, tokens %q\n%s", i, got, want, text)
			}
		}
	}
}

// balanced reports whether the braces of a directive match. They always do unless some came from variables: those the
// parser does not count, but a directive sees them.
func balanced(tokens []string) bool {
	depth := 0
	for _, text := range tokens {
		switch text {
		case "{":
			depth++
		case "}":
			if depth--; depth < 0 {
				return false
			}
		}
	}
	return depth == 0
}

// flatten gives back the words a line was made from. A closing brace that is an argument too is counted once.
func flatten(out []string, l Line) []string {
	out = append(out, l.Name.Text)
	for _, w := range l.Args {
		out = append(out, w.Text)
	}
	if l.Block == nil {
		return out
	}
	out = append(out, "{")
	for _, o := range l.Block {
		out = flatten(out, o)
	}
	if n := len(l.Block); n > 0 {
		last := l.Block[n-1]
		if a := len(last.Args); a > 0 && last.Block == nil && last.Args[a-1].Text == "}" {
			return out
		}
	}
	return append(out, "}")
}

// corpus calls f with every Corefile of testdata, from the folder it stands in.
func corpus(tb testing.TB, f func(name string, text []byte)) {
	tb.Helper()
	n := 0
	for _, pattern := range []string{"testdata/valid/*", "testdata/invalid/*", "testdata/users/*"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			tb.Fatal(err)
		}
		for _, name := range names {
			if info, err := os.Stat(name); err != nil || info.IsDir() {
				continue
			}
			text, err := os.ReadFile(name)
			if err != nil {
				tb.Fatal(err)
			}
			f(name, text)
			n++
		}
	}
	if n < 150 {
		tb.Fatalf("only %d files in the corpus", n)
	}
}

// setEnv sets the variables that the corpus and the fuzz seeds name.
func setEnv(tb testing.TB) {
	for name, value := range map[string]string{
		"ZONE": "example.org", "PORT": "1053", "TWO": "a b", "EMPTY": "", "NESTED": "{$ZONE}", "BREAK": "x\ny",
		"IMPORT": "import", "FILE": "part.conf", "OPENBRACE": "{", "CLOSEBRACE": "}", "COMMA": "a,", "CHAIN": "{%ZONE%}",
	} {
		if s, ok := tb.(interface{ Setenv(string, string) }); ok {
			s.Setenv(name, value)
		}
	}
}
