package expr

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strings"
)

// operators are the binary ones: how tight they bind, whether they bind to the right, whether "not" may stand before them.
var operators = map[string]struct {
	level            int
	right, negatable bool
}{
	"|": {level: 0}, "or": {level: 10}, "||": {level: 10}, "and": {level: 15}, "&&": {level: 15},
	"==": {level: 20}, "!=": {level: 20}, "<": {level: 20}, ">": {level: 20}, "<=": {level: 20}, ">=": {level: 20},
	"in": {level: 20, negatable: true}, "matches": {level: 20, negatable: true}, "contains": {level: 20, negatable: true},
	"startsWith": {level: 20, negatable: true}, "endsWith": {level: 20, negatable: true},
	"..": {level: 25}, "+": {level: 30}, "-": {level: 30}, "*": {level: 60}, "/": {level: 60}, "%": {level: 60},
	"**": {level: 100, right: true}, "^": {level: 100, right: true}, "??": {level: 500},
}

func kindOf(v any) Kind {
	switch v.(type) {
	case nil:
		return Nil
	case bool:
		return Bool
	case int:
		return Int
	case float64:
		return Float
	case string:
		return String
	case []any:
		return Array
	case map[string]any:
		return Map
	}
	return Any
}

func isNumber(k Kind) bool { return k == Int || k == Float || k == Any }

// operate makes the node of a binary operator, with what is known of its sides checked.
func (c *compiler) operate(op string, a, b node) node {
	wrong := func() { c.fail("%s %s %s makes no sense", a.kind, op, b.kind) }
	switch op {
	case "and", "&&", "or", "||":
		c.boolean(a)
		c.boolean(b)
		return logic(op == "and" || op == "&&", a, b)
	case "??":
		return fallback(a, b)
	case "==", "!=":
		if !comparable(a.kind, b.kind) {
			wrong()
		}
	case "<", ">", "<=", ">=":
		if !(isNumber(a.kind) && isNumber(b.kind)) && !(fits(a.kind, String) && fits(b.kind, String)) {
			wrong()
		}
	case "matches":
		if !fits(a.kind, String) || !fits(b.kind, String) {
			wrong()
		}
		return c.matches(a, b)
	case "contains", "startsWith", "endsWith":
		if !fits(a.kind, String) || !fits(b.kind, String) {
			wrong()
		}
	case "in":
		if !fits(b.kind, Array) && !fits(b.kind, Map) {
			wrong()
		}
	case "+":
		if !(isNumber(a.kind) && isNumber(b.kind)) && !(fits(a.kind, String) && fits(b.kind, String)) {
			wrong()
		}
	case "%", "..":
		if !fits(a.kind, Int) || !fits(b.kind, Int) {
			wrong()
		}
	default:
		if !isNumber(a.kind) || !isNumber(b.kind) {
			wrong()
		}
	}
	return node{kind: resultOf(op, a.kind, b.kind), eval: func(r *run) (any, error) {
		x, err := a.eval(r)
		if err != nil {
			return nil, err
		}
		y, err := b.eval(r)
		if err != nil {
			return nil, err
		}
		return r.compute(op, x, y)
	}}
}

// comparable reports whether values of two kinds can be equal.
func comparable(a, b Kind) bool {
	return a == b || a == Any || b == Any || a == Nil || b == Nil || isNumber(a) && isNumber(b)
}

func resultOf(op string, a, b Kind) Kind {
	switch op {
	case "+", "-", "*":
		switch {
		case a == Int && b == Int:
			return Int
		case a == String || b == String:
			return String
		case a == Any || b == Any:
			return Any
		}
		return Float
	case "/", "**", "^":
		return Float
	case "%":
		return Int
	case "..":
		return Array
	}
	return Bool
}

func logic(and bool, a, b node) node {
	return node{kind: Bool, eval: func(r *run) (any, error) {
		v, err := truth(a, r)
		if err != nil || v != and {
			return v, err
		}
		v, err = truth(b, r)
		return v, err
	}}
}

func fallback(a, b node) node {
	kind := a.kind
	if b.kind != kind {
		kind = Any
	}
	return node{kind: kind, eval: func(r *run) (any, error) {
		v, err := a.eval(r)
		if err != nil || v != nil {
			return v, err
		}
		return b.eval(r)
	}}
}

// maxPattern bounds the length of a regular expression.
const maxPattern = 10000

// matches compiles a pattern that is a literal once.
func (c *compiler) matches(a, b node) node {
	var fixed *regexp.Regexp
	if text, ok := b.lit.(string); ok {
		re, err := compilePattern(text)
		if err != nil {
			c.fail("%v", err)
		}
		fixed = re
	}
	return node{kind: Bool, eval: func(r *run) (any, error) {
		x, err := a.eval(r)
		if err != nil {
			return nil, err
		}
		s, ok := x.(string)
		re := fixed
		if re == nil {
			y, err := b.eval(r)
			if err != nil {
				return nil, err
			}
			text, isText := y.(string)
			ok = ok && isText
			if re, err = compilePattern(text); err != nil {
				return nil, err
			}
		}
		if !ok {
			return nil, fmt.Errorf("matches is for strings, not %s", kindOf(x))
		}
		return re.MatchString(s), nil
	}}
}

func compilePattern(text string) (*regexp.Regexp, error) {
	if len(text) > maxPattern {
		return nil, fmt.Errorf("the regular expression is longer than %d", maxPattern)
	}
	return regexp.Compile(text)
}

