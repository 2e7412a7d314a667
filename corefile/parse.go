package corefile

import (
	"io/fs"
	"strings"
)

// The counts of imports are CoreDNS's; the others are ours and keep memory and time bounded on any input.
const (
	maxSnippetImports = 10_000
	maxFileImports    = 100_000
	maxImportedFiles  = 1 << 20 // all files of all imports, each as often as it is imported
	maxWords          = 1 << 20 // read from files, and again after imports were filled in
	maxDepth          = 64      // of braces inside a directive
	maxWarnings       = 100
)

// Parse reads a Corefile. Text is its content and name what it is called in messages: a path, or "stdin". Imports are
// read through fsys, relative to the file they stand in; fsys may be nil when there are none. Variables come from env,
// which may be nil and is usually os.LookupEnv. Nothing is kept of text.
//
// The language is CoreDNS 1.14.7's, with limits on sizes (the constants in this package) and two refusals CoreDNS
// leaves to the directives: a directive's opening brace on a line of its own, and words after its closing brace.
// Names of directives are not checked here. Errors are of type *Error.
func Parse(fsys fs.FS, name string, text []byte, env func(string) (string, bool)) (*File, error) {
	blocks, p, err := parseBlocks(fsys, name, text, env)
	if err != nil {
		return nil, err
	}
	file := &File{Sources: p.files.sources, Hash: hashBlocks(blocks)}
	for _, b := range blocks {
		lines, err := p.lines(b.directives)
		if err != nil {
			return nil, err
		}
		file.Blocks = append(file.Blocks, Block{Keys: b.keys, Lines: lines})
	}
	file.Warnings = p.warnings
	return file, nil
}

// tokenBlock is a server block before its directives are made into lines.
type tokenBlock struct {
	keys       []Word
	directives []tokenLine
}

// tokenLine is one directive with all its tokens, its own name as written (before variables) first.
type tokenLine struct {
	name   string // after variables
	tokens []token
}

// frame is a run of tokens still to be read: the Corefile, or what one import stands for.
type frame struct {
	tokens []token
	from   Pos // of the import; the zero Pos in the Corefile
	// base and source remember how the last token's source was renamed to tell of the import.
	base, source *Source
}

type parser struct {
	files    files
	expander expander
	frames   []frame // innermost last
	last     token   // the last token taken; imports do not count
	begun    bool    // last is valid
	words    int

	snippets       map[string][]token
	snippetImports int
	fileImports    int
	importedFiles  int

	warnings []Warning
	unset    map[string]bool
}

func parseBlocks(fsys fs.FS, name string, text []byte, env func(string) (string, bool)) ([]tokenBlock, *parser, error) {
	p := &parser{snippets: map[string][]token{}, unset: map[string]bool{}}
	p.files = files{fsys: fsys, main: name, read: map[string][]token{}, globs: map[string][]string{}, warn: p.warn}
	p.expander = expander{env: env, unset: p.warnUnset}
	tokens, err := p.files.lex(name, "", text)
	if err != nil {
		return nil, nil, &Error{Text: err.Error()}
	}
	p.frames = []frame{{tokens: tokens}}
	var blocks []tokenBlock
	for {
		if _, ok := p.peek(); !ok {
			return blocks, p, nil
		}
		b, err := p.block()
		if err != nil {
			return nil, nil, err
		}
		if len(b.keys) > 0 {
			blocks = append(blocks, b)
		}
	}
}

func (p *parser) warn(pos Pos, text string) {
	if len(p.warnings) < maxWarnings {
		p.warnings = append(p.warnings, Warning{Pos: pos, Text: text})
	}
}

func (p *parser) warnUnset(pos Pos, name string) {
	if !p.unset[name] {
		p.unset[name] = true
		p.warn(pos, "the environment variable "+quote(name)+" is not set; nothing is filled in")
	}
}

// peek returns the next token without taking it, or false at the end.
func (p *parser) peek() (token, bool) {
	for len(p.frames) > 0 {
		f := &p.frames[len(p.frames)-1]
		if len(f.tokens) == 0 {
			p.frames = p.frames[:len(p.frames)-1]
			continue
		}
		t := f.tokens[0]
		if f.from.Source != nil {
			if f.base != t.pos.Source {
				f.base, f.source = t.pos.Source, &Source{Name: t.pos.Source.Name, From: f.from}
			}
			t.pos.Source = f.source
		}
		return t, true
	}
	return token{}, false
}

// drop moves past the token that peek returned.
func (p *parser) drop() {
	f := &p.frames[len(p.frames)-1]
	f.tokens = f.tokens[1:]
}

// take moves past t, the token that peek returned, and makes it the one that lines are compared with.
func (p *parser) take(t token) error {
	p.drop()
	p.last, p.begun = t, true
	if p.words++; p.words > maxWords {
		return Errorf(t.pos, "the configuration has more than %d words once imports are filled in", maxWords)
	}
	return nil
}

