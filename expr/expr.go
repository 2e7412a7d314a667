// Package expr evaluates small expressions over queries: conditions and values that stand in a Corefile. The language is
// the common part of what CoreDNS's view and template take (https://expr-lang.org/docs/language-definition): literals,
// operators, arrays and maps, pipes, let, conditions, predicates over arrays, and the functions that builtin.go lists.
//
// A program is compiled once, with the kinds of everything that is known checked, and is then run by any number of
// goroutines. What a run may build is bounded.
package expr

import "fmt"

// Kind is what is known of a value before it is there. Values are nil, bool, int, float64, string, []any and
// map[string]any.
type Kind uint8

// Kinds.
const (
	Any Kind = iota
	Nil
	Bool
	Int
	Float
	String
	Array
	Map
)

// String gives the kind's name for errors.
func (k Kind) String() string {
	return [...]string{"any", "nil", "bool", "int", "float", "string", "array", "map"}[k]
}

// Func is a function that expressions may call.
type Func struct {
	Params []Kind
	Result Kind
	// Call gets as many arguments as there are parameters, each of its kind. Ctx is what Run was given.
	Call func(ctx any, args []any) (any, error)
}

// Scope is the names that an expression may use beside the builtin functions.
type Scope struct {
	Funcs map[string]Func
	Vars  map[string]Kind
}

// Program is a compiled expression.
type Program struct {
	kind Kind
	eval eval
}

// Kind is the kind of the program's result.
func (p *Program) Kind() Kind { return p.kind }

// Run evaluates the program. Vars has a value for every variable of its scope.
func (p *Program) Run(ctx any, vars map[string]any) (any, error) {
	return p.eval(&run{ctx: ctx, vars: vars})
}

// Compile reads an expression. Its errors give the place as a column, counted in bytes from 1.
func Compile(text string, scope *Scope) (*Program, error) {
	c := &compiler{lexer: lexer{text: text}, scope: scope}
	var n node
	err := c.catch(func() {
		c.next()
		n = c.sequence()
		if c.kind != end {
			c.fail("unexpected %s", c.token)
		}
	})
	if err != nil {
		return nil, err
	}
	return &Program{n.kind, n.eval}, nil
}

// Reserved reports whether a name can't be a variable's: it means something in the language.
func Reserved(name string) bool {
	_, function := builtins[name]
	return function || predicates[name] || words[name]
}

var words = map[string]bool{"true": true, "false": true, "nil": true, "not": true, "in": true, "and": true, "or": true, "let": true,
	"if": true, "else": true, "matches": true, "contains": true, "startsWith": true, "endsWith": true}

// eval computes a value.
type eval func(r *run) (any, error)

// node is a part of an expression.
type node struct {
	kind Kind
	eval eval
	lit  any // the value of a literal string
}

// run is one evaluation.
type run struct {
	ctx    any
	vars   map[string]any
	locals []any  // let
	items  []item // what predicates look at, the innermost last
	spent  int
}

type item struct {
	value any
	index int
}

// budget bounds how many elements and octets a run may make.
const budget = 1_000_000

func (r *run) spend(n int) error {
	if r.spent += n; n < 0 || r.spent > budget {
		return fmt.Errorf("the expression makes more than %d elements", budget)
	}
	return nil
}
