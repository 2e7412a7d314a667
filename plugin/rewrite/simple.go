package rewrite

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// typeRule changes the type that is asked for.
type typeRule struct{ from, to wire.Type }

func (r *typeRule) apply(q *chain.Query, _ *state) (bool, error) {
	if q.Type != r.from || r.from == 0 || r.to == 0 {
		return false, nil
	}
	q.Type = r.to
	return true, nil
}

func newType(args []string) (rule, error) {
	if len(args) != 2 {
		return nil, fmt.Errorf("type rules must have exactly two arguments")
	}
	var types [2]wire.Type
	for i, a := range args {
		t, ok := wire.ParseType(strings.ToUpper(a))
		if !ok || strings.HasPrefix(strings.ToUpper(a), "TYPE") {
			return nil, fmt.Errorf("invalid type %q", strings.ToUpper(a))
		}
		types[i] = t
	}
	return &typeRule{types[0], types[1]}, nil
}

// classRule changes the class that is asked for.
type classRule struct{ from, to wire.Class }

func (r *classRule) apply(q *chain.Query, _ *state) (bool, error) {
	if q.Class != r.from {
		return false, nil
	}
	q.Class = r.to
	return true, nil
}

func newClass(args []string) (rule, error) {
	if len(args) != 2 {
		return nil, fmt.Errorf("class rules must have exactly two arguments")
	}
	var classes [2]wire.Class
	for i, a := range args {
		c, ok := wire.ParseClass(strings.ToUpper(a))
		if !ok {
			return nil, fmt.Errorf("invalid class %q", strings.ToUpper(a))
		}
		classes[i] = c
	}
	return &classRule{classes[0], classes[1]}, nil
}

// replyRule does something to the replies for some names, and nothing to their queries.
type replyRule struct {
	match matcher
	undo  undo
}

func (r *replyRule) apply(q *chain.Query, s *state) (bool, error) {
	if !r.match(s.text(q)) {
		return false, nil
	}
	s.later(r.undo)
	return true, nil
}

// newTTL reads: [MATCH] NAME SECONDS|MIN-MAX
func newTTL(args []string) (rule, error) {
	if len(args) < 2 || len(args) > 3 {
		return nil, fmt.Errorf("a ttl rule takes two or three arguments, not %d", len(args))
	}
	last := args[len(args)-1]
	bounds, ok := parseTTL(last)
	if !ok {
		return nil, fmt.Errorf("invalid TTL %q for a ttl rule", last)
	}
	return newReplyRule("ttl", args[:len(args)-1], bounds)
}

// newReplyRule reads [MATCH] NAME.
func newReplyRule(what string, args []string, u undo) (rule, error) {
	if len(args) == 1 {
		args = []string{exactMatch, args[0]}
	}
	m, err := newMatcher(args[0], args[1])
	if err != nil {
		return nil, fmt.Errorf("%s rule: %w", what, err)
	}
	return &replyRule{m, u}, nil
}

// parseTTL reads 60, 30-300, 30- or -300, in seconds.
func parseTTL(text string) (*ttls, bool) {
	low, high, isRange := strings.Cut(text, "-")
	if !isRange {
		n, err := strconv.ParseUint(text, 10, 32)
		return &ttls{uint32(n), uint32(n)}, err == nil
	}
	if low == "" && high == "" {
		return nil, false
	}
	bounds := &ttls{0, math.MaxInt32}
	for _, side := range []struct {
		text string
		to   *uint32
	}{{low, &bounds.min}, {high, &bounds.max}} {
		if side.text == "" {
			continue
		}
		n, err := strconv.ParseUint(side.text, 10, 32)
		if err != nil {
			return nil, false
		}
		*side.to = uint32(n)
	}
	return bounds, bounds.min <= bounds.max
}

// newRcode reads: [MATCH] NAME FROM TO
func newRcode(args []string) (rule, error) {
	if len(args) < 3 || len(args) > 4 {
		return nil, fmt.Errorf("a rcode rule takes three or four arguments, not %d", len(args))
	}
	n := len(args)
	from, ok := parseRcode(args[n-2])
	if !ok {
		return nil, fmt.Errorf("invalid matching RCODE %q for a rcode rule", args[n-2])
	}
	to, ok := parseRcode(args[n-1])
	if !ok {
		return nil, fmt.Errorf("invalid replacement RCODE %q for a rcode rule", args[n-1])
	}
	return newReplyRule("rcode", args[:n-2], &codes{from, to})
}

// maxRcode is the largest code that may be given as a number.
const maxRcode = 23

func parseRcode(text string) (wire.Rcode, bool) {
	if n, err := strconv.ParseUint(text, 10, 32); err == nil && n <= maxRcode {
		return wire.Rcode(n), true
	}
	switch text = strings.ToUpper(text); text {
	case "NOTIMPL":
		return wire.NotImp, true
	case "BADSIG": // RFC 8945 has it for the value of BADVERS
		return wire.BadVers, true
	}
	return wire.ParseRcode(text)
}
