package corefile

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Row is one option of a directive: its word, what it takes and where that goes.
type Row struct {
	Name     string // the option's word
	Usage    string // its arguments as its README writes them: "DURATION [TTL]", "" for none
	Min, Max int    // how many arguments; Max -1 is any number
	Block    bool   // the option may have a block of its own
	// Read stores the arguments. It is called once for each time the option stands in the block, after their number was
	// checked; returning an *Error keeps its place, any other error gets the line's.
	Read func(l *Line) error
	// Obsolete, when not empty, is the warning that the option is accepted with; it is not read then.
	Obsolete string
}

// Options are the rows of a directive, in the order its usage shows them.
type Options []Row

// Read reads the lines of l's block, each by the row of its name; the last of repeated options wins unless its Read says
// otherwise. The warnings are valid with an error too. Errors are of type *Error.
func (o Options) Read(l *Line) ([]Warning, error) {
	var warnings []Warning
	for i := range l.Block {
		opt := &l.Block[i]
		at := slices.IndexFunc(o, func(r Row) bool { return r.Name == opt.Name.Text })
		if at < 0 {
			return warnings, o.unknown(l, opt)
		}
		row := &o[at]
		if row.Obsolete != "" {
			warnings = append(warnings, Warning{Pos: opt.Name.Pos, Text: row.Obsolete})
			continue
		}
		if err := row.read(opt); err != nil {
			return warnings, err
		}
	}
	return warnings, nil
}

// Usage lists the rows as a README's Syntax section does, one a line, the obsolete ones left out.
func (o Options) Usage() string {
	var b strings.Builder
	for _, r := range o {
		if r.Obsolete != "" {
			continue
		}
		b.WriteString("    " + r.line() + "\n")
	}
	return b.String()
}

func (o Options) unknown(l, opt *Line) error {
	known := make([]string, len(o))
	for i, r := range o {
		known[i] = r.Name
	}
	e := Errorf(opt.Name.Pos, "%s has no option %s", clip(l.Name.Text), quote(opt.Name.Text))
	if near := Nearest(opt.Name.Text, known); near != "" {
		e.Hint = fmt.Sprintf("did you mean %q?", near)
	}
	if usage := o.Usage(); usage != "" {
		e.Hint = strings.TrimLeft(e.Hint+" its options are:\n"+strings.TrimRight(usage, "\n"), " ")
	}
	return e
}

func (r *Row) line() string { return strings.TrimRight(r.Name+" "+r.Usage, " ") }

func (r *Row) read(l *Line) error {
	if l.Block != nil && !r.Block {
		return Errorf(l.Name.Pos, "%s takes no block; write: %s", r.Name, r.line())
	}
	l = r.trim(l)
	if err := ArgCount(l, r.Min, r.Max, r.Usage); err != nil {
		return err
	}
	if r.Read == nil {
		return nil
	}
	err := r.Read(l)
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok {
		return e
	}
	return Errorf(l.Name.Pos, "%s: %v", r.Name, err)
}

// trim drops a closing brace that Parse left among the arguments, where there is no room for it: CoreDNS reads
// "{ max_concurrent 1000 }" on one line, because that option never looks for a second argument.
func (r *Row) trim(l *Line) *Line {
	n := len(l.Args)
	if n == 0 || r.Max < 0 || n != r.Max+1 || l.Args[n-1].Text != "}" {
		return l
	}
	short := *l
	short.Args = l.Args[:n-1]
	return &short
}

// ArgCount checks that l has from min to max arguments; max -1 is any number. Usage is what the error says to write
// behind the line's name.
func ArgCount(l *Line, min, max int, usage string) error {
	n := len(l.Args)
	if n >= min && (max < 0 || n <= max) {
		return nil
	}
	pos := l.Name.Pos
	if max >= 0 && n > max {
		pos = l.Args[max].Pos
	}
	return &Error{Pos: pos, Text: fmt.Sprintf("%s has %s, but takes %s", l.Name.Text, arguments(n), wanted(min, max)),
		Hint: "write: " + strings.TrimRight(l.Name.Text+" "+usage, " ")}
}

func arguments(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

func wanted(min, max int) string {
	switch {
	case max == 0:
		return "none"
	case max < 0:
		return fmt.Sprintf("at least %d", min)
	case min == max:
		return fmt.Sprint(min)
	}
	return fmt.Sprintf("%d to %d", min, max)
}

// Flag is an option without arguments that sets dst.
func Flag(name string, dst *bool) Row {
	return Row{Name: name, Read: func(*Line) error {
		*dst = true
		return nil
	}}
}

// value is an option with one argument, read by parse.
func value[T any](name, usage string, dst *T, parse func(Word) (T, error)) Row {
	return Row{Name: name, Usage: usage, Min: 1, Max: 1, Read: func(l *Line) error {
		v, err := parse(l.Args[0])
		if err == nil {
			*dst = v
		}
		return err
	}}
}

// Int is an option with one number from min to max.
func Int(name, usage string, dst *int, min, max int) Row {
	return value(name, usage, dst, func(w Word) (int, error) { return ParseInt(w, min, max) })
}

// Float is an option with one number from min to max, fractions allowed.
func Float(name, usage string, dst *float64, min, max float64) Row {
	return value(name, usage, dst, func(w Word) (float64, error) { return ParseFloat(w, min, max) })
}

// Duration is an option with one duration from min to max.
func Duration(name, usage string, dst *time.Duration, min, max time.Duration) Row {
	return value(name, usage, dst, func(w Word) (time.Duration, error) { return ParseDurationIn(w, min, max) })
}

// Text is an option with one word.
func Text(name, usage string, dst *string) Row {
	return value(name, usage, dst, func(w Word) (string, error) { return w.Text, nil })
}

// Texts is an option with one or more words; it replaces what dst held.
func Texts(name, usage string, dst *[]string) Row {
	return Row{Name: name, Usage: usage, Min: 1, Max: -1, Read: func(l *Line) error {
		words := make([]string, len(l.Args))
		for i, w := range l.Args {
			words[i] = w.Text
		}
		*dst = words
		return nil
	}}
}

// Enum is an option with one of the given words.
func Enum(name string, dst *string, values ...string) Row {
	return value(name, strings.Join(values, "|"), dst, func(w Word) (string, error) {
		if slices.Contains(values, w.Text) {
			return w.Text, nil
		}
		e := Errorf(w.Pos, "%s is none of %s", quote(w.Text), strings.Join(values, ", "))
		if near := Nearest(w.Text, values); near != "" {
			e.Hint = fmt.Sprintf("did you mean %q?", near)
		}
		return "", e
	})
}

// Nearest returns the word of known that word is most likely a slip of: the first at the smallest edit distance, at
// most 2. It returns "" when there is none.
func Nearest(word string, known []string) string {
	best, near := 3, ""
	if len(word) > 64 { // no option is that long, and the work grows with the length
		return ""
	}
	for _, k := range known {
		if d := distance(word, k); d < best && d < len(k) {
			best, near = d, k
		}
	}
	return near
}

// distance counts the bytes to insert, drop or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
