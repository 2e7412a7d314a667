package corefile

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// directiveOf parses text as the only directive of a server block.
func directiveOf(t *testing.T, text string) *Line {
	t.Helper()
	file, err := Parse(nil, "Corefile", []byte(". {\n"+text+"\n}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &file.Blocks[0].Lines[0]
}

type settings struct {
	flag   bool
	number int
	ratio  float64
	wait   time.Duration
	name   string
	zones  []string
	policy string
}

func (s *settings) rows() Options {
	return Options{
		Flag("force_tcp", &s.flag),
		Int("max_fails", "INTEGER", &s.number, 0, 100),
		Float("ratio", "NUMBER", &s.ratio, 0, 1),
		Duration("expire", "DURATION", &s.wait, time.Second, time.Hour),
		Text("name", "NAME", &s.name),
		Texts("except", "ZONE...", &s.zones),
		Enum("policy", &s.policy, "random", "round_robin", "sequential"),
		{Name: "upstream", Obsolete: "upstream does nothing any more; remove it"},
		{Name: "inner", Usage: "{ ... }", Block: true, Max: 0, Read: func(l *Line) error {
			if l.Block == nil {
				return errors.New("a block is missing")
			}
			return nil
		}},
	}
}

func TestOptions(t *testing.T) {
	var s settings
	warnings, err := s.rows().Read(directiveOf(t, `forward {
		force_tcp
		max_fails 7
		max_fails 8
		ratio 0.25
		expire 1m30s
		name "a b"
		except a.example b.example
		except c.example d.example
		policy sequential
		upstream
		upstream a b c {
			d
		}
		inner {
			x
		}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	if !s.flag || s.number != 8 || s.ratio != 0.25 || s.wait != 90*time.Second || s.name != "a b" || s.policy != "sequential" {
		t.Errorf("read %+v", s)
	}
	if want := []string{"c.example", "d.example"}; !slices.Equal(s.zones, want) {
		t.Errorf("zones %q, want %q", s.zones, want)
	}
	if len(warnings) != 2 || warnings[0].Pos.Line != 12 || !strings.Contains(warnings[0].Text, "remove it") {
		t.Errorf("warnings %v", warnings)
	}
}

func TestOptionsWithoutBlock(t *testing.T) {
	var s settings
	if warnings, err := s.rows().Read(directiveOf(t, "forward a b")); err != nil || warnings != nil {
		t.Errorf("%v, %v", warnings, err)
	}
}

// TestOptionsOneLine is a Corefile that CoreDNS reads: the option takes one argument and never sees the brace.
func TestOptionsOneLine(t *testing.T) {
	var s settings
	if _, err := s.rows().Read(directiveOf(t, "forward . 192.0.2.1 { max_fails 7 }")); err != nil || s.number != 7 {
		t.Errorf("read %d, %v", s.number, err)
	}
	if _, err := s.rows().Read(directiveOf(t, "forward . 192.0.2.1 { except a.example }")); err != nil || !slices.Equal(s.zones, []string{"a.example", "}"}) {
		t.Errorf("read %q, %v", s.zones, err)
	}
}

func TestOptionsRefused(t *testing.T) {
	for _, c := range []struct {
		option string
		col    int // of the error, in line 3
		parts  []string
	}{
		{"force_tpc", 1, []string{`forward has no option "force_tpc"`, `did you mean "force_tcp"?`, "max_fails INTEGER", "policy random|round_robin|sequential"}},
		{"nothing_like_it", 1, []string{"no option", "its options are:\n    force_tcp\n"}},
		{"Force_tcp", 1, []string{`did you mean "force_tcp"?`}},
		{"force_tcp yes", 11, []string{"force_tcp has 1 argument, but takes none; write: force_tcp"}},
		{"force_tcp {\n}", 1, []string{"takes no block"}},
		{"max_fails", 1, []string{"max_fails has 0 arguments, but takes 1; write: max_fails INTEGER"}},
		{"max_fails 1 2", 13, []string{"has 2 arguments, but takes 1"}},
		{"max_fails x", 11, []string{`"x" is not a number`}},
		{"max_fails -1", 11, []string{"from 0 to 100"}},
		{"max_fails 101", 11, []string{"from 0 to 100"}},
		{"max_fails 99999999999999999999", 11, []string{"from 0 to 100"}},
		{"max_fails 1.5", 11, []string{"is not a number"}},
		{"ratio 2", 7, []string{"from 0 to 1"}},
		{"ratio NaN", 7, []string{"is not a number"}},
		{"ratio 1e999", 7, []string{"out of range"}},
		{"expire 10", 8, []string{"a unit is missing: write 10s"}},
		{"expire soon", 8, []string{"is not a duration", "30s"}},
		{"expire 500ms", 8, []string{"from 1s to 1h0m0s"}},
		{"expire 2h", 8, []string{"from 1s to 1h0m0s"}},
		{"except", 1, []string{"takes at least 1; write: except ZONE..."}},
		{"policy randon", 8, []string{`"randon" is none of random, round_robin, sequential`, `did you mean "random"?`}},
		{"policy zzz", 8, []string{"is none of"}},
		{"inner", 1, []string{"inner: a block is missing"}},
	} {
		t.Run(c.option, func(t *testing.T) {
			var s settings
			_, err := s.rows().Read(directiveOf(t, "forward {\n"+c.option+"\n}"))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v", err)
			}
			if e.Pos.Line != 3 || e.Pos.Col != c.col {
				t.Errorf("error at %d:%d, want 3:%d", e.Pos.Line, e.Pos.Col, c.col)
			}
			for _, part := range c.parts {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q lacks %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "upstream") {
				t.Errorf("%q offers an obsolete option", err)
			}
		})
	}
}

func TestParseValues(t *testing.T) {
	w := func(s string) Word { return wordsOf(s)[0] }
	if n, err := ParseInt(w("+12"), math.MinInt, math.MaxInt); n != 12 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := ParseInt(w("0"), 1, math.MaxInt); err == nil || !strings.Contains(err.Error(), "at least 1") {
		t.Error(err)
	}
	if _, err := ParseInt(w("5"), math.MinInt, 4); err == nil || !strings.Contains(err.Error(), "at most 4") {
		t.Error(err)
	}
	if f, err := ParseFloat(w("1e2"), 0, math.Inf(1)); f != 100 || err != nil {
		t.Errorf("%v, %v", f, err)
	}
	if d, err := ParseDuration(w("0")); d != 0 || err != nil {
		t.Errorf("%v, %v", d, err)
	}
	if d, err := ParseDuration(w("-1.5h")); d != -90*time.Minute || err != nil {
		t.Errorf("%v, %v", d, err)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"kubernetes", "forward", "file", "log", "tls", "loop"}
	for word, want := range map[string]string{
		"kubernets": "kubernetes", "forwrad": "forward", "fil": "file", "lop": "log", "tsl": "tls", "proxy": "", "": "",
		"x": "", "kubernetes": "kubernetes", "kuberetse": "", strings.Repeat("a", 10000): "",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("Nearest(%q) is %q, want %q", word, got, want)
		}
	}
}

func TestArgCount(t *testing.T) {
	line := directiveOf(t, "cache 30 a b")
	for _, c := range []struct {
		min, max int
		ok       bool
	}{{0, -1, true}, {3, 3, true}, {4, -1, false}, {0, 2, false}, {0, 0, false}, {1, 3, true}} {
		if err := ArgCount(line, c.min, c.max, "[TTL] [ZONE...]"); (err == nil) != c.ok {
			t.Errorf("%d to %d: %v", c.min, c.max, err)
		}
	}
	err := ArgCount(line, 0, 2, "[TTL] [ZONE...]")
	if want := `Corefile:2:12: cache has 3 arguments, but takes 0 to 2; write: cache [TTL] [ZONE...]`; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}
