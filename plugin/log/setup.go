package log

import (
	"strings"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/wire"
)

// Spec is the log directive.
var Spec = chain.Spec{
	Name: "log",
	Usage: `log [NAMES...] [FORMAT] {
    class CLASSES...
}`,
	Options: func() corefile.Options { return options(new(Class)) },
	New:     setup,
}

func setup(s *chain.Setup) error {
	l := &Log{env: s.Env, scratch: make([]scratch, s.Env.Loops)}
	for i := range s.Lines {
		if err := l.read(s, &s.Lines[i]); err != nil {
			return err
		}
	}
	s.OnBuilt(func() error { // metadata is known when all directives have been set up
		for i := range l.rules {
			l.rules[i].format = parse(l.rules[i].text, func(name string) func([]byte, *entry) []byte { return metadata(s.Block, name) })
		}
		return nil
	})
	s.Handler(l)
	return nil
}

// read makes the rules of one line.
func (l *Log) read(s *chain.Setup, line *corefile.Line) error {
	classes := Class(0)
	warnings, err := options(&classes).Read(line)
	s.Warn(warnings...)
	if err != nil {
		return err
	}
	if classes == 0 {
		classes = all
	}
	names, format := line.Args, common
	if n := len(names); n > 1 && strings.Contains(names[n-1].Text, "{") {
		format = strings.ReplaceAll(names[n-1].Text, "{common}", common)
		format = strings.ReplaceAll(format, "{combined}", combined)
		names = names[:n-1]
	}
	if len(names) == 0 {
		names = []corefile.Word{{Text: "."}}
	}
	for _, w := range names {
		scope, err := wire.ParseName(w.Text)
		if err != nil || strings.Contains(w.Text, "{") {
			s.Warn(corefile.Warning{Pos: w.Pos, Text: "log takes \"" + w.Text + "\" for a name, which no query has; write a name before a format, a dot for all"})
		}
		l.rules = append(l.rules, rule{scope: scope, classes: classes, text: format})
	}
	return nil
}

func options(classes *Class) corefile.Options {
	return corefile.Options{{Name: "class", Usage: "CLASSES...", Min: 1, Max: -1, Read: func(l *corefile.Line) error {
		for _, w := range l.Args {
			c, ok := map[string]Class{"all": all, "success": Success, "denial": Denial, "error": Error}[w.Text]
			if !ok {
				err := corefile.Errorf(w.Pos, "class does not know %q", w.Text)
				err.Hint = "the classes are all, success, denial and error"
				return err
			}
			*classes |= c
		}
		return nil
	}}}
}

// metadata gives the reader of one piece of metadata; what nobody provides is empty. Two pieces are this directive's own.
func metadata(b *chain.Block, name string) func([]byte, *entry) []byte {
	if b.HasMetadata {
		switch name {
		case "log/type":
			return func(dst []byte, e *entry) []byte { return append(dst, typeName(e.kind)...) }
		case "log/class":
			return func(dst []byte, e *entry) []byte { return append(dst, e.class.String()...) }
		}
	}
	read := b.Metadata(name)
	if read == nil {
		return func(dst []byte, _ *entry) []byte { return append(dst, empty...) }
	}
	return func(dst []byte, e *entry) []byte {
		if v := read(e.q); v != "" {
			return append(dst, v...)
		}
		return append(dst, empty...)
	}
}
