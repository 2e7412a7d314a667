package template

import (
	"errors"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/vm"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
)

// variable is a value that templates and later expressions see.
type variable struct {
	name string
	prog *vm.Program
}

// variableName is what may be a variable's name.
var variableName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// readVar reads NAME EXPRESSION. The expression's words may be in quotes, together or not.
func (l *line) readVar(o *corefile.Line) error {
	id := o.Args[0]
	if !variableName.MatchString(id.Text) {
		return corefile.Errorf(id.Pos, "invalid variable name %q", id.Text)
	}
	_, known := l.scope[id.Text]
	if _, builtin := builtin.Index[id.Text]; known || builtin || !identifier(id.Text) {
		return corefile.Errorf(id.Pos, "the variable name %q is taken", id.Text)
	}
	prog, err := l.compile(o.Args[1:])
	if err != nil {
		return err
	}
	l.scope[id.Text] = new(any)
	if t := prog.Node().Type(); t != nil && t.Kind() != reflect.Interface {
		l.scope[id.Text] = reflect.Zero(t).Interface()
	}
	l.vars = append(l.vars, variable{id.Text, prog})
	return nil
}

// identifier reports whether the language takes a word as a name: one of its own words is none.
func identifier(word string) bool {
	_, err := expr.Compile(word, expr.Env(map[string]any{word: 0}))
	return err == nil && word != "true" && word != "false" && word != "nil"
}

func (l *line) readExpr(o *corefile.Line) error {
	prog, err := l.compile(o.Args)
	if err == nil {
		l.conditions = append(l.conditions, prog)
	}
	return err
}

func (l *line) compile(words []corefile.Word) (*vm.Program, error) {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = w.Text
	}
	prog, err := expr.Compile(strings.Join(texts, " "), expr.Env(l.scope), expr.DisableBuiltin("type"))
	if err != nil {
		return nil, corefile.Errorf(words[0].Pos, "could not compile expression: %v", err)
	}
	return prog, nil
}

// newScope has what expressions know of a query; with a nil one, for compiling, only the kinds count.
func newScope(d *templateData, q *chain.Query) map[string]any {
	return map[string]any{
		"name":        func() string { return d.Name },
		"type":        func() string { return q.Type.String() },
		"class":       func() string { return q.Class.String() },
		"proto":       func() string { return q.Proto.String() },
		"size":        func() int { return d.Message.Len() },
		"client_ip":   func() string { return d.Remote },
		"port":        func() string { return strconv.Itoa(int(q.Client.Port())) },
		"id":          func() int { return int(q.ID) },
		"opcode":      func() int { return int(q.Opcode()) },
		"do":          func() bool { return q.DO() },
		"bufsize":     func() int { return q.Limit() },
		"server_ip":   func() string { return q.Local.Addr().Unmap().String() },
		"server_port": func() string { return strconv.Itoa(int(q.Local.Port())) },
		"incidr":      inCIDR,
		"metadata":    func(name string) string { return d.Meta(name) },
		"group": func(name any) string {
			switch n := name.(type) {
			case int:
				return d.Group[strconv.Itoa(n)]
			case string:
				return d.Group[n]
			}
			return ""
		},
	}
}

func inCIDR(address, network string) (bool, error) {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return false, errors.New("the first argument is not an IP address")
	}
	prefix, err := netip.ParsePrefix(network)
	if err != nil {
		return false, errors.New("the second argument is not a network")
	}
	return prefix.Masked().Contains(ip.Unmap()), nil
}

// judge sets the variables of a line that is for a query and tries its conditions. False is a condition that does not
// hold; an error is the query's failure.
func (l *line) judge(d *templateData) (bool, error) {
	if len(l.vars)+len(l.conditions) == 0 {
		return true, nil
	}
	d.Var = map[string]any{}
	scope := newScope(d, d.query)
	for _, v := range l.vars {
		value, err := expr.Run(v.prog, scope)
		if err != nil {
			return false, err
		}
		d.Var[v.name] = value
		scope[v.name] = value
	}
	for _, c := range l.conditions {
		value, err := expr.Run(c, scope)
		if err != nil {
			return false, err
		}
		if ok, isBool := value.(bool); !isBool || !ok {
			return false, nil
		}
	}
	return true, nil
}
