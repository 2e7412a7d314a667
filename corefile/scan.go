package corefile

import (
	"unicode"
	"unicode/utf8"
)

// A scan walks the bytes of one source and yields its words and comments in order. Format and Parse both read
// through it, so that they cannot disagree about where a word ends.
type scan struct {
	src       []byte
	pos       int // offset of the next byte
	line      int // line of the next byte, from 1
	lineStart int // offset of that line's first byte
}

type itemKind uint8

const (
	itemWord    itemKind = iota // a bare word
	itemQuoted                  // a word that began with a quote
	itemComment                 // from # to the end of the line
)

// An item is one word or comment. Its raw text is src[start:end].
type item struct {
	kind       itemKind
	text       string // the word without its quotes and escapes; "" for a comment
	start, end int
	line, col  int
	unclosed   bool // the source ended inside the quotes
	hash       bool // a comment is glued to the word: it reaches to the next blank, not to the end of the line
}

func newScan(src []byte) *scan {
	s := &scan{src: src, line: 1}
	if r, n := utf8.DecodeRune(src); r == '\ufeff' { // one byte order mark is no part of the first word
		s.pos, s.lineStart = n, n
	}
	return s
}

// next returns the next item, or false at the end of the source.
func (s *scan) next() (item, bool) {
	for s.pos < len(s.src) {
		r, n := utf8.DecodeRune(s.src[s.pos:])
		it := item{start: s.pos, line: s.line, col: s.pos - s.lineStart + 1}
		switch {
		case r == '\n':
			s.pos++
			s.newline()
		case unicode.IsSpace(r):
			s.pos += n
		case r == '#':
			s.comment(&it)
			return it, true
		case r == '"':
			if s.quoted(&it); it.unclosed && it.text == "" {
				return item{}, false // a lone quote at the end is no word
			}
			return it, true
		default:
			s.word(&it)
			return it, true
		}
	}
	return item{}, false
}

// newline notes that the line break before pos was passed.
func (s *scan) newline() {
	s.line++
	s.lineStart = s.pos
}

func (s *scan) comment(it *item) {
	it.kind = itemComment
	for s.pos < len(s.src) && s.src[s.pos] != '\n' {
		s.pos++
	}
	it.end = s.pos
}

// word reads a bare word. Carriage returns vanish even inside it, and a # in it hides what follows up to the next
// blank; bytes that are no UTF-8 become U+FFFD.
func (s *scan) word(it *item) {
	var text []byte
	for s.pos < len(s.src) {
		r, n := utf8.DecodeRune(s.src[s.pos:])
		if unicode.IsSpace(r) && r != '\r' {
			break
		}
		if r == '#' {
			it.hash = true
		}
		if r != '\r' && !it.hash {
			text = utf8.AppendRune(text, r)
		}
		s.pos += n
	}
	it.kind, it.text, it.end = itemWord, string(text), s.pos
}

// quoted reads a word in quotes: \" is a quote, every other backslash stands for itself, and line breaks are kept.
func (s *scan) quoted(it *item) {
	var text []byte
	escaped := false
	it.kind = itemQuoted
	for s.pos++; s.pos < len(s.src); {
		r, n := utf8.DecodeRune(s.src[s.pos:])
		s.pos += n
		if r == '\n' {
			s.newline()
		}
		switch {
		case escaped:
			if r != '"' {
				text = append(text, '\\')
			}
			text = utf8.AppendRune(text, r)
			escaped = false
		case r == '\\':
			escaped = true
		case r == '"':
			it.text, it.end = string(text), s.pos
			return
		default:
			text = utf8.AppendRune(text, r)
		}
	}
	it.text, it.end, it.unclosed = string(text), s.pos, true
}
