package expr

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// builtin is a function of the language.
type builtin struct {
	min, max int
	params   []Kind // the last one also for what follows it
	result   Kind
	refused  []Kind // kinds that the first argument may not have
	call     func(r *run, a []any) (any, error)
}

// text makes a builtin of a function of strings.
func text(n int, result Kind, f func(a []string) any) builtin {
	return builtin{min: n, max: n, params: []Kind{String}, result: result, call: func(r *run, a []any) (any, error) {
		s := make([]string, len(a))
		for i, v := range a {
			var ok bool
			if s[i], ok = v.(string); !ok {
				return nil, fmt.Errorf("%s where a string is needed", kindOf(v))
			}
		}
		v := f(s)
		if out, ok := v.(string); ok {
			return v, r.spend(len(out))
		}
		return v, nil
	}}
}

// over makes a builtin of a function of one array.
func over(result Kind, f func(a []any) (any, error)) builtin {
	return builtin{min: 1, max: 1, params: []Kind{Array}, result: result, call: func(r *run, a []any) (any, error) {
		list, ok := a[0].([]any)
		if !ok {
			return nil, fmt.Errorf("%s where an array is needed", kindOf(a[0]))
		}
		if err := r.spend(len(list)); err != nil {
			return nil, err
		}
		return f(list)
	}}
}

// builtins are the functions of the language, beside the predicates.
var builtins = map[string]builtin{
	"len":    {min: 1, max: 1, params: []Kind{Any}, result: Int, refused: []Kind{Nil, Bool, Int, Float}, call: length},
	"int":    {min: 1, max: 1, params: []Kind{Any}, result: Int, call: toInt},
	"float":  {min: 1, max: 1, params: []Kind{Any}, result: Float, call: toFloat},
	"string": {min: 1, max: 1, params: []Kind{Any}, result: String, call: toString},
	"abs":    {min: 1, max: 1, params: []Kind{Any}, result: Any, call: abs},
	"ceil":   {min: 1, max: 1, params: []Kind{Float}, result: Float, call: rounding(math.Ceil)},
	"floor":  {min: 1, max: 1, params: []Kind{Float}, result: Float, call: rounding(math.Floor)},
	"round":  {min: 1, max: 1, params: []Kind{Float}, result: Float, call: rounding(math.Round)},
	"max":    {min: 1, max: 100, params: []Kind{Any}, result: Any, call: extreme(">")},
	"min":    {min: 1, max: 100, params: []Kind{Any}, result: Any, call: extreme("<")},

	"upper":       text(1, String, func(a []string) any { return strings.ToUpper(a[0]) }),
	"lower":       text(1, String, func(a []string) any { return strings.ToLower(a[0]) }),
	"trimPrefix":  text(2, String, func(a []string) any { return strings.TrimPrefix(a[0], a[1]) }),
	"trimSuffix":  text(2, String, func(a []string) any { return strings.TrimSuffix(a[0], a[1]) }),
	"hasPrefix":   text(2, Bool, func(a []string) any { return strings.HasPrefix(a[0], a[1]) }),
	"hasSuffix":   text(2, Bool, func(a []string) any { return strings.HasSuffix(a[0], a[1]) }),
	"indexOf":     text(2, Int, func(a []string) any { return strings.Index(a[0], a[1]) }),
	"lastIndexOf": text(2, Int, func(a []string) any { return strings.LastIndex(a[0], a[1]) }),
	"replace":     text(3, String, func(a []string) any { return strings.ReplaceAll(a[0], a[1], a[2]) }),
	"trim":        {min: 1, max: 2, params: []Kind{String}, result: String, call: trim},
	"split":       {min: 2, max: 3, params: []Kind{String, String, Int}, result: Array, call: split},
	"join":        {min: 1, max: 2, params: []Kind{Array, String}, result: String, call: join},
	"repeat":      {min: 2, max: 2, params: []Kind{String, Int}, result: String, call: repeat},

	"first":   over(Any, func(a []any) (any, error) { return at(a, 0), nil }),
	"last":    over(Any, func(a []any) (any, error) { return at(a, len(a)-1), nil }),
	"reverse": over(Array, reversed),
	"sort":    over(Array, sorted),
	"uniq":    over(Array, unique),
	"sum":     over(Any, sum),
	"keys":    {min: 1, max: 1, params: []Kind{Map}, result: Array, call: keys},
	"values":  {min: 1, max: 1, params: []Kind{Map}, result: Array, call: mapValues},
	"get":     {min: 2, max: 2, params: []Kind{Any}, result: Any, call: get},
}

