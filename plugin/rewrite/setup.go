package rewrite

import (
	"fmt"
	"strings"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
)

// Spec is the rewrite directive.
var Spec = chain.Spec{Name: "rewrite", Usage: "rewrite [continue|stop] FIELD [TYPE] FROM TO [OPTIONS]", New: setup}

func setup(s *chain.Setup) error {
	w := &Rewrite{log: s.Env.Log, state: chain.NewSlot[state](s), loops: make([]work, s.Env.Loops)}
	for i := range w.loops {
		l := &w.loops[i]
		l.keep = l.reversal.keep
	}
	for i := range s.Lines {
		l := &s.Lines[i]
		words, err := words(l)
		if err != nil {
			return err
		}
		r, err := newLine(s, words)
		if err != nil {
			return corefile.Errorf(l.Name.Pos, "rewrite: %v", err)
		}
		w.lines = append(w.lines, r)
	}
	s.Handler(w)
	return nil
}

// words gives the rule's words: those of the line, or, behind continue or stop or nothing, those of the block.
func words(l *corefile.Line) ([]string, error) {
	var list []string
	for _, a := range l.Args {
		list = append(list, a.Text)
	}
	if l.Block == nil {
		return list, nil
	}
	if len(list) >= 2 {
		return nil, corefile.Errorf(l.Name.Pos, "rewrite takes a rule on its line or in a block, not both")
	}
	for _, line := range l.Block {
		list = append(list, line.Name.Text)
		for _, a := range line.Args {
			list = append(list, a.Text)
		}
		if line.Block != nil {
			return nil, corefile.Errorf(line.Name.Pos, "%s takes no block in a rewrite rule", line.Name.Text)
		}
	}
	return list, nil
}

// newLine reads [continue|stop] and one rule.
func newLine(s *chain.Setup, args []string) (line, error) {
	if len(args) == 0 {
		return line{}, fmt.Errorf("no rule type specified for rewrite")
	}
	l := line{stop: true}
	if mode := strings.ToLower(args[0]); mode == "continue" || mode == "stop" {
		if len(args) < 2 {
			return line{}, fmt.Errorf("%s rule must begin with a rule type", mode)
		}
		l.stop = mode == "stop"
		args = args[1:]
	}
	var err error
	switch kind := strings.ToLower(args[0]); kind {
	case "name":
		l.rule, err = newName(args[1:])
	case "type":
		l.rule, err = newType(args[1:])
	case "class":
		l.rule, err = newClass(args[1:])
	case "ttl":
		l.rule, err = newTTL(args[1:])
	case "rcode":
		l.rule, err = newRcode(args[1:])
	case "cname":
		l.rule, err = newCname(args[1:])
	case "edns0":
		l.rule, err = newEDNS0(s, args[1:])
	case "answer":
		err = fmt.Errorf("response rewrites must begin with a name rule")
	default:
		err = fmt.Errorf("invalid rule type %q", args[0])
		if near := corefile.Nearest(kind, []string{"name", "type", "class", "ttl", "rcode", "cname", "edns0"}); near != "" {
			err = fmt.Errorf("%w; did you mean %s?", err, near)
		}
	}
	return l, err
}
