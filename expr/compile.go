package expr

import (
	"fmt"
	"slices"
)

// maxDepth bounds how deep an expression may be nested.
const maxDepth = 200

// compiler turns tokens into nodes.
type compiler struct {
	lexer
	scope  *Scope
	locals []local // let
	inside int     // how many predicates are around
	depth  int
}

type local struct {
	name string
	kind Kind
}

// is reports whether the current token is a symbol or a word.
func (c *compiler) is(token string) bool {
	return (c.kind == symbol || c.kind == name) && c.token == token
}

// accept passes over a token if it is the current one.
func (c *compiler) accept(token string) bool {
	if c.is(token) {
		c.next()
		return true
	}
	return false
}

func (c *compiler) expect(token string) {
	if !c.accept(token) {
		c.fail("%q is missing before %s", token, c.token)
	}
}

// sequence reads let and what follows it.
func (c *compiler) sequence() node {
	if !c.accept("let") {
		return c.ternary()
	}
	id := c.token
	if c.kind != name {
		c.fail("let needs a name")
	}
	if c.known(id) || Reserved(id) {
		c.fail("%q has a meaning already", id)
	}
	c.next()
	c.expect("=")
	value := c.ternary()
	c.expect(";")
	c.locals = append(c.locals, local{id, value.kind})
	depth := len(c.locals) - 1
	body := c.sequence()
	c.locals = c.locals[:depth]
	return node{kind: body.kind, eval: func(r *run) (any, error) {
		v, err := value.eval(r)
		if err != nil {
			return nil, err
		}
		r.locals = append(r.locals[:depth], v)
		return body.eval(r)
	}}
}

func (c *compiler) known(id string) bool {
	_, isVar := c.scope.Vars[id]
	_, isFunc := c.scope.Funcs[id]
	return isVar || isFunc || slices.ContainsFunc(c.locals, func(l local) bool { return l.name == id })
}

// ternary reads a ? b : c, a ?: c, and what binds tighter.
func (c *compiler) ternary() node {
	if c.accept("if") {
		cond := c.boolean(c.binary(0))
		c.expect("{")
		yes := c.sequence()
		c.expect("}")
		c.expect("else")
		if c.is("if") {
			return choose(cond, yes, c.ternary())
		}
		c.expect("{")
		no := c.sequence()
		c.expect("}")
		return choose(cond, yes, no)
	}
	cond := c.binary(0)
	switch {
	case c.accept("?:"):
		c.boolean(cond)
		return choose(cond, cond, c.ternary())
	case c.accept("?"):
		c.boolean(cond)
		yes := c.ternary()
		c.expect(":")
		return choose(cond, yes, c.ternary())
	}
	return cond
}

func choose(cond, yes, no node) node {
	kind := yes.kind
	if no.kind != kind {
		kind = Any
	}
	return node{kind: kind, eval: func(r *run) (any, error) {
		v, err := truth(cond, r)
		switch {
		case err != nil:
			return nil, err
		case v:
			return yes.eval(r)
		}
		return no.eval(r)
	}}
}

func truth(n node, r *run) (bool, error) {
	v, err := n.eval(r)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("%s where true or false is needed", kindOf(v))
	}
	return b, nil
}

func (c *compiler) boolean(n node) node {
	if n.kind != Bool && n.kind != Any {
		c.fail("%s where true or false is needed", n.kind)
	}
	return n
}

// binary reads operators that bind at least as tight as level, by precedence climbing.
func (c *compiler) binary(level int) node {
	if c.depth++; c.depth > maxDepth {
		c.fail("the expression is nested too deep")
	}
	defer func() { c.depth-- }()
	left := c.unary()
	for {
		op, negated := c.operator()
		info, ok := operators[op]
		if !ok || info.level < level {
			return left
		}
		if negated {
			c.next()
		}
		c.next()
		if op == "|" {
			left = c.pipe(left)
			continue
		}
		next := info.level + 1
		if info.right {
			next = info.level
		}
		left = c.operate(op, left, c.binary(next))
		if negated {
			left = not(left)
		}
	}
}

// operator gives the binary operator at hand, empty when there is none; "not in" and its kin are negated.
func (c *compiler) operator() (op string, negated bool) {
	if c.kind != symbol && c.kind != name {
		return "", false
	}
	if c.token != "not" {
		return c.token, false
	}
	ahead := c.lexer
	ahead.next()
	if info, ok := operators[ahead.token]; ok && info.negatable {
		return ahead.token, true
	}
	return "", false
}

// unary reads signs, negations, and a value with what stands behind it.
func (c *compiler) unary() node {
	switch {
	case c.accept("not"), c.accept("!"):
		return not(c.boolean(c.binary(50)))
	case c.accept("-"):
		return c.sign(c.binary(90), true)
	case c.accept("+"):
		return c.sign(c.binary(90), false)
	}
	return c.postfix(c.primary())
}

func not(n node) node {
	return node{kind: Bool, eval: func(r *run) (any, error) {
		v, err := truth(n, r)
		return !v, err
	}}
}

func (c *compiler) sign(n node, minus bool) node {
	if n.kind != Int && n.kind != Float && n.kind != Any {
		c.fail("a sign before %s", n.kind)
	}
	return node{kind: n.kind, eval: func(r *run) (any, error) {
		v, err := n.eval(r)
		if err != nil {
			return nil, err
		}
		switch x := v.(type) {
		case int:
			if minus {
				return -x, nil
			}
			return x, nil
		case float64:
			if minus {
				return -x, nil
			}
			return x, nil
		}
		return nil, fmt.Errorf("a sign before %s", kindOf(v))
	}}
}

// postfix reads members, elements and parts of a value.
func (c *compiler) postfix(n node) node {
	for {
		switch {
		case c.accept("."), c.is("?."):
			optional := c.accept("?.")
			if optional && c.accept("[") {
				n = c.element(n, true)
				continue
			}
			key := c.token
			if c.kind != name {
				c.fail("a member needs a name")
			}
			c.next()
			n = member(n, literal(key), optional)
		case c.accept("["):
			n = c.element(n, false)
		default:
			return n
		}
	}
}

// element reads what is between brackets: an index or a key, or the bounds of a part.
func (c *compiler) element(n node, optional bool) node {
	if n.kind != Any && n.kind != Array && n.kind != Map && n.kind != String {
		c.fail("%s has no elements", n.kind)
	}
	from, to := literal(nil), literal(nil)
	if !c.is(":") {
		from = c.ternary()
	}
	if !c.accept(":") {
		if n.kind == String {
			c.fail("a string has parts, [1:2], but no elements")
		}
		c.expect("]")
		return member(n, from, optional)
	}
	if !c.is("]") {
		to = c.ternary()
	}
	c.expect("]")
	return part(n, from, to)
}

func literal(v any) node {
	return node{kind: kindOf(v), lit: v, eval: func(*run) (any, error) { return v, nil }}
}
