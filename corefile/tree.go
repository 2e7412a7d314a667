// Package corefile reads the Corefile language: text becomes a tree of server blocks, directives and words, each
// with its place in the file, after snippets, imports and environment variables have been filled in.
//
// It reads files through fs.FS only, starts nothing and logs nothing: what deserves a warning is returned as one.
package corefile

import (
	"fmt"
	"strconv"
)

// Source is one text that was read: the Corefile, an imported file or standard input.
type Source struct {
	Name string // as an operator would write it: a path, or "stdin"
	From Pos    // the import that brought it in; zero for the Corefile itself
}

// Pos is a place in a source. The zero Pos is no place (a value made by the program).
type Pos struct {
	Source    *Source
	Line, Col int // both from 1; Col counts bytes
}

// maxChain is how many imports an error names; files that import each other would fill pages.
const maxChain = 8

// String gives "file:line:col", followed by the imports that led there: "b.conf:1:2 (imported at Corefile:4:2)".
func (p Pos) String() string {
	if p.Source == nil {
		return "-"
	}
	s := fmt.Sprintf("%s:%d:%d", p.Source.Name, p.Line, p.Col)
	from := p.Source.From
	for n := 0; from.Source != nil; from = from.Source.From {
		if n++; n > maxChain {
			return s + " (…)"
		}
		s += fmt.Sprintf(" (imported at %s:%d:%d)", from.Source.Name, from.Line, from.Col)
	}
	return s
}

// Word is one token after substitution. Its text may hold blanks when it was quoted or came from a variable.
type Word struct {
	Text string
	Pos  Pos
}

// Line is one line of a block: a directive, or an option of one, with its own block where it has braces.
type Line struct {
	Name Word
	Args []Word
	// Block holds the lines between braces; nil without braces, empty but not nil for "{ }".
	Block []Line
}

// Block is one server block as written: its keys and its directives in the order of the file.
type Block struct {
	Keys  []Word
	Lines []Line
}

// File is a whole configuration.
type File struct {
	Blocks   []Block
	Warnings []Warning
	// Sources lists every file that was read, the Corefile first: what a reload has to watch.
	Sources []*Source
	// Hash is the SHA-512, in lower-case hex, of the parsed tokens with their line numbers and imports, as CoreDNS's
	// reload computes it from its parsed server blocks. Equal hash: nothing to reload.
	Hash string
}

// Warning is something that works but that an operator should know.
type Warning struct {
	Pos  Pos
	Text string
}

// Error is a mistake in a Corefile with its place. Hint, when not empty, says what to write instead.
type Error struct {
	Pos  Pos
	Text string
	Hint string
}

// Error gives "file:line:col (imported at …): text; hint".
func (e *Error) Error() string {
	s := e.Text
	if e.Pos.Source != nil {
		s = e.Pos.String() + ": " + s
	}
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Errorf makes an Error at pos.
func Errorf(pos Pos, format string, args ...any) *Error {
	return &Error{Pos: pos, Text: fmt.Sprintf(format, args...)}
}

const maxQuoted = 80 // bytes of a word that a message repeats

// clip shortens a word for a message.
func clip(s string) string {
	if len(s) <= maxQuoted {
		return s
	}
	return s[:maxQuoted] + "…"
}

// quote is clip with quotes around.
func quote(s string) string { return strconv.Quote(clip(s)) }