// startsLine reports whether t begins a line.
func (p *parser) startsLine(t token) bool { return !p.begun || newLine(p.last, t) }

// endError says what was missing when the text ended.
func (p *parser) endError(missing string) error {
	return Errorf(p.last.pos, "the file ends after %s, %s", quote(p.last.text), missing)
}

// block reads one server block or snippet. A snippet and a block without keys come back without keys.
func (p *parser) block() (tokenBlock, error) {
	var b tokenBlock
	first, _ := p.peek()
	end, err := p.keys(&b)
	if err != nil || end {
		return b, err
	}
	if len(b.keys) == 1 && strings.HasPrefix(b.keys[0].Text, "(") && strings.HasSuffix(b.keys[0].Text, ")") {
		err := p.snippet(b.keys[0])
		return tokenBlock{}, err
	}
	brace, _ := p.peek()
	if brace.text == "{" {
		if err := p.take(brace); err != nil {
			return b, err
		}
	}
	closed, err := p.directives(&b)
	if err != nil {
		return b, err
	}
	if brace.text == "{" && !closed {
		if p.last.text != "}" {
			return b, &Error{Pos: brace.pos, Text: "this brace is never closed", Hint: `end the server block with a line "}"`}
		}
		p.warn(brace.pos, "the server block is never closed; the last brace of the file closes a directive's block")
	}
	if len(b.keys) == 0 {
		p.warn(first.pos, "a server block without a zone is ignored")
	}
	return b, nil
}

// keys reads the words before a server block's brace, or before its second line. It reports whether the text ended.
func (p *parser) keys(b *tokenBlock) (end bool, err error) {
	more := false // a comma promised another key
	fresh := true // the next token is a key wherever it stands: the block begins, or an import was filled in
	for {
		t, ok := p.peek()
		if !ok {
			if more {
				return true, p.endError("and a comma promises another zone")
			}
			return true, nil
		}
		if !fresh && !more && p.startsLine(t) {
			return false, nil
		}
		word, err := p.expander.expand(t.text, t.pos)
		if err != nil {
			return false, err
		}
		if word == "import" && p.startsLine(t) {
			if err := p.importHere(t); err != nil {
				return false, err
			}
			fresh = true
			continue
		}
		if word == "{" {
			if more {
				return false, &Error{Pos: t.pos, Text: "a zone was expected, not \"{\"", Hint: "remove the comma before it"}
			}
			return false, nil
		}
		if err := p.take(t); err != nil {
			return false, err
		}
		fresh = false
		if word == "" {
			continue
		}
		word, more = strings.CutSuffix(word, ",")
		if strings.ContainsAny(word, "{}") {
			p.warn(t.pos, quote(word)+" is read as the name of a zone; is a blank missing before the brace?")
		}
		b.keys = append(b.keys, Word{Text: word, Pos: t.pos})
	}
}

// directives reads up to the brace that closes the block, which it takes, or to the end of the text.
func (p *parser) directives(b *tokenBlock) (closed bool, err error) {
	for {
		t, ok := p.peek()
		switch {
		case !ok:
			return false, nil
		case t.text == "}":
			return true, p.take(t)
		case t.text == "import":
			err = p.importHere(t)
		default:
			err = p.directive(b, t)
		}
		if err != nil {
			return false, err
		}
	}
}

// directive reads one directive: t, what follows on its line, and all lines of its braces.
func (p *parser) directive(b *tokenBlock, t token) error {
	name, err := p.expander.expand(t.text, t.pos)
	if err != nil {
		return err
	}
	if err := p.take(t); err != nil {
		return err
	}
	line := tokenLine{name: name, tokens: []token{t}}
	var open []Pos
	for {
		t, ok := p.peek()
		if !ok {
			break
		}
		switch {
		case t.text == "{":
			if open = append(open, t.pos); len(open) > maxDepth {
				return Errorf(t.pos, "blocks are nested more than %d deep", maxDepth)
			}
		case len(open) == 0 && p.startsLine(t):
			b.directives = append(b.directives, line)
			return nil
		case t.text == "}":
			if len(open) == 0 {
				return &Error{Pos: t.pos, Text: "no brace is open that this one could close", Hint: `write "}" on a line of its own`}
			}
			open = open[:len(open)-1]
		case t.text == "import" && p.startsLine(t):
			if err := p.importHere(t); err != nil {
				return err
			}
			continue
		}
		if t.text, err = p.expander.expand(t.text, t.pos); err != nil {
			return err
		}
		if err := p.take(t); err != nil {
			return err
		}
		line.tokens = append(line.tokens, t)
	}
	if len(open) > 0 {
		return &Error{Pos: open[len(open)-1], Text: "this brace is never closed", Hint: `end the block with a line "}"`}
	}
	b.directives = append(b.directives, line)
	return nil
}
