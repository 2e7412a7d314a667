package expr

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

func lines(t *testing.T, name string) []string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

var empty = &Scope{}

// TestValues holds every result against the one that CoreDNS 1.14.7 printed for the same expression.
func TestValues(t *testing.T) {
	for _, l := range lines(t, "values.txt") {
		text, want, _ := strings.Cut(l, " => ")
		p, err := Compile(text, empty)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		v, err := p.Run(nil, nil)
		if got := fmt.Sprintf("%v", v); err != nil || got != want {
			t.Errorf("%s is %s (%v), want %s", text, got, err, want)
		}
		if k := kindOf(v); p.Kind() != k && p.Kind() != Any {
			t.Errorf("%s was thought to be %s, and is %s", text, p.Kind(), k)
		}
	}
}

// scope is what tests know.
func scope() *Scope {
	return &Scope{Vars: map[string]Kind{"n": Int, "any": Any}, Funcs: map[string]Func{
		"name": {Result: String, Call: func(ctx any, _ []any) (any, error) { return ctx, nil }},
		"group": {Params: []Kind{Any}, Result: String, Call: func(_ any, args []any) (any, error) {
			return fmt.Sprint(args[0]), nil
		}},
		"incidr": {Params: []Kind{String, String}, Result: Bool, Call: func(any, []any) (any, error) { return nil, errors.New("no address") }},
	}}
}

// TestRefused has what CoreDNS 1.14.7 refuses when it loads.
func TestRefused(t *testing.T) {
	for _, text := range lines(t, "refused.txt") {
		if _, err := Compile(text, scope()); err == nil {
			t.Errorf("%s is accepted", text)
		} else if !strings.HasPrefix(err.Error(), "column ") {
			t.Errorf("%s: the error %q has no place", text, err)
		}
	}
}

func TestScope(t *testing.T) {
	for text, want := range map[string]string{
		"n + 1":                     "43",
		"any.x":                     "1",
		"any?.y ?? 'none'":          "none",
		"name() + group(7)":         "www7",
		"name() | upper()":          "WWW",
		"let m = n; m * m":          "1764",
		"any['x'] in [1]":           "true",
		"count([n, 1], # == n)":     "1",
		"len(name()) == 3 ? n : -n": "42",
	} {
		p, err := Compile(text, scope())
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		v, err := p.Run("www", map[string]any{"n": 42, "any": map[string]any{"x": 1}})
		if got := fmt.Sprint(v); err != nil || got != want {
			t.Errorf("%s is %s (%v), want %s", text, got, err, want)
		}
	}
}

func TestFailures(t *testing.T) {
	for text, want := range map[string]string{
		"incidr('x', 'y')":              "no address",
		"int(name())":                   `"www" is not a number`,
		"any and true":                  "int where true or false",
		"any + 'x'":                     "int + string",
		"[1][3]":                        "index 3",
		"any.x":                         "no element",
		"7 % 0":                         "division by zero",
		"-any + -'x'[0:1]":              "",
		"1..2000000":                    "more than",
		"repeat('x', 2000000)":          "more than",
		"len(map(1..1000, {1..1000}))":  "more than",
		"sort([1, 'a'])":                "makes no sense",
		"sum(['a'])":                    "not a number",
		"join([1])":                     "string is needed",
		"upper(any)":                    "string is needed",
		"name() matches any":            "",
		"filter([1], any)":              "true or false",
		"any ? 1 : 2":                   "true or false",
		"group(any) matches group('(')": "error parsing regexp",
	} {
		p, err := Compile(text, scope())
		if err == nil {
			_, err = p.Run("www", map[string]any{"n": 42, "any": 1})
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want %q", text, err, want)
		}
	}
	deep := strings.Repeat("(", 5000) + "1" + strings.Repeat(")", 5000)
	if _, err := Compile(deep, empty); err == nil || !strings.Contains(err.Error(), "too deep") {
		t.Errorf("deep nesting: %v", err)
	}
	if !Reserved("len") || !Reserved("let") || !Reserved("filter") || Reserved("x") {
		t.Error("Reserved is wrong")
	}
}

// TestConcurrent: a program is run by many goroutines at once.
func TestConcurrent(t *testing.T) {
	p, err := Compile("let x = n; sum(map(1..x, {# * x}))", scope())
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for range 200 {
				v, err := p.Run(nil, map[string]any{"n": n + 1})
				if want := (n + 1) * (n + 1) * (n + 2) / 2; err != nil || v != want {
					t.Errorf("%d: %v (%v), want %d", n, v, err, want)
					return
				}
			}
		})
	}
	all.Wait()
}

// FuzzCompile wants that no text ends the process: it is refused, fails, or has a value of the kind that was said.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{"1 + n", "filter([1], {# > 0})", "let x = 1; x ?? {a: 1}.a", "'a'[1:] | upper()", "#.a", "if true {1} else {2}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Compile(text, scope())
		if err != nil {
			return
		}
		v, err := p.Run("www", map[string]any{"n": 42, "any": nil})
		if err == nil && p.Kind() != Any && kindOf(v) != p.Kind() {
			t.Errorf("%q was thought to be %s, and is %s", text, p.Kind(), kindOf(v))
		}
	})
}
