package corefile

import "strings"

const (
	maxWordBytes     = 1 << 20 // of one word after its variables were filled in
	maxSubstitutions = 1000    // in one word: a variable whose value names itself would never end
)

// expander fills variables into words: {%NAME%} first, then {$NAME}. Its zero value knows no variable.
type expander struct {
	env   func(string) (string, bool)
	unset func(pos Pos, name string) // told about each variable without a value
}

// expand returns word with its variables replaced. A value may hold blanks (it stays one word) and further variables;
// an unset variable is empty; "{$}" and everything after it are left alone.
func (e *expander) expand(word string, pos Pos) (string, error) {
	if !strings.Contains(word, "{") {
		return word, nil
	}
	word, err := e.replace(word, pos, "{%", "%}")
	if err != nil {
		return "", err
	}
	return e.replace(word, pos, "{$", "}")
}

func (e *expander) replace(word string, pos Pos, open, end string) (string, error) {
	for n := 0; ; n++ {
		i := strings.Index(word, open)
		if i < 0 {
			return word, nil
		}
		length := strings.Index(word[i:], end)
		if length <= len(open) { // not closed, or closed inside or right behind the opening: no name
			return word, nil
		}
		if n == maxSubstitutions {
			return "", Errorf(pos, "more than %d variables to fill into one word; does a variable's value name itself?", maxSubstitutions)
		}
		name := word[i+len(open) : i+length]
		ref := word[i : i+length+len(end)]
		value := e.lookup(name, pos)
		if grown := len(word) + strings.Count(word, ref)*(len(value)-len(ref)); grown > maxWordBytes {
			return "", Errorf(pos, "the word grows to %d bytes when %s is filled in; the limit is %d", grown, ref, maxWordBytes)
		}
		word = strings.ReplaceAll(word, ref, value)
	}
}

func (e *expander) lookup(name string, pos Pos) string {
	if e.env != nil {
		if value, ok := e.env(name); ok {
			return value
		}
	}
	if e.unset != nil {
		e.unset(pos, name)
	}
	return ""
}
