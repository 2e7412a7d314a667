package corefile

import "fmt"

// lines makes the tree of a block's directives.
func (p *parser) lines(directives []tokenLine) ([]Line, error) {
	lines := make([]Line, 0, len(directives))
	for _, d := range directives {
		l := liner{tokens: d.tokens, warn: p.warn}
		line, err := l.line()
		if err != nil {
			return nil, err
		}
		line.Name.Text = d.name
		if len(l.tokens) > 0 {
			return nil, strayError(l.tokens[0], line)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// strayError explains a token that belongs to a directive for the parser but to none of its lines. CoreDNS hands such
// tokens to the directive, and all but a few that read their first line only refuse them there.
func strayError(t token, line Line) error {
	if t.text == "{" && line.Block == nil {
		return &Error{Pos: t.pos, Text: fmt.Sprintf("the brace that opens the block of %s stands on a line of its own", clip(line.Name.Text)),
			Hint: fmt.Sprintf("write it behind %s, on the same line", clip(line.Name.Text))}
	}
	return &Error{Pos: t.pos, Text: fmt.Sprintf("%s does not begin a line after the %s at %v", quote(t.text), clip(line.Name.Text), line.Name.Pos),
		Hint: "begin each directive and option on a line of its own, and define snippets above their use"}
}

// liner consumes the tokens of one directive.
type liner struct {
	tokens []token
	closed token // the brace that closed the last block
	depth  int
	warn   func(Pos, string)
}

// line reads one line and, where a brace ends it, its block.
func (l *liner) line() (Line, error) {
	prev := l.tokens[0]
	line := Line{Name: Word{Text: prev.text, Pos: prev.pos}}
	l.tokens = l.tokens[1:]
	for len(l.tokens) > 0 && sameLine(prev, l.tokens[0]) {
		t := l.tokens[0]
		if t.text == "{" {
			var err error
			line.Block, err = l.block(t)
			return line, err
		}
		line.Args = append(line.Args, Word{Text: t.text, Pos: t.pos})
		if t.text == "}" { // left in place: it closes the block around this line as well
			l.warn(t.pos, fmt.Sprintf("the closing brace is also read as an argument of %s; write it on a line of its own", clip(line.Name.Text)))
			return line, nil
		}
		prev, l.tokens = t, l.tokens[1:]
	}
	return line, nil
}

// block reads the lines between the brace at open and the one that closes it, both included.
func (l *liner) block(open token) ([]Line, error) {
	if l.depth++; l.depth > maxDepth { // variables may hold braces that the parser did not count
		return nil, Errorf(open.pos, "blocks are nested more than %d deep", maxDepth)
	}
	lines := []Line{}
	for l.tokens = l.tokens[1:]; len(l.tokens) > 0; {
		t := l.tokens[0]
		switch {
		case t.text == "}":
			l.closed, l.tokens = t, l.tokens[1:]
			l.depth--
			return lines, nil
		case t.text == "{":
			return nil, &Error{Pos: t.pos, Text: "this brace opens a block, but nothing stands before it on its line",
				Hint: "write it behind the option it belongs to"}
		case len(lines) > 0 && lines[len(lines)-1].Block != nil && sameLine(l.closed, t):
			return nil, strayError(t, lines[len(lines)-1])
		}
		line, err := l.line()
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, nil
}
