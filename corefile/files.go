package corefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const (
	maxFileBytes  = 16 << 20 // of one file
	maxTotalBytes = 64 << 20 // of all files together
	maxFiles      = 10_000
)

// AbsFS is a file system that has a current folder. Parse asks it for absolute paths, so that imports stay relative to
// the file they stand in wherever the program was started.
type AbsFS interface {
	fs.FS
	// Abs returns name as an absolute path.
	Abs(name string) (string, error)
}

// OS returns the operating system's files. Unlike the file systems of package os it does not restrict names: absolute
// paths and ".." work, as an operator writes them.
func OS() fs.FS { return osFS{} }

type osFS struct{}

func (osFS) Open(name string) (fs.File, error)          { return os.Open(name) }
func (osFS) Stat(name string) (fs.FileInfo, error)      { return os.Stat(name) }
func (osFS) Glob(pattern string) ([]string, error)      { return filepath.Glob(pattern) }
func (osFS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }
func (osFS) Abs(name string) (string, error)            { return filepath.Abs(name) }

// token is a word as the parser sees it: with the file it was written in, because whether two tokens stand on one line
// is asked of the file, not of the import that brought them in.
type token struct {
	text string
	pos  Pos
	file string // absolute path of an imported file; "" in the Corefile itself
}

// breaks counts the line breaks inside the token's text.
func (t token) breaks() int { return strings.Count(t.text, "\n") }

// sameLine reports whether b continues the line that a stands on.
func sameLine(a, b token) bool {
	return a.file == b.file && a.pos.Line+a.breaks() == b.pos.Line
}

// newLine reports whether b begins a line after a. Between two snippets neither this nor sameLine may hold.
func newLine(a, b token) bool {
	return a.file != b.file || a.pos.Line+a.breaks() < b.pos.Line
}

// files reads sources once each, however often they are imported, and counts what it reads.
type files struct {
	fsys    fs.FS
	main    string
	bytes   int
	words   int
	read    map[string][]token
	globs   map[string][]string
	sources []*Source
	warn    func(Pos, string)
}

// lex turns one text into tokens of file and records it as a source.
func (f *files) lex(name, file string, text []byte) ([]token, error) {
	if f.bytes += len(text); len(text) > maxFileBytes || f.bytes > maxTotalBytes {
		return nil, fmt.Errorf("%s is too large: a file may have %d bytes, all files together %d", name, maxFileBytes, maxTotalBytes)
	}
	source := &Source{Name: name}
	f.sources = append(f.sources, source)
	var tokens []token
	s := newScan(text)
	for it, ok := s.next(); ok; it, ok = s.next() {
		if it.kind == itemComment {
			continue
		}
		if f.words++; f.words > maxWords {
			return nil, fmt.Errorf("%s brings the configuration to more than %d words", name, maxWords)
		}
		pos := Pos{Source: source, Line: it.line, Col: it.col}
		if it.unclosed {
			f.warn(pos, "the quote that opens here is never closed; the word reaches to the end of the file")
		}
		if it.hash {
			f.warn(pos, fmt.Sprintf("the # inside this word hides the text up to the next blank only; quote the word, or put a blank before # (read as %s)", quote(it.text)))
		}
		tokens = append(tokens, token{text: it.text, pos: pos, file: file})
	}
	return tokens, nil
}

// load returns the tokens of one imported file.
func (f *files) load(name string) ([]token, error) {
	file, err := f.abs(name)
	if err != nil {
		return nil, err
	}
	if tokens, ok := f.read[file]; ok {
		return tokens, nil
	}
	if len(f.read) == maxFiles {
		return nil, fmt.Errorf("more than %d files are imported", maxFiles)
	}
	text, err := readFile(f.fsys, name)
	if err != nil {
		return nil, err
	}
	tokens, err := f.lex(file, file, text)
	if err != nil {
		return nil, err
	}
	f.read[file] = tokens
	return tokens, nil
}

func readFile(fsys fs.FS, name string) ([]byte, error) {
	file, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close() // nothing was written: an error here loses nothing
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, &fs.PathError{Op: "import", Path: name, Err: errors.New("is a directory")}
	}
	return io.ReadAll(io.LimitReader(file, maxFileBytes+1)) // one more, so that lex sees it is too large
}

// abs returns name as an absolute path where the file system has such.
func (f *files) abs(name string) (string, error) {
	if a, ok := f.fsys.(AbsFS); ok {
		return a.Abs(name)
	}
	return path.Clean(name), nil
}

// match returns the files that pattern, as written in file, stands for. The bool tells whether it is a pattern: no
// match is then no error.
func (f *files) match(file, pattern string) (names []string, glob bool, err error) {
	if file == "" {
		file = f.main
	}
	if file, err = f.abs(file); err != nil {
		return nil, false, err
	}
	full := pattern
	if !path.IsAbs(pattern) {
		full = path.Join(path.Dir(file), pattern)
	}
	if strings.Count(full, "*") > 1 || strings.Count(full, "?") > 1 || strings.Contains(full, "[") && strings.Contains(full, "]") {
		return nil, true, fmt.Errorf("the pattern %s has too many wildcards; write at most one * and one ?, and no [ ]", clip(full))
	}
	glob = strings.ContainsAny(full, "*?[]")
	if f.fsys == nil {
		return nil, glob, errors.New("no file system to import from")
	}
	names, known := f.globs[full]
	if !known {
		if names, err = fs.Glob(f.fsys, full); err != nil {
			return nil, glob, err
		}
		f.globs[full] = names
	}
	return names, glob, nil
}