// compute applies an operator to two values.
func (r *run) compute(op string, x, y any) (any, error) {
	switch op {
	case "==":
		return equal(x, y), nil
	case "!=":
		return !equal(x, y), nil
	case "in":
		return in(x, y)
	}
	if a, ok := x.(string); ok {
		if b, ok := y.(string); ok {
			return r.texts(op, a, b)
		}
	}
	a, isInt := x.(int)
	b, alsoInt := y.(int)
	if isInt && alsoInt {
		return r.ints(op, a, b)
	}
	f, ok := number64(x)
	g, also := number64(y)
	if !ok || !also {
		return nil, fmt.Errorf("%s %s %s makes no sense", kindOf(x), op, kindOf(y))
	}
	return floats(op, f, g)
}

func number64(v any) (float64, bool) {
	switch x := v.(type) {
	case int:
		return float64(x), true
	case float64:
		return x, true
	}
	return 0, false
}

func equal(x, y any) bool {
	if f, ok := number64(x); ok {
		g, also := number64(y)
		return also && f == g
	}
	return reflect.DeepEqual(x, y)
}

func in(x, y any) (bool, error) {
	switch list := y.(type) {
	case nil:
		return false, nil
	case []any:
		for _, v := range list {
			if equal(x, v) {
				return true, nil
			}
		}
		return false, nil
	case map[string]any:
		key, ok := x.(string)
		_, there := list[key]
		return ok && there, nil
	}
	return false, fmt.Errorf("in is for arrays and maps, not %s", kindOf(y))
}

func (r *run) texts(op, a, b string) (any, error) {
	switch op {
	case "+":
		return a + b, r.spend(len(a) + len(b))
	case "<":
		return a < b, nil
	case ">":
		return a > b, nil
	case "<=":
		return a <= b, nil
	case ">=":
		return a >= b, nil
	case "contains":
		return strings.Contains(a, b), nil
	case "startsWith":
		return strings.HasPrefix(a, b), nil
	case "endsWith":
		return strings.HasSuffix(a, b), nil
	}
	return nil, fmt.Errorf("string %s string makes no sense", op)
}

func (r *run) ints(op string, a, b int) (any, error) {
	switch op {
	case "+":
		return a + b, nil
	case "-":
		return a - b, nil
	case "*":
		return a * b, nil
	case "%":
		if b == 0 {
			return nil, fmt.Errorf("division by zero")
		}
		return a % b, nil
	case "..":
		if b < a {
			return []any{}, nil
		}
		if err := r.spend(b - a + 1); err != nil {
			return nil, err
		}
		list := make([]any, b-a+1)
		for i := range list {
			list[i] = a + i
		}
		return list, nil
	}
	return floats(op, float64(a), float64(b))
}

func floats(op string, a, b float64) (any, error) {
	switch op {
	case "+":
		return a + b, nil
	case "-":
		return a - b, nil
	case "*":
		return a * b, nil
	case "/":
		return a / b, nil
	case "**", "^":
		return math.Pow(a, b), nil
	case "<":
		return a < b, nil
	case ">":
		return a > b, nil
	case "<=":
		return a <= b, nil
	case ">=":
		return a >= b, nil
	}
	return nil, fmt.Errorf("float %s float makes no sense", op)
}

// member gives an element by its key or index; the optional one of nil is nil. A key that a map does not have is nil.
func member(n, key node, optional bool) node {
	return node{kind: Any, eval: func(r *run) (any, error) {
		v, err := n.eval(r)
		if err != nil {
			return nil, err
		}
		if v == nil && optional {
			return nil, nil
		}
		k, err := key.eval(r)
		if err != nil {
			return nil, err
		}
		switch x := v.(type) {
		case map[string]any:
			if s, ok := k.(string); ok {
				return x[s], nil
			}
		case []any:
			if i, ok := k.(int); ok {
				if i < 0 {
					i += len(x)
				}
				if i < 0 || i >= len(x) {
					return nil, fmt.Errorf("index %v of an array of %d", k, len(x))
				}
				return x[i], nil
			}
		}
		return nil, fmt.Errorf("%s has no element %v", kindOf(v), k)
	}}
}

// part gives what stands between two indexes, which count from the end when they are negative.
func part(n, from, to node) node {
	return node{kind: n.kind, eval: func(r *run) (any, error) {
		v, err := n.eval(r)
		if err != nil {
			return nil, err
		}
		size := 0
		switch x := v.(type) {
		case []any:
			size = len(x)
		case string:
			size = len(x)
		default:
			return nil, fmt.Errorf("%s has no parts", kindOf(v))
		}
		low, err := bound(from, r, 0, size)
		if err != nil {
			return nil, err
		}
		high, err := bound(to, r, size, size)
		if err != nil {
			return nil, err
		}
		low = min(low, high)
		if s, ok := v.(string); ok {
			return s[low:high], nil
		}
		return v.([]any)[low:high:high], nil
	}}
}

func bound(n node, r *run, otherwise, size int) (int, error) {
	v, err := n.eval(r)
	if err != nil || v == nil {
		return otherwise, err
	}
	i, ok := v.(int)
	if !ok {
		return 0, fmt.Errorf("%s as an index", kindOf(v))
	}
	if i < 0 {
		i += size
	}
	return min(max(i, 0), size), nil
}
