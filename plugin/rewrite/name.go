package rewrite

import (
	"bytes"
	"fmt"
	"slices"
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
	s.setName(q, r.name)
	s.later(r.undo...)
	return true, nil
}

// partName renames by a part of the name or by a pattern.
type partName struct {
	match  func(name []byte) bool
	change func(name string) string // for names that match
	auto   bool                     // names of the answer are mapped back from the new name to the old one
	undo   []undo
}

func (r *partName) apply(q *chain.Query, s *state) (bool, error) {
	text := s.text(q)
	if !r.match(text) {
		return false, nil
	}
	old := slices.Clone(q.Name())
	if err := s.rename(q, r.change(string(text))); err != nil {
		return false, err
	}
	if r.auto {
		back := &ending{from: slices.Clone(q.Name()), to: old}
		s.later(&owners{back}, &values{back})
	}
	s.later(r.undo...)
	return true, nil
}

// endName renames what is below one name to be below another.
type endName struct {
	ending
	undo []undo
}

func (r *endName) apply(q *chain.Query, s *state) (bool, error) {
	var buf [2 * wire.MaxName]byte
	n, ok, err := r.rewrite(buf[:0], q.Name())
	if !ok || err != nil {
		return false, err
	}
	s.setName(q, n)
	s.later(r.undo...)
	return true, nil
}

// ending maps a name, and names below it, to another.
type ending struct {
	from, to wire.Name
	below    bool // only names below it
}

func (m *ending) rewrite(dst []byte, n wire.Name) ([]byte, bool, error) {
	if m.below && len(n) == len(m.from) || !n.Under(m.from) {
		return dst, false, nil
	}
	head := n[:len(n)-len(m.from)]
	if len(head)+len(m.to) > wire.MaxName {
		return dst, false, fmt.Errorf("invalid name after rewrite: %s%s", append(slices.Clone(head), 0), m.to)
	}
	return append(append(dst, head...), m.to...), true, nil
}

// newEnding reads two endings of names that begin with a dot, ".a.example." for instance, so that they are for whole
// labels; nil for any others.
func newEnding(from, to string) *ending {
	if !strings.HasPrefix(from, ".") || !strings.HasPrefix(to, ".") || len(from) == 1 || len(to) == 1 {
		return nil
	}
	f, err := wire.ParseName(from[1:])
	if err != nil {
		return nil
	}
	t, err := wire.ParseName(to[1:])
	if err != nil {
		return nil
	}
	return &ending{f, t, true}
}

// textual maps names in presentation form; false when a name stays.
type textual func(name string) (string, bool)

func (f textual) rewrite(dst []byte, n wire.Name) ([]byte, bool, error) {
	old := n.String()
	text, ok := f(old)
	if !ok || text == old {
		return dst, false, nil
	}
	out, err := wire.AppendName(dst, text)
	if err != nil {
		return dst, false, fmt.Errorf("%q becomes %q, which is no domain name", old, text)
	}
	return out, true, nil
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
		return &partName{func(n []byte) bool { return bytes.HasPrefix(n, []byte(from)) },
			func(n string) string { return to + n[len(from):] }, auto, undo}, nil
	case suffixMatch:
		return newSuffixName(normal(from), normal(to), auto, undo), nil
	case substringMatch:
		from, to = normal(from), normal(to)
		return &partName{func(n []byte) bool { return bytes.Contains(n, []byte(from)) },
			func(n string) string { return strings.ReplaceAll(n, from, to) }, auto, undo}, nil
	case regexMatch:
		re, err := compileFor(from, to)
		if err != nil {
			return nil, err
		}
		to = normal(to)
		return &partName{re.Match, func(n string) string {
			s, _ := substitute(re, to, n) // it matches
			return s
		}, auto, undo}, nil
	}
	return nil, fmt.Errorf("name rule supports only exact, prefix, suffix, substring, and regex name matching, received: %s", kind)
}

// newExactName renames one name, and maps it and names below it back in the whole reply.
func newExactName(from, to string, answer []undo) (rule, error) {
	if _, err := compileFor(to, from); err != nil { // CoreDNS refuses such names, for no reason that matters
		return nil, err
	}
	r := &exactName{to: to, undo: answer}
	if n, err := wire.ParseName(from); err == nil {
		r.from = n
	}
	if n, err := wire.ParseName(to); err == nil {
		r.name = n
	}
	if r.from != nil && r.name != nil {
		back := &ending{from: r.name, to: r.from}
		r.undo = append([]undo{&owners{back}, &values{back}}, answer...)
	}
	return r, nil
}

func newSuffixName(from, to string, auto bool, answer []undo) rule {
	forth := newEnding(from, to)
	if auto {
		var back rewriter = textual(func(n string) (string, bool) {
			before, ok := strings.CutSuffix(n, to)
			return before + from, ok
		})
		if forth != nil {
			back = &ending{forth.to, forth.from, true}
		}
		answer = append([]undo{&owners{back}, &values{back}}, answer...)
	}
	if forth != nil {
		return &endName{*forth, answer}
	}
	return &partName{func(n []byte) bool { return bytes.HasSuffix(n, []byte(from)) },
		func(n string) string { return n[:len(n)-len(from)] + to }, false, answer}
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
		to := normal(args[1])
		p := textual(func(n string) (string, bool) { return substitute(re, to, n) })
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
