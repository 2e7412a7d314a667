package rewrite

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// How a rule finds its names.
const (
	exactMatch     = "exact"
	prefixMatch    = "prefix"
	suffixMatch    = "suffix"
	substringMatch = "substring"
	regexMatch     = "regex"
)

// maxRegexp bounds the length of a regular expression, whose program may be far longer.
const maxRegexp = 10000

// normal gives a name in lower case with a dot at its end, as CoreDNS writes every name of a rule, also one that is only
// the beginning or a part of names.
func normal(name string) string {
	bare, dotted := strings.CutSuffix(name, ".")
	escapes := len(bare) - len(strings.TrimRight(bare, `\`))
	if !dotted || escapes%2 == 1 {
		name += "."
	}
	return strings.ToLower(name)
}

// compile reads a regular expression.
func compile(text string) (*regexp.Regexp, error) {
	if len(text) > maxRegexp {
		return nil, fmt.Errorf("regex pattern too long: %d > %d", len(text), maxRegexp)
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("invalid regex matching pattern: %s", text)
	}
	return re, nil
}

// compileFor reads a regular expression and checks that to uses no more groups than it has.
func compileFor(from, to string) (*regexp.Regexp, error) {
	re, err := compile(from)
	if err != nil {
		return nil, err
	}
	used := 0
	for i := range 101 {
		if strings.Contains(to, "{"+strconv.Itoa(i)+"}") {
			used++
		}
	}
	if used > re.NumSubexp() {
		return nil, fmt.Errorf("%q uses more groups than the pattern %q has", to, from)
	}
	return re, nil
}

// substitute fills the groups of a match into {0}, {1} and so on; false when the name does not match.
func substitute(re *regexp.Regexp, to, name string) (string, bool) {
	groups := re.FindStringSubmatch(name)
	if groups == nil {
		return "", false
	}
	for i, g := range groups {
		to = strings.ReplaceAll(to, "{"+strconv.Itoa(i)+"}", g)
	}
	return to, true
}

// matcher tells which names a ttl or rcode rule is for.
type matcher func(name []byte) bool

func newMatcher(kind, text string) (matcher, error) {
	name := []byte(normal(text))
	switch strings.ToLower(kind) {
	case exactMatch:
		return func(n []byte) bool { return bytes.Equal(n, name) }, nil
	case prefixMatch:
		return func(n []byte) bool { return bytes.HasPrefix(n, name) }, nil
	case suffixMatch:
		return func(n []byte) bool { return bytes.HasSuffix(n, name) }, nil
	case substringMatch:
		return func(n []byte) bool { return bytes.Contains(n, name) }, nil
	case regexMatch:
		re, err := compile(text)
		if err != nil {
			return nil, err
		}
		return re.Match, nil
	}
	return nil, fmt.Errorf("%q is none of exact, prefix, suffix, substring, regex", kind)
}