func length(_ *run, a []any) (any, error) {
	switch v := a[0].(type) {
	case string:
		return len([]rune(v)), nil
	case []any:
		return len(v), nil
	case map[string]any:
		return len(v), nil
	}
	return nil, fmt.Errorf("%s has no length", kindOf(a[0]))
}

func toInt(_ *run, a []any) (any, error) {
	switch v := a[0].(type) {
	case int:
		return v, nil
	case float64:
		return int(v), nil
	case string:
		n, err := strconv.Atoi(v)
		if err != nil {
			return nil, fmt.Errorf("%q is not a number", v)
		}
		return n, nil
	}
	return nil, fmt.Errorf("%s is not a number", kindOf(a[0]))
}

func toFloat(_ *run, a []any) (any, error) {
	if s, ok := a[0].(string); ok {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not a number", s)
		}
		return f, nil
	}
	if f, ok := number64(a[0]); ok {
		return f, nil
	}
	return nil, fmt.Errorf("%s is not a number", kindOf(a[0]))
}

func toString(r *run, a []any) (any, error) {
	s := fmt.Sprintf("%v", a[0])
	return s, r.spend(len(s))
}

func abs(_ *run, a []any) (any, error) {
	switch v := a[0].(type) {
	case int:
		return max(v, -v), nil
	case float64:
		return math.Abs(v), nil
	}
	return nil, fmt.Errorf("%s is not a number", kindOf(a[0]))
}

func rounding(f func(float64) float64) func(*run, []any) (any, error) {
	return func(_ *run, a []any) (any, error) {
		v, ok := number64(a[0])
		if !ok {
			return nil, fmt.Errorf("%s is not a number", kindOf(a[0]))
		}
		return f(v), nil
	}
}

// extreme gives the largest or the smallest of numbers, which may stand in arrays.
func extreme(op string) func(*run, []any) (any, error) {
	return func(r *run, a []any) (any, error) {
		var best any
		for _, v := range flat(a) {
			if _, ok := number64(v); !ok {
				return nil, fmt.Errorf("%s is not a number", kindOf(v))
			}
			if best == nil {
				best = v
				continue
			}
			better, err := r.compute(op, v, best)
			if err != nil {
				return nil, err
			}
			if better.(bool) {
				best = v
			}
		}
		return best, nil
	}
}

func flat(a []any) []any {
	var list []any
	for _, v := range a {
		if inner, ok := v.([]any); ok {
			list = append(list, inner...)
		} else {
			list = append(list, v)
		}
	}
	return list
}

func trim(_ *run, a []any) (any, error) {
	s, ok := a[0].(string)
	if !ok {
		return nil, fmt.Errorf("%s where a string is needed", kindOf(a[0]))
	}
	if len(a) == 1 {
		return strings.TrimSpace(s), nil
	}
	set, ok := a[1].(string)
	if !ok {
		return nil, fmt.Errorf("%s where a string is needed", kindOf(a[1]))
	}
	return strings.Trim(s, set), nil
}

func split(r *run, a []any) (any, error) {
	s, ok := a[0].(string)
	sep, also := a[1].(string)
	if !ok || !also {
		return nil, fmt.Errorf("%s and %s where strings are needed", kindOf(a[0]), kindOf(a[1]))
	}
	n := -1
	if len(a) == 3 {
		if n, ok = a[2].(int); !ok {
			return nil, fmt.Errorf("%s where a number is needed", kindOf(a[2]))
		}
	}
	if err := r.spend(len(s) + 1); err != nil {
		return nil, err
	}
	parts := strings.SplitN(s, sep, n)
	list := make([]any, len(parts))
	for i, p := range parts {
		list[i] = p
	}
	return list, nil
}

func join(r *run, a []any) (any, error) {
	list, ok := a[0].([]any)
	if !ok {
		return nil, fmt.Errorf("%s where an array is needed", kindOf(a[0]))
	}
	sep := ""
	if len(a) == 2 {
		if sep, ok = a[1].(string); !ok {
			return nil, fmt.Errorf("%s where a string is needed", kindOf(a[1]))
		}
	}
	parts, size := make([]string, len(list)), 0
	for i, v := range list {
		if parts[i], ok = v.(string); !ok {
			return nil, fmt.Errorf("%s where a string is needed", kindOf(v))
		}
		size += len(parts[i]) + len(sep)
	}
	if err := r.spend(size); err != nil {
		return nil, err
	}
	return strings.Join(parts, sep), nil
}

