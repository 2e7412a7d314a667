package expr

import (
	"fmt"
	"slices"
)

// primary reads a literal, a name, a call, an array, a map or an expression in parentheses.
func (c *compiler) primary() node {
	switch {
	case c.kind == number, c.kind == quoted:
		n := literal(c.value)
		c.next()
		return n
	case c.accept("("):
		n := c.sequence()
		c.expect(")")
		return n
	case c.accept("["):
		return c.array()
	case c.accept("{"):
		return c.table()
	case c.is("#"), c.is(".") && c.inside > 0:
		return c.current()
	case c.kind != name:
		c.fail("unexpected %s", c.token)
	}
	id := c.token
	switch id {
	case "true", "false":
		c.next()
		return literal(id == "true")
	case "nil":
		c.next()
		return literal(nil)
	}
	at := c.lexer
	c.next()
	if c.accept("(") {
		return c.call(id, at, nil)
	}
	return c.variable(id, at)
}

// variable is a name without parentheses behind it.
func (c *compiler) variable(id string, at lexer) node {
	for i := len(c.locals) - 1; i >= 0; i-- {
		if c.locals[i].name == id {
			return node{kind: c.locals[i].kind, eval: func(r *run) (any, error) { return r.locals[i], nil }}
		}
	}
	kind, ok := c.scope.Vars[id]
	if !ok {
		if _, isFunc := c.scope.Funcs[id]; isFunc {
			at.fail("%s is a function: write %s()", id, id)
		}
		at.fail("unknown name %s", id)
	}
	return node{kind: kind, eval: func(r *run) (any, error) {
		v, ok := r.vars[id]
		if !ok {
			return nil, fmt.Errorf("%s has no value", id)
		}
		return v, nil
	}}
}

// current is # (what a predicate looks at), #index, or a member of it: .name is #.name.
func (c *compiler) current() node {
	if c.inside == 0 {
		c.fail("# stands outside of a predicate")
	}
	index := c.accept("#") && c.is("index") && c.text[c.start-1] == '#'
	if index {
		c.next()
	}
	depth := c.inside - 1
	n := node{kind: Any, eval: func(r *run) (any, error) { return r.items[depth].value, nil }}
	if index {
		n = node{kind: Int, eval: func(r *run) (any, error) { return r.items[depth].index, nil }}
	}
	return n
}

func (c *compiler) array() node {
	var elements []node
	for !c.is("]") {
		elements = append(elements, c.ternary())
		if !c.accept(",") {
			break
		}
	}
	c.expect("]")
	return node{kind: Array, eval: func(r *run) (any, error) {
		if err := r.spend(len(elements)); err != nil {
			return nil, err
		}
		return values(elements, r)
	}}
}

func values(nodes []node, r *run) ([]any, error) {
	list := make([]any, len(nodes))
	for i, n := range nodes {
		v, err := n.eval(r)
		if err != nil {
			return nil, err
		}
		list[i] = v
	}
	return list, nil
}

// table reads a map: {name: value, "key": value, (expression): value}.
func (c *compiler) table() node {
	var keys, elements []node
	for !c.is("}") {
		switch {
		case c.kind == name, c.kind == quoted:
			key := c.token
			if c.kind == quoted {
				key = c.value.(string)
			}
			keys = append(keys, literal(key))
			c.next()
		case c.accept("("):
			keys = append(keys, c.sequence())
			c.expect(")")
		default:
			c.fail("%s is no key", c.token)
		}
		c.expect(":")
		elements = append(elements, c.ternary())
		if !c.accept(",") {
			break
		}
	}
	c.expect("}")
	return node{kind: Map, eval: func(r *run) (any, error) {
		if err := r.spend(len(keys)); err != nil {
			return nil, err
		}
		ks, err := values(keys, r)
		if err != nil {
			return nil, err
		}
		vs, err := values(elements, r)
		if err != nil {
			return nil, err
		}
		m := make(map[string]any, len(ks))
		for i, k := range ks {
			key, ok := k.(string)
			if !ok {
				return nil, fmt.Errorf("%s as a key", kindOf(k))
			}
			m[key] = vs[i]
		}
		return m, nil
	}}
}

