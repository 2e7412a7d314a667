package errors

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
)

// Spec is the errors directive.
var Spec = chain.Spec{
	Name: "errors",
	Usage: `errors [stdout] {
    stacktrace
    consolidate DURATION REGEXP [LEVEL] [show_first]
}`,
	Options: func() corefile.Options { return options(&Errors{}) },
	New:     setup,
}

// maxRegexp bounds the source of a pattern in octets.
const maxRegexp = 10000

func setup(s *chain.Setup) error {
	if len(s.Lines) > 1 {
		return corefile.Errorf(s.Lines[1].Name.Pos, "errors can be used only once in a server block")
	}
	l := &s.Lines[0]
	if err := corefile.ArgCount(l, 0, 1, "[stdout]"); err != nil {
		return err
	}
	if len(l.Args) == 1 && l.Args[0].Text != "stdout" {
		return corefile.Errorf(l.Args[0].Pos, "errors writes to the log of the process: the only file name it takes is stdout")
	}
	e := &Errors{env: s.Env, scratch: make([][]byte, s.Env.Loops)}
	warnings, err := options(e).Read(l)
	s.Warn(warnings...)
	if err != nil {
		return err
	}
	s.OnBuilt(func() error {
		e.last = lastName(s.Block.Chain())
		return nil
	})
	for _, p := range e.patterns {
		s.Go(func(ctx context.Context) error {
			p.run(ctx, s.Env.Log)
			return nil
		})
	}
	s.Handler(e)
	return nil
}

func options(e *Errors) corefile.Options {
	return corefile.Options{
		{Name: "stacktrace"}, // the log always has the stack of a panic
		{Name: "consolidate", Usage: "DURATION REGEXP [LEVEL] [show_first]", Min: 2, Max: 4, Read: func(l *corefile.Line) error {
			p, err := readPattern(l)
			if err == nil {
				e.patterns = append(e.patterns, p)
			}
			return err
		}},
	}
}

func readPattern(l *corefile.Line) (*pattern, error) {
	period, err := corefile.ParseDuration(l.Args[0])
	if err != nil {
		return nil, err
	}
	source := l.Args[1]
	if len(source.Text) > maxRegexp {
		return nil, corefile.Errorf(source.Pos, "a pattern may have %d octets, this one has %d", maxRegexp, len(source.Text))
	}
	re, err := regexp.Compile(source.Text)
	if err != nil {
		return nil, corefile.Errorf(source.Pos, "%v", err)
	}
	p := &pattern{regexp: re, period: period, level: slog.LevelError, started: make(chan struct{}, 1)}
	return p, readWords(p, l.Args[2:])
}

// readWords reads the level, which comes first, and show_first.
func readWords(p *pattern, words []corefile.Word) error {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn, "error": slog.LevelError}
	leveled := false
	for _, w := range words {
		level, isLevel := levels[w.Text]
		switch {
		case isLevel && leveled:
			return corefile.Errorf(w.Pos, "consolidate takes one level")
		case isLevel && p.showFirst:
			return corefile.Errorf(w.Pos, "the level comes before show_first")
		case isLevel:
			p.level, leveled = level, true
		case w.Text == "show_first":
			p.showFirst = true
		default:
			err := corefile.Errorf(w.Pos, "consolidate does not know %q", w.Text)
			err.Hint = fmt.Sprintf("its level is one of %s, %s, %s, %s", "debug", "info", "warning", "error")
			return err
		}
	}
	return nil
}
