package expr

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// tokenKind is the kind of a token.
type tokenKind uint8

const (
	end tokenKind = iota
	number
	quoted
	name
	symbol
)

// lexer reads tokens: the current one is in kind, token and value.
type lexer struct {
	text  string
	at    int // behind the current token
	start int // where it begins
	kind  tokenKind
	token string // as written
	value any    // of a number or a quoted string
}

// failure carries an error through the compiler.
type failure struct{ err error }

func (l *lexer) fail(format string, args ...any) {
	panic(failure{fmt.Errorf("column %d: %s", l.start+1, fmt.Sprintf(format, args...))})
}

func (l *lexer) catch(f func()) (err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case failure:
			err = v.err
		default:
			panic(v)
		}
	}()
	f()
	return nil
}

// symbols are those of more than one character, the longest first.
var symbols = [...]string{"?.", "??", "?:", "**", "==", "!=", "<=", ">=", "&&", "||", ".."}

// next reads the next token.
func (l *lexer) next() {
	l.blanks()
	l.start = l.at
	rest := l.text[l.at:]
	if rest == "" {
		l.kind, l.token = end, "end"
		return
	}
	switch c := rest[0]; {
	case c >= '0' && c <= '9' || c == '.' && len(rest) > 1 && rest[1] >= '0' && rest[1] <= '9':
		l.number(rest)
	case c == '"' || c == '\'' || c == '`':
		l.quoted(rest)
	case isName(c):
		n := 1
		for n < len(rest) && (isName(rest[n]) || rest[n] >= '0' && rest[n] <= '9') {
			n++
		}
		l.take(name, n)
	default:
		n := 1
		for _, s := range symbols {
			if strings.HasPrefix(rest, s) {
				n = len(s)
				break
			}
		}
		if n == 1 && !strings.ContainsRune("+-*/%^<>!?:()[]{},.;|#=", rune(c)) {
			r, size := utf8.DecodeRuneInString(rest)
			l.at += size
			l.fail("unexpected character %q", r)
		}
		l.take(symbol, n)
	}
}

func isName(c byte) bool { return c == '_' || c == '$' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80 }

// blanks passes over blanks and comments.
func (l *lexer) blanks() {
	for l.at < len(l.text) {
		rest := l.text[l.at:]
		switch {
		case strings.ContainsRune(" \t\r\n", rune(rest[0])):
			l.at++
		case strings.HasPrefix(rest, "//"):
			if n := strings.IndexByte(rest, '\n'); n >= 0 {
				l.at += n
			} else {
				l.at = len(l.text)
			}
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest, "*/")
			if n < 0 {
				l.start = l.at
				l.fail("the comment is not closed")
			}
			l.at += n + 2
		default:
			return
		}
	}
}

func (l *lexer) take(k tokenKind, n int) {
	l.kind, l.token = k, l.text[l.at:l.at+n]
	l.at += n
}

// number reads an integer of any base, or a number with a fraction. Two dots behind a number are a range.
func (l *lexer) number(rest string) {
	n := 0
	for n < len(rest) {
		c := rest[n]
		exponent := n > 0 && rest[n-1]|0x20 == 'e' && (c == '+' || c == '-') && !strings.HasPrefix(rest, "0x")
		if !isName(c) && (c < '0' || c > '9') && c != '.' && !exponent || strings.HasPrefix(rest[n:], "..") {
			break
		}
		n++
	}
	l.take(number, n)
	text := strings.ReplaceAll(l.token, "_", "")
	if i, err := strconv.ParseInt(text, 0, 64); err == nil && (text == "0" || text[0] != '0' || len(text) > 1 && (text[1] < '0' || text[1] > '9')) {
		l.value = int(i)
		return
	}
	if i, err := strconv.ParseInt(text, 10, 64); err == nil { // zeros in front mean nothing
		l.value = int(i)
		return
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || strings.ContainsAny(text, "xX") {
		l.fail("%q is not a number", l.token)
	}
	l.value = f
}

// quoted reads a string: between backquotes as it is, else with Go's escapes.
func (l *lexer) quoted(rest string) {
	quote := rest[0]
	n := 1
	for n < len(rest) && rest[n] != quote {
		if rest[n] == '\\' && quote != '`' {
			n++
		}
		n++
	}
	if n >= len(rest) {
		l.fail("the string is not closed")
	}
	l.take(quoted, n+1)
	body := l.token[1:n]
	if quote == '`' {
		l.value = body
		return
	}
	var b strings.Builder
	for body != "" {
		if quote == '"' && strings.HasPrefix(body, `\'`) || quote == '\'' && strings.HasPrefix(body, `\"`) {
			b.WriteByte(body[1])
			body = body[2:]
			continue
		}
		r, multibyte, tail, err := strconv.UnquoteChar(body, quote)
		if err != nil {
			l.fail("the string %s has an escape that is none", l.token)
		}
		if r < utf8.RuneSelf || !multibyte {
			b.WriteByte(byte(r))
		} else {
			b.WriteRune(r)
		}
		body = tail
	}
	l.value = b.String()
}
