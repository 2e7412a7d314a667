package corefile

import (
	"bytes"
	"testing"
)

// compareFormat checks that formatting keeps every token and its line, and that it is idempotent.
func compareFormat(t *testing.T, name string, text []byte) {
	t.Helper()
	out := Format(text)
	if again := Format(out); !bytes.Equal(again, out) {
		t.Fatalf("formatted twice:\n%q\nonce:\n%q\nfrom:\n%q", again, out, text)
	}
	before, after := words(text), words(out)
	if len(before) != len(after) {
		t.Fatalf("%d words became %d:\n%q\nfrom:\n%q", len(before), len(after), out, text)
	}
	for i := range before {
		if before[i] != after[i] {
			t.Fatalf("word %v became %v:\n%q\nfrom:\n%q", before[i], after[i], out, text)
		}
	}
}

type lineWord struct {
	line int
	text string
}

func words(text []byte) []lineWord {
	var out []lineWord
	s := newScan(text)
	for it, ok := s.next(); ok; it, ok = s.next() {
		if it.kind != itemComment {
			out = append(out, lineWord{it.line, it.text})
		}
	}
	return out
}

func TestFormatCorpus(t *testing.T) {
	corpus(t, func(name string, text []byte) { compareFormat(t, name, text) })
}

func TestFormat(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"empty", "", ""},
		{"blank lines at the end", ". {\n}\n\n\n", ". {\n}\n"},
		{"indent", ".:53 {\nerrors\n\tcache   30 {\n success\t10\n}\n  }", ".:53 {\n    errors\n    cache 30 {\n        success 10\n    }\n}\n"},
		{"comments", "#a\n. { #b\n#c\nlog #d  \n}   #e", "#a\n. { #b\n    #c\n    log #d\n} #e\n"},
		{"crlf", ". {\r\nlog\r\n}\r\n", ". {\n    log\n}\n"},
		{"order mark", "\ufeff. {\n}\n", ". {\n}\n"},
		{"two order marks", "\ufeff\ufeff. {\n}\n", "\ufeff\ufeff. {\n}\n"},
		{"quotes", ". {\nlog \"a  b\n  c\"  \"\\\"\"\n}", ". {\n    log \"a  b\n  c\" \"\\\"\"\n}\n"},
		{"glued comment", "log a#b   c\n", "log a#b c\n"},
		{"quote never closed", "a \"b ", "a \"b \"\n"},
		{"escape never closed", "a \"b\\", "a \"b\"\n"},
		{"lone quote", "a \"", "a\n"},
		{"comment above a brace", ". {\n# x\n}\n", ". {\n    # x\n}\n"},
		{"too many closing", "}\n}\na\n", "}\n}\na\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(Format([]byte(c.in))); got != c.want {
				t.Errorf("got:\n%q\nwant:\n%q", got, c.want)
			}
			compareFormat(t, c.name, []byte(c.in))
		})
	}
}

// TestFormatKeepsHash says why lines are never moved: a server that watches the file need not reload.
func TestFormatKeepsHash(t *testing.T) {
	text := []byte(".:53 {\n\n\n  errors\n cache {\n  success 10\n}\n}\n")
	hash := func(text []byte) string {
		file, err := Parse(nil, "Corefile", text, nil)
		if err != nil {
			t.Fatal(err)
		}
		return file.Hash
	}
	if a, b := hash(text), hash(Format(text)); a != b {
		t.Errorf("hash %s became %s", a, b)
	}
}
