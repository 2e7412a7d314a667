package check

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// source is one parsed file.
type source struct {
	name string // relative to the root, with slashes
	file *ast.File
	test bool
}

func (s source) folder() string { return filepath.ToSlash(filepath.Dir(s.name)) }

// sources parses every Go file of the project.
func sources(t *testing.T) (*token.FileSet, []source) {
	t.Helper()
	set := token.NewFileSet()
	var list []source
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, "../../"))
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || name == "bin" || d.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		list = append(list, source{name, f, strings.HasSuffix(name, "_test.go")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return set, list
}

// serverCode reports whether a file is part of the program itself.
func serverCode(s source) bool {
	top, _, _ := strings.Cut(s.name, "/")
	return !s.test && !slices.Contains(free, top)
}

// longFunctions and longFiles may be longer than the rest, for the reason given.
var (
	longFunctions = map[string]string{}
	longFiles     = map[string]string{}
)

const (
	mostLines     = 60  // of a function
	mostFileLines = 500 // of a file, tests too
)

func TestLengths(t *testing.T) {
	set, list := sources(t)
	for _, s := range list {
		if n := set.Position(s.file.End()).Line; n > mostFileLines && longFiles[s.name] == "" {
			t.Errorf("%s has %d lines, at most %d: split it by what it is about", s.name, n, mostFileLines)
		}
		if !serverCode(s) {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := s.name + ":" + f.Name.Name
			if n := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1; n > mostLines && longFunctions[name] == "" {
				t.Errorf("%s has %d lines, at most %d: name its steps", name, n, mostLines)
			}
		}
	}
}

func TestExportedIdentifiersAreDocumented(t *testing.T) {
	set, list := sources(t)
	packages := map[string]bool{}
	for _, s := range list {
		if s.test {
			continue
		}
		packages[s.folder()] = packages[s.folder()] || s.file.Doc != nil
		for _, d := range s.file.Decls {
			for _, name := range undocumented(d) {
				t.Errorf("%s: %s has no comment: say what it is for, its units, who owns its slices", set.Position(d.Pos()), name)
			}
		}
	}
	for folder, ok := range packages {
		if !ok {
			t.Errorf("package %s has no comment", folder)
		}
	}
}

// undocumented gives the exported names of a declaration that have no comment of their own or of their group.
func undocumented(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && d.Name.Name != "Error" && exportedReceiver(d) {
			names = append(names, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
					names = append(names, s.Name.Name)
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if n.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
						names = append(names, n.Name)
					}
				}
			}
		}
	}
	return names
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}

func TestNoInitFunctions(t *testing.T) {
	set, list := sources(t)
	for _, s := range list {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: init runs before anybody asked: do it where the value is made", set.Position(f.Pos()))
			}
		}
	}
}

// hotFiles are on every query's way. They read no clock of the machine and format nothing.
var hotFiles = []string{
	"wire/cursor.go", "wire/fit.go", "wire/name.go", "wire/reply.go", "wire/request.go", "wire/transcribe.go", "wire/permute.go",
	"chain/query.go", "chain/worker.go",
	"server/gate.go", "server/route.go", "server/send.go", "server/udp.go", "server/tcp.go",
	"loop/poll_linux.go", "loop/timer.go",
	"plugin/cache/cache.go", "plugin/cache/table.go", "plugin/cache/repeat.go", "server/repeat.go", "server/repeat_memo.go", "plugin/kubernetes/answer.go", "plugin/kubernetes/kubernetes.go", "plugin/kubernetes/repeat.go", "plugin/loadbalance/loadbalance.go",
	"cluster/answer.go", "cluster/lookup.go", "metrics/traffic.go",
}

// mayFormat lists what hot files use all the same, off the hot path.
var mayFormat = map[string]string{
	"loop/poll_linux.go fmt": "errors of opening and registering files",
}

// clockReaders may read the machine's clock: all others get theirs through chain.Env, so that tests can set it. Deadlines
// of connections are always the machine's.
var clockReaders = map[string]string{
	"loop/loop.go":         "System is the clock",
	"loop/direct_linux.go": "the pause between two signals to a loop",
	"run":                  "the process's own timers",
	"server/tls.go":        "waits for a descriptor before accepting again",
	"cluster":              "ages of connections to the API server",
	"upstream":             "round trips of TLS connections",
	"hostnet":              "ages of what the kernel keeps",
	"node":                 "the agent's own timers",
	"handover":             "deadlines between two processes",
	"internal":             "tests' patience",
	"tool":                 "programs that run once",
}

