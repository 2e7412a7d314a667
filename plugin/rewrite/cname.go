package rewrite

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// cnameRule gives aliases in replies another target, which is then asked for.
type cnameRule struct {
	kind     string
	from, to string
	re       *regexp.Regexp
}

// alias is a CNAME record of a reply that gets a new target.
type alias struct {
	rule  *cnameRule
	index int // among the CNAME records of the answer
	to    wire.Name
}

func (r *cnameRule) apply(_ *chain.Query, s *state) (bool, error) {
	if r.from == "" || r.to == "" {
		return false, nil
	}
	s.later(r)
	return true, nil
}

// record puts the new target into the alias's record; no other is this rule's.
func (r *cnameRule) record(v *reversal, rec *wire.Record) {
	if rec != nil && v.alias != nil && v.alias.rule == r {
		rec.SetData(v.alias.to)
	}
}

// change gives the new target for an old one; false when the rule is not for it.
func (r *cnameRule) change(target string) (string, bool) {
	switch r.kind {
	case exactMatch:
		return r.to, target == r.from
	case prefixMatch:
		after, ok := strings.CutPrefix(target, r.from)
		return r.to + after, ok
	case suffixMatch:
		before, ok := strings.CutSuffix(target, r.from)
		return before + r.to, ok
	case substringMatch:
		return strings.ReplaceAll(target, r.from, r.to), strings.Contains(target, r.from)
	}
	return substitute(r.re, r.to, target)
}

// findAlias looks for the first CNAME record of the answer that a rule has a new target for; the last rule goes first.
func findAlias(q *chain.Query, s *state) *alias {
	if !hasCname(s.undo) {
		return nil
	}
	var c wire.Cursor
	var rec wire.Record
	if c.Open(q.Reply.Bytes()) != nil {
		return nil
	}
	for index := 0; ; {
		sec, ok, err := c.Next(&rec)
		if err != nil || !ok || sec != wire.Answer {
			return nil
		}
		if rec.Type != wire.TypeCNAME {
			continue
		}
		target, err := rec.Data(nil)
		if err != nil {
			return nil
		}
		for i := len(s.undo) - 1; i >= 0; i-- {
			r, ok := s.undo[i].(*cnameRule)
			if !ok {
				continue
			}
			if to, ok := r.change(wire.Name(target).String()); ok {
				if n, err := wire.ParseName(to); err == nil {
					return &alias{r, index, n}
				}
			}
		}
		index++
	}
}

func hasCname(list []undo) bool {
	for _, u := range list {
		if _, ok := u.(*cnameRule); ok {
			return true
		}
	}
	return false
}

// newCname reads: [MATCH] FROM TO
func newCname(args []string) (rule, error) {
	r := &cnameRule{kind: exactMatch}
	switch len(args) {
	case 2:
		r.from, r.to = args[0], args[1]
	case 3:
		r.kind, r.from, r.to = strings.ToLower(args[0]), args[1], args[2]
	default:
		return nil, fmt.Errorf("a cname rule takes two or three arguments, not %d", len(args))
	}
	r.from, r.to = strings.ToLower(r.from), strings.ToLower(r.to)
	switch r.kind {
	case exactMatch:
		r.from, r.to = normal(r.from), normal(r.to)
	case prefixMatch, suffixMatch, substringMatch:
	case regexMatch:
		re, err := compile(r.from)
		if err != nil {
			return nil, fmt.Errorf("cname rule: %w", err)
		}
		r.re = re
	default:
		return nil, fmt.Errorf("unknown cname rewrite type: %s", r.kind)
	}
	return r, nil
}
