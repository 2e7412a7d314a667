package rewrite

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// exactName renames one name.
type exactName struct {
	from wire.Name // nil when what stands in the Corefile can't be asked for
	to   string
	name wire.Name // to in wire form, nil when it is no name
	undo []undo
}

func (r *exactName) apply(q *chain.Query, s *state) (bool, error) {
	if r.from == nil || !wire.Equal(q.Name(), r.from) {
		return false, nil
	}
	if r.name == nil {
		return false, fmt.Errorf("invalid name after rewrite: %s", r.to)
	}
	q.SetName(r.name)
	s.later(r.undo...)
	return true, nil
}

// partName renames by a part of the name or by a pattern. Change gives the new name, false when the rule is not for it.
type partName struct {
	change func(name string) (string, bool)
	auto   bool // names of the answer are mapped back from the new name to the old one
	undo   []undo
}

func (r *partName) apply(q *chain.Query, s *state) (bool, error) {
	old := q.Name().String()
	name, ok := r.change(old)
	if !ok {
		return false, nil
	}
	if err := rename(q, name); err != nil {
		return false, err
	}
	if r.auto {
		back := &remap{from: name, to: old}
		s.later(&owners{back}, &values{back})
	}
	s.later(r.undo...)
	return true, nil
}

// remap maps one name, and names below it, to another.
type remap struct{ from, to string }

func (m *remap) rewrite(name string) string {
	head := len(name) - len(m.from)
	if head < 0 || !strings.EqualFold(name[head:], m.from) {
		return name
	}
	if head == 0 || name[head-1] == '.' {
		return name[:head] + m.to
	}
	return name
}

// resuffix maps one ending of names to another.
type resuffix struct{ from, to string }

func (m *resuffix) rewrite(name string) string {
	if before, ok := strings.CutSuffix(name, m.from); ok {
		return before + m.to
	}
	return name
}

// pattern maps names by a regular expression.
type pattern struct {
	re *regexp.Regexp
	to string
}

func (m *pattern) rewrite(name string) string {
	if s, ok := substitute(m.re, m.to, name); ok {
		return s
	}
	return name
}

// newName reads: [exact|prefix|suffix|substring|regex] FROM TO [answer ...]
func newName(args []string) (rule, error) {
	if len(args) < 2 {
		return nil, fmt.Errorf("too few arguments for a name rule")
	}
	kind, from, to := exactMatch, args[0], args[1]
	if len(args) > 2 {
		kind, from, to = strings.ToLower(args[0]), args[1], args[2]
	}
	auto, undo, err := false, []undo(nil), error(nil)
	if len(args) > 3 {
		if auto, undo, err = newAnswer(kind, args[3:]); err != nil {
			return nil, err
		}
	}
	switch kind {
	case exactMatch:
		return newExactName(normal(from), normal(to), undo)
	case prefixMatch:
		from, to = normal(from), normal(to)
		return &partName{func(n string) (string, bool) {
			after, ok := strings.CutPrefix(n, from)
			return to + after, ok
		}, auto, undo}, nil
	case suffixMatch:
		return newSuffixName(normal(from), normal(to), auto, undo), nil
	case substringMatch:
		from, to = normal(from), normal(to)
		return &partName{func(n string) (string, bool) {
			return strings.ReplaceAll(n, from, to), strings.Contains(n, from)
		}, auto, undo}, nil
	case regexMatch:
		re, err := compileFor(from, to)
		if err != nil {
			return nil, err
		}
		to = normal(to)
		return &partName{func(n string) (string, bool) { return substitute(re, to, n) }, auto, undo}, nil
	}
	return nil, fmt.Errorf("name rule supports only exact, prefix, suffix, substring, and regex name matching, received: %s", kind)
}

// newExactName renames one name, and maps it and names below it back in the whole reply.
func newExactName(from, to string, answer []undo) (rule, error) {
	if _, err := compileFor(to, from); err != nil { // CoreDNS refuses such names, for no reason that matters
		return nil, err
	}
	back := &remap{from: to, to: from}
	r := &exactName{to: to, undo: append([]undo{&owners{back}, &values{back}}, answer...)}
	if n, err := wire.ParseName(from); err == nil {
		r.from = n
	}
	if n, err := wire.ParseName(to); err == nil {
		r.name = n
	}
	return r, nil
}

func newSuffixName(from, to string, auto bool, answer []undo) rule {
	if auto {
		back := &resuffix{from: to, to: from}
		answer = append([]undo{&owners{back}, &values{back}}, answer...)
	}
	return &partName{func(n string) (string, bool) {
		before, ok := strings.CutSuffix(n, from)
		return before + to, ok
	}, false, answer}
}

// newAnswer reads what follows the names of a rule: answer auto, answer name FROM TO, answer value FROM TO, in any number.
func newAnswer(kind string, args []string) (auto bool, list []undo, err error) {
	if len(args) < 2 {
		return false, nil, fmt.Errorf("invalid arguments for %s rule", kind)
	}
	named := false
	for first := true; len(args) > 0; first = false {
		if args[0] == "answer" {
			args = args[1:]
		} else if first {
			return false, nil, fmt.Errorf("exceeded the number of arguments for a non-answer rule argument for %s rule", kind)
		}
		if len(args) == 0 {
			return false, nil, fmt.Errorf("type missing for answer rule for %s rule", kind)
		}
		what := args[0]
		args = args[1:]
		if what == "auto" {
			auto = true
			continue
		}
		if what != "name" && what != "value" {
			return false, nil, fmt.Errorf("invalid type %q for answer rule for %s rule", what, kind)
		}
		if len(args) < 2 {
			return false, nil, fmt.Errorf("%s answer rule for %s rule: 2 arguments required", what, kind)
		}
		re, err := compileFor(args[0], args[1])
		if err != nil {
			return false, nil, fmt.Errorf("%s answer rule for %s rule: %w", what, kind, err)
		}
		p := &pattern{re, normal(args[1])}
		args = args[2:]
		if what == "value" {
			list = append(list, &values{p})
			continue
		}
		named = true
		list = append(list, &owners{p})
	}
	if auto && named {
		return false, nil, fmt.Errorf("auto name answer rule cannot be combined with explicit name answer rules")
	}
	return auto, list, nil
}