// pipe reads name(arguments) and calls it with left as the first argument.
func (c *compiler) pipe(left node) node {
	id, at := c.token, c.lexer
	if c.kind != name {
		c.fail("a pipe leads to a function")
	}
	c.next()
	c.expect("(")
	return c.postfix(c.call(id, at, &left))
}

// call reads the arguments of a function; first, when not nil, stands before them.
func (c *compiler) call(id string, at lexer, first *node) node {
	if predicates[id] {
		if _, own := c.scope.Funcs[id]; !own {
			return c.predicate(id, at, first)
		}
	}
	var args []node
	if first != nil {
		args = append(args, *first)
	}
	for !c.is(")") {
		args = append(args, c.ternary())
		if !c.accept(",") {
			break
		}
	}
	c.expect(")")
	if f, ok := c.scope.Funcs[id]; ok {
		return callFunc(id, at, f, args)
	}
	b, ok := builtins[id]
	if !ok {
		at.fail("unknown function %s", id)
	}
	if len(args) < b.min || len(args) > b.max {
		at.fail("%s has %d arguments", id, len(args))
	}
	for i, a := range args {
		if want := b.params[min(i, len(b.params)-1)]; !fits(a.kind, want) {
			at.fail("%s takes %s, not %s", id, want, a.kind)
		}
	}
	if slices.Contains(b.refused, args[0].kind) {
		at.fail("%s is not for %s", id, args[0].kind)
	}
	return node{kind: b.result, eval: func(r *run) (any, error) {
		list, err := values(args, r)
		if err != nil {
			return nil, err
		}
		v, err := b.call(r, list)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		return v, nil
	}}
}

func callFunc(id string, at lexer, f Func, args []node) node {
	if len(args) != len(f.Params) {
		at.fail("%s takes %d arguments, not %d", id, len(f.Params), len(args))
	}
	for i, a := range args {
		if !fits(a.kind, f.Params[i]) {
			at.fail("%s takes %s, not %s", id, f.Params[i], a.kind)
		}
	}
	return node{kind: f.Result, eval: func(r *run) (any, error) {
		list, err := values(args, r)
		if err != nil {
			return nil, err
		}
		for i, v := range list {
			if !fits(kindOf(v), f.Params[i]) {
				return nil, fmt.Errorf("%s takes %s, not %s", id, f.Params[i], kindOf(v))
			}
		}
		v, err := f.Call(r.ctx, list)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		return v, nil
	}}
}

// fits reports whether a value of a kind may stand where another is wanted, as far as is known.
func fits(kind, want Kind) bool {
	return kind == want || kind == Any || want == Any || kind == Int && want == Float
}

// predicates are the functions whose last argument is looked at for each element of an array.
var predicates = map[string]bool{"all": true, "any": true, "one": true, "none": true, "filter": true, "map": true, "count": true,
	"find": true, "findIndex": true}

// predicate reads array, {condition} or array, condition.
func (c *compiler) predicate(id string, at lexer, first *node) node {
	var list node
	if first != nil {
		list = *first
	} else {
		list = c.ternary()
	}
	if !fits(list.kind, Array) {
		at.fail("%s takes an array, not %s", id, list.kind)
	}
	if first == nil && !c.is(")") {
		c.expect(",")
	}
	depth := c.inside
	c.inside++
	body := node{kind: Any, eval: func(r *run) (any, error) { return r.items[depth].value, nil }}
	if c.is(")") && id != "count" {
		at.fail("%s needs a predicate", id)
	}
	if !c.is(")") {
		braces := c.accept("{")
		body = c.sequence()
		if braces {
			c.expect("}")
		}
	}
	c.inside--
	c.expect(")")
	if id != "map" {
		c.boolean(body)
	}
	return node{kind: predicateKind(id), eval: func(r *run) (any, error) {
		v, err := list.eval(r)
		if err != nil {
			return nil, err
		}
		a, ok := v.([]any)
		if !ok {
			return nil, fmt.Errorf("%s takes an array, not %s", id, kindOf(v))
		}
		if err := r.spend(len(a)); err != nil {
			return nil, err
		}
		r.items = append(r.items[:depth], item{})
		defer func() { r.items = r.items[:depth] }()
		return apply(id, a, body, r, depth)
	}}
}