func repeat(r *run, a []any) (any, error) {
	s, ok := a[0].(string)
	n, also := a[1].(int)
	if !ok || !also || n < 0 {
		return nil, fmt.Errorf("a string and a number that is not negative are needed")
	}
	if n > budget {
		return nil, r.spend(n)
	}
	if err := r.spend(len(s) * n); err != nil {
		return nil, err
	}
	return strings.Repeat(s, n), nil
}

func at(a []any, i int) any {
	if i < 0 || i >= len(a) {
		return nil
	}
	return a[i]
}

func reversed(a []any) (any, error) {
	a = slices.Clone(a)
	slices.Reverse(a)
	return a, nil
}

// sorted orders numbers, or strings.
func sorted(a []any) (any, error) {
	a = slices.Clone(a)
	var failed error
	slices.SortStableFunc(a, func(x, y any) int {
		less, err := new(run).compute("<", x, y)
		if err != nil {
			failed = err
			return 0
		}
		if less.(bool) {
			return -1
		}
		if equal(x, y) {
			return 0
		}
		return 1
	})
	return a, failed
}

// maxUnique bounds what is compared each with each.
const maxUnique = 1000

func unique(a []any) (any, error) {
	if len(a) > maxUnique {
		return nil, fmt.Errorf("more than %d elements", maxUnique)
	}
	list := []any{}
	for _, v := range a {
		if there, _ := in(v, list); !there { // it is an array
			list = append(list, v)
		}
	}
	return list, nil
}

func sum(a []any) (any, error) {
	var total any = 0
	for _, v := range a {
		if _, ok := number64(v); !ok {
			return nil, fmt.Errorf("%s is not a number", kindOf(v))
		}
		var err error
		if total, err = new(run).compute("+", total, v); err != nil {
			return nil, err
		}
	}
	return total, nil
}

func keys(_ *run, a []any) (any, error) {
	m, ok := a[0].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s where a map is needed", kindOf(a[0]))
	}
	list := make([]any, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	return sorted(list)
}

func mapValues(r *run, a []any) (any, error) {
	k, err := keys(r, a)
	if err != nil {
		return nil, err
	}
	list := k.([]any)
	for i, key := range list {
		list[i] = a[0].(map[string]any)[key.(string)]
	}
	return list, nil
}

// get is an element, nil where there is none.
func get(_ *run, a []any) (any, error) {
	switch v := a[0].(type) {
	case map[string]any:
		if key, ok := a[1].(string); ok {
			return v[key], nil
		}
	case []any:
		if i, ok := a[1].(int); ok {
			if i < 0 {
				i += len(v)
			}
			return at(v, i), nil
		}
	}
	return nil, nil
}

func predicateKind(id string) Kind {
	switch id {
	case "filter", "map":
		return Array
	case "count", "findIndex":
		return Int
	case "find":
		return Any
	}
	return Bool
}

// apply looks at each element of an array in turn.
func apply(id string, a []any, body node, r *run, depth int) (any, error) {
	kept, matched, firstAt := []any{}, 0, -1
	for i, v := range a {
		r.items[depth] = item{v, i}
		out, err := body.eval(r)
		if err != nil {
			return nil, err
		}
		if id == "map" {
			kept = append(kept, out)
			continue
		}
		ok, isBool := out.(bool)
		if !isBool {
			return nil, fmt.Errorf("%s: %s where true or false is needed", id, kindOf(out))
		}
		if !ok {
			continue
		}
		if matched++; matched == 1 {
			firstAt = i
		}
		kept = append(kept, v)
		if id == "any" || id == "find" || id == "findIndex" {
			break
		}
	}
	switch id {
	case "all":
		return matched == len(a), nil
	case "any":
		return matched > 0, nil
	case "one":
		return matched == 1, nil
	case "none":
		return matched == 0, nil
	case "count":
		return matched, nil
	case "find":
		return at(a, firstAt), nil
	case "findIndex":
		return firstAt, nil
	}
	return kept, nil
}