func TestForbiddenCalls(t *testing.T) {
	set, list := sources(t)
	seen := map[string]bool{}
	for _, s := range list {
		seen[s.name] = true
		if !serverCode(s) {
			continue
		}
		hot := slices.Contains(hotFiles, s.name)
		for _, i := range s.file.Imports {
			switch name, _ := strconv.Unquote(i.Path.Value); {
			case name == "log":
				t.Errorf("%s: the log package is state of the process: take a *slog.Logger", set.Position(i.Pos()))
			case hot && (name == "fmt" || name == "log/slog" || name == "os") && mayFormat[s.name+" "+name] == "":
				t.Errorf("%s: %s on the way of every query", set.Position(i.Pos()), name)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && strings.HasSuffix(exprText(call.Fun), "Deadline") {
				return false
			}
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if !ok || pkg.Name != "time" || sel.Sel.Name != "Now" && sel.Sel.Name != "Since" && sel.Sel.Name != "Sleep" {
				return true
			}
			if reason, ok := reasonFor(clockReaders, s.name); !ok || reason == "" {
				t.Errorf("%s: time.%s: use the loop's clock, Env.Clock or Env.Wall", set.Position(sel.Pos()), sel.Sel.Name)
			}
			return true
		})
	}
	for _, name := range hotFiles {
		if !seen[name] {
			t.Errorf("%s is in the list of hot files, and gone", name)
		}
	}
}

// reasonFor looks up a file, or a folder that it is in.
func reasonFor(reasons map[string]string, name string) (string, bool) {
	for ; name != "."; name = filepath.ToSlash(filepath.Dir(name)) {
		if r, ok := reasons[name]; ok {
			return r, true
		}
	}
	return "", false
}

// mutable are package variables that are written, or could be, and why that is right.
var mutable = map[string]string{
	"cmd/godwit version":       "set by the linker",
	"internal/scenario Update": "a flag of go test",
}

func TestNoPackageState(t *testing.T) {
	set, list := sources(t)
	vars := map[string]map[string]*ast.ValueSpec{}
	for _, s := range list {
		if !serverCode(s) {
			continue
		}
		for _, d := range s.file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				v := spec.(*ast.ValueSpec)
				for _, n := range v.Names {
					if vars[s.folder()] == nil {
						vars[s.folder()] = map[string]*ast.ValueSpec{}
					}
					vars[s.folder()][n.Name] = v
					if why := stateful(v); n.Name != "_" && why != "" && mutable[s.folder()+" "+n.Name] == "" {
						t.Errorf("%s: %s %s: make it a field of what uses it", set.Position(n.Pos()), n.Name, why)
					}
				}
			}
		}
	}
	for _, s := range list {
		if !serverCode(s) {
			continue
		}
		for _, w := range writes(s.file) {
			if v := vars[s.folder()][w.Name]; v != nil && w.Name != "_" && (w.Obj == nil || w.Obj.Decl == v) && mutable[s.folder()+" "+w.Name] == "" {
				t.Errorf("%s: the package variable %s is written", set.Position(w.Pos()), w.Name)
			}
		}
	}
}

// stateful says why a variable is not a plain table, error or directive.
func stateful(v *ast.ValueSpec) string {
	if len(v.Values) == 0 {
		return "is declared empty, so somebody fills it"
	}
	for _, value := range v.Values {
		switch x := value.(type) {
		case *ast.CallExpr:
			if f := fmt.Sprint(exprText(x.Fun)); f == "make" || f == "new" || strings.HasPrefix(f, "sync.") || strings.HasPrefix(f, "time.") {
				return "is made by " + f
			}
		case *ast.UnaryExpr:
			if x.Op == token.AND {
				return "is a pointer"
			}
		}
	}
	if v.Type != nil {
		if text := exprText(v.Type); strings.HasPrefix(text, "sync.") || strings.HasPrefix(text, "atomic.") {
			return "is a " + text
		}
	}
	return ""
}

func exprText(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		return exprText(x.X) + "." + x.Sel.Name
	case *ast.IndexExpr:
		return exprText(x.X)
	}
	return ""
}

// writes gives the identifiers that are assigned to, counted up, or whose address is taken.
func writes(f *ast.File) (list []*ast.Ident) {
	root := func(e ast.Expr) {
		for {
			switch x := e.(type) {
			case *ast.IndexExpr:
				e = x.X
			case *ast.SelectorExpr:
				e = x.X
			case *ast.StarExpr:
				e = x.X
			case *ast.ParenExpr:
				e = x.X
			case *ast.Ident:
				list = append(list, x)
				return
			default:
				return
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.AssignStmt:
			if x.Tok != token.DEFINE {
				for _, l := range x.Lhs {
					root(l)
				}
			}
		case *ast.IncDecStmt:
			root(x.X)
		}
		return true
	})
	return list
}
