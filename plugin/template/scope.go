package template

import (
	"errors"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/expr"
)

// variable is a value that templates and later expressions see.
type variable struct {
	name string
	prog *expr.Program
}

// variableName is what may be a variable's name.
var variableName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// readVar reads NAME EXPRESSION. The expression's words may be in quotes, together or not.
func (l *line) readVar(o *corefile.Line) error {
	id := o.Args[0]
	if !variableName.MatchString(id.Text) {
		return corefile.Errorf(id.Pos, "invalid variable name %q", id.Text)
	}
	_, isFunc := l.scope.Funcs[id.Text]
	_, isVar := l.scope.Vars[id.Text]
	if isFunc || isVar || expr.Reserved(id.Text) {
		return corefile.Errorf(id.Pos, "the variable name %q is taken", id.Text)
	}
	prog, err := l.compile(o.Args[1:])
	if err != nil {
		return err
	}
	l.scope.Vars[id.Text] = prog.Kind()
	if prog.Kind() == expr.Nil {
		l.scope.Vars[id.Text] = expr.Any
	}
	l.vars = append(l.vars, variable{id.Text, prog})
	return nil
}

func (l *line) readExpr(o *corefile.Line) error {
	prog, err := l.compile(o.Args)
	if err == nil {
		l.conditions = append(l.conditions, prog)
	}
	return err
}

func (l *line) compile(words []corefile.Word) (*expr.Program, error) {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = w.Text
	}
	prog, err := expr.Compile(strings.Join(texts, " "), l.scope)
	if err != nil {
		return nil, corefile.Errorf(words[0].Pos, "could not compile expression: %v", err)
	}
	return prog, nil
}

// newScope has what expressions know of a query. They run with *templateData.
func newScope() *expr.Scope {
	get := func(result expr.Kind, f func(d *templateData, q *chain.Query) any) expr.Func {
		return expr.Func{Result: result, Call: func(ctx any, _ []any) (any, error) {
			d := ctx.(*templateData)
			return f(d, d.query), nil
		}}
	}
	return &expr.Scope{Vars: map[string]expr.Kind{}, Funcs: map[string]expr.Func{
		"name":        get(expr.String, func(d *templateData, _ *chain.Query) any { return d.Name }),
		"type":        get(expr.String, func(_ *templateData, q *chain.Query) any { return q.Type.String() }),
		"class":       get(expr.String, func(_ *templateData, q *chain.Query) any { return q.Class.String() }),
		"proto":       get(expr.String, func(_ *templateData, q *chain.Query) any { return q.Proto.String() }),
		"size":        get(expr.Int, func(d *templateData, _ *chain.Query) any { return d.Message.Len() }),
		"client_ip":   get(expr.String, func(d *templateData, _ *chain.Query) any { return d.Remote }),
		"port":        get(expr.String, func(_ *templateData, q *chain.Query) any { return strconv.Itoa(int(q.Client.Port())) }),
		"id":          get(expr.Int, func(_ *templateData, q *chain.Query) any { return int(q.ID) }),
		"opcode":      get(expr.Int, func(_ *templateData, q *chain.Query) any { return int(q.Opcode()) }),
		"do":          get(expr.Bool, func(_ *templateData, q *chain.Query) any { return q.DO() }),
		"bufsize":     get(expr.Int, func(_ *templateData, q *chain.Query) any { return q.Limit() }),
		"server_ip":   get(expr.String, func(_ *templateData, q *chain.Query) any { return q.Local.Addr().Unmap().String() }),
		"server_port": get(expr.String, func(_ *templateData, q *chain.Query) any { return strconv.Itoa(int(q.Local.Port())) }),
		"incidr":      {Params: []expr.Kind{expr.String, expr.String}, Result: expr.Bool, Call: inCIDR},
		"metadata": {Params: []expr.Kind{expr.String}, Result: expr.String, Call: func(ctx any, args []any) (any, error) {
			return ctx.(*templateData).Meta(args[0].(string)), nil
		}},
		"group": {Params: []expr.Kind{expr.Any}, Result: expr.String, Call: func(ctx any, args []any) (any, error) {
			switch n := args[0].(type) {
			case int:
				return ctx.(*templateData).Group[strconv.Itoa(n)], nil
			case string:
				return ctx.(*templateData).Group[n], nil
			}
			return "", nil
		}},
	}}
}

func inCIDR(_ any, args []any) (any, error) {
	ip, err := netip.ParseAddr(args[0].(string))
	if err != nil {
		return nil, errors.New("the first argument is not an IP address")
	}
	network, err := netip.ParsePrefix(args[1].(string))
	if err != nil {
		return nil, errors.New("the second argument is not a network")
	}
	return network.Masked().Contains(ip.Unmap()), nil
}

// judge sets the variables of a line that is for a query and tries its conditions. False is a condition that does not
// hold; an error is the query's failure.
func (l *line) judge(d *templateData) (bool, error) {
	if len(l.vars)+len(l.conditions) == 0 {
		return true, nil
	}
	d.Var = map[string]any{}
	for _, v := range l.vars {
		value, err := v.prog.Run(d, d.Var)
		if err != nil {
			return false, err
		}
		d.Var[v.name] = value
	}
	for _, c := range l.conditions {
		value, err := c.Run(d, d.Var)
		if err != nil {
			return false, err
		}
		if ok, isBool := value.(bool); !isBool || !ok {
			return false, nil
		}
	}
	return true, nil
}
