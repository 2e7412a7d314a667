package corefile

import (
	"bytes"
	"strings"
)

const indent = "    " // blanks, because most Corefiles live inside YAML

// Format returns text in its canonical layout: four blanks for each open brace, one between words, no blanks at a line's
// end, LF as line break. Words and comments stay as they are and every word stays on its line, so the hash stays too and a
// running server does not reload; only a quote left open at the end is closed. It takes any text, valid or not;
// formatting twice changes nothing more. The result shares nothing with text.
func Format(text []byte) []byte {
	f := formatter{src: text, line: 1}
	s := newScan(text)
	for it, ok := s.next(); ok; it, ok = s.next() {
		f.item(it)
	}
	if f.out.Len() > 0 {
		f.out.WriteByte('\n')
	}
	return f.out.Bytes()
}

type formatter struct {
	src   []byte
	out   bytes.Buffer
	line  int // line of the source that out has reached
	depth int // of open braces
}

func (f *formatter) item(it item) {
	closing := it.kind != itemComment && it.text == "}"
	if closing && f.depth > 0 {
		f.depth--
	}
	switch {
	case it.line > f.line:
		f.out.WriteString(strings.Repeat("\n", it.line-f.line))
		f.out.WriteString(strings.Repeat(indent, min(f.depth, maxDepth)))
		f.line = it.line
	case f.out.Len() > 0:
		f.out.WriteByte(' ')
	}
	raw := f.raw(it)
	if f.out.Len() == 0 && bytes.HasPrefix(raw, []byte("\ufeff")) {
		f.out.WriteString("\ufeff") // or the next reader takes the word's own for the file's
	}
	f.out.Write(raw)
	f.line += bytes.Count(raw, []byte("\n"))
	if it.kind != itemComment && it.text == "{" {
		f.depth++
	}
}

// raw returns the item as it was written, less what the scan ignores inside it.
func (f *formatter) raw(it item) []byte {
	raw := f.src[it.start:it.end]
	switch {
	case it.kind == itemWord:
		return bytes.Map(noReturn, raw)
	case it.kind == itemComment:
		return bytes.TrimSpace(bytes.Map(noReturn, raw))
	case it.unclosed:
		if escapes := len(raw) - len(bytes.TrimRight(raw, `\`)); escapes%2 == 1 {
			raw = raw[:len(raw)-1] // an escape of nothing is dropped by the scan
		}
		return append(bytes.Clone(raw), '"')
	}
	return raw
}

// noReturn drops carriage returns. Used through bytes.Map it also spells out bytes that are no UTF-8 as the U+FFFD they
// are read as: two halves of a character must not meet when the carriage return between them goes.
func noReturn(r rune) rune {
	if r == '\r' {
		return -1
	}
	return r
}
