package corefile

import (
	"errors"
	"fmt"
	"io/fs"
)

// importHere puts what the import statement at t stands for in its place.
func (p *parser) importHere(t token) error {
	p.drop()
	arg, ok := p.peek()
	if !ok || !sameLine(t, arg) {
		return &Error{Pos: t.pos, Text: "import needs a file, a pattern or a snippet", Hint: "write it on the same line"}
	}
	p.drop()
	name, err := p.expander.expand(arg.text, arg.pos)
	if err != nil {
		return err
	}
	if name == "" {
		return Errorf(arg.pos, "import needs a file, a pattern or a snippet; %s is empty", quote(arg.text))
	}
	if next, ok := p.peek(); ok && sameLine(arg, next) {
		return &Error{Pos: next.pos, Text: fmt.Sprintf("import takes one word; %s is one too many", quote(next.text)),
			Hint: "write one import for each file"}
	}
	if tokens, ok := p.snippets[name]; ok {
		if p.snippetImports++; p.snippetImports > maxSnippetImports {
			return Errorf(t.pos, "more than %d imports of snippets; does a snippet import itself?", maxSnippetImports)
		}
		p.frames = append(p.frames, frame{tokens: tokens, from: t.pos})
		return nil
	}
	if p.fileImports++; p.fileImports > maxFileImports {
		return Errorf(t.pos, "more than %d imports of files; does a file import itself?", maxFileImports)
	}
	return p.importFiles(t.pos, arg, name)
}

// importFiles pushes the files that pattern stands for, so that the first is read first.
func (p *parser) importFiles(pos Pos, arg token, pattern string) error {
	names, glob, err := p.files.match(arg.file, pattern)
	if err != nil {
		return Errorf(arg.pos, "cannot import %s: %v", clip(pattern), err)
	}
	if len(names) == 0 {
		if !glob {
			return &Error{Pos: arg.pos, Text: fmt.Sprintf("cannot import %s: there is no such file and no snippet of that name", clip(pattern)),
				Hint: "paths are relative to the file the import stands in, and snippets are defined above their use"}
		}
		p.warn(arg.pos, "no file matches the import "+clip(pattern))
	}
	if p.importedFiles += len(names); p.importedFiles > maxImportedFiles {
		return Errorf(pos, "more than %d files come from imports; does a file import itself?", maxImportedFiles)
	}
	frames := make([]frame, 0, len(names))
	for _, name := range names {
		tokens, err := p.files.load(name)
		if err != nil {
			return Errorf(arg.pos, "cannot import %s: %v", name, pathless(err))
		}
		frames = append(frames, frame{tokens: tokens, from: pos})
	}
	for i := len(frames) - 1; i >= 0; i-- {
		p.frames = append(p.frames, frames[i])
	}
	return nil
}

// pathless takes the path out of an error whose text already names it.
func pathless(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// snippet reads the body of the snippet that key names and keeps it, unread, for later imports.
func (p *parser) snippet(key Word) error {
	name := key.Text[1 : len(key.Text)-1]
	if _, ok := p.snippets[name]; ok {
		return Errorf(key.Pos, "the snippet %s is defined twice", clip(name))
	}
	brace, _ := p.peek()
	if brace.text != "{" {
		return Errorf(brace.pos, "a snippet's name is followed by \"{\", not %s", quote(brace.text))
	}
	if err := p.take(brace); err != nil {
		return err
	}
	body := []token{}
	for depth := 1; ; {
		t, ok := p.peek()
		if !ok {
			return &Error{Pos: brace.pos, Text: fmt.Sprintf("the snippet %s is never closed", clip(name)), Hint: `end it with a line "}"`}
		}
		if err := p.take(t); err != nil {
			return err
		}
		switch t.text {
		case "{":
			depth++
		case "}":
			depth--
		}
		if depth == 0 {
			break
		}
		body = append(body, t)
	}
	if err := p.checkSelfImport(name, body); err != nil {
		return err
	}
	p.snippets[name] = body
	return nil
}

// checkSelfImport refuses a snippet that imports itself, used or not.
func (p *parser) checkSelfImport(name string, body []token) error {
	for i, t := range body[:max(0, len(body)-1)] {
		if t.text != "import" || i > 0 && body[i-1].file == t.file && body[i-1].pos.Line == t.pos.Line {
			continue
		}
		arg, err := p.expander.expand(body[i+1].text, body[i+1].pos)
		if err != nil {
			return err
		}
		if arg == name {
			return Errorf(t.pos, "the snippet %s imports itself", clip(name))
		}
	}
	return nil
}
