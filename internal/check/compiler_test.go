package check

import (
	"bufio"
	"bytes"
	"go/ast"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// inlined are small functions that every query calls several times: a change that makes one too large for the compiler to
// inline costs a call in each place, and nothing else would tell.
var inlined = map[string][]string{
	"wire/name.go":    {"Name.Parent", "Name.Label", "Name.Labels", "Name.Hash", "Equal", "Lower"},
	"wire/request.go": {"(*Request).Name", "(*Request).OriginalName", "(*Request).Labels", "(*Request).DO", "(*Request).Opcode", "lower8"},
	"wire/reply.go":   {"(*Reply).Bytes", "(*Reply).SetID", "(*Reply).SetFlags", "(*Reply).Flags", "(*Reply).Empty"},
	"wire/cursor.go":  {"(*Cursor).Offset", "(*Record).RawData", "(*Record).TTLOffset"},
	"loop/loop.go":    {"(*Loop).Now", "(*Loop).Index", "(*Loop).isHot"},
}

// steps are functions on every query's way. Nothing in them may come from the heap, but for slices that grow once and stay
// (append), texts of panics, and a query's slots, which are made once for each of a loop's query objects.
var steps = map[string][]string{
	"loop/loop.go":                      {"Turn", "tasks", "tryHot"},
	"loop/poll_linux.go":                {"wait"},
	"server/udp.go":                     {"Ready", "deliver", "Finish"},
	"server/batch_linux.go":             {"receive", "packet", "origin", "rearm", "space", "add", "flush"},
	"server/gate.go":                    {"gate"},
	"server/route.go":                   {"Route", "passes"},
	"server/send.go":                    {"Complete", "fit"},
	"wire/request.go":                   {"Parse", "question", "readOPT"},
	"wire/fit.go":                       {"Append"},
	"wire/reply.go":                     {"Begin", "SetTTL", "AppendOwnData"},
	"wire/permute.go":                   {"Write"},
	"wire/shuffle.go":                   {"Addresses", "Shuffle", "Append"},
	"plugin/cache/cache.go":             {"Serve", "lookup", "answer"},
	"plugin/cache/table.go":             {"get"},
	"cluster/lookup.go":                 {"Service"},
	"metrics/histogram.go":              {"ObserveN", "ObserveInt"},
	"plugin/loadbalance/loadbalance.go": {"Reply"},
}

var diagnostic = regexp.MustCompile(`^(\S+\.go):(\d+):\d+: (.*)$`)

// TestCompiler reads what the compiler says of the hot path.
func TestCompiler(t *testing.T) {
	set, list := sources(t)
	packages := map[string]bool{}
	from := map[string]map[string][2]int{} // by file and function: first and last line
	for _, s := range list {
		if inlined[s.name] == nil && steps[s.name] == nil {
			continue
		}
		packages["./"+s.folder()] = true
		from[s.name] = map[string][2]int{}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				from[s.name][f.Name.Name] = [2]int{set.Position(f.Pos()).Line, set.Position(f.End()).Line}
			}
		}
	}
	can, heap := compile(t, packages)
	for file, names := range inlined {
		for _, name := range names {
			if !can[file+" "+name] {
				t.Errorf("%s: %s is not inlined any more (or not there): make it smaller, or take it from the list and say what it costs", file, name)
			}
		}
	}
	for file, names := range steps {
		for _, name := range names {
			lines, ok := from[file][name]
			if !ok {
				t.Errorf("%s: there is no function %s", file, name)
			}
			for at, what := range heap[file] {
				if at >= lines[0] && at <= lines[1] {
					t.Errorf("%s:%d: %s, in %s, which every query passes", file, at, what, name)
				}
			}
		}
	}
}

// compile gives the functions that can be inlined, as "file name", and what goes to the heap by file and line.
func compile(t *testing.T, packages map[string]bool) (can map[string]bool, heap map[string]map[int]string) {
	t.Helper()
	args := []string{"build", "-gcflags=-m"}
	for p := range packages {
		args = append(args, p)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	can, heap = map[string]bool{}, map[string]map[int]string{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		m := diagnostic.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		file, what := m[1], m[3]
		if name, ok := strings.CutPrefix(what, "can inline "); ok {
			name, _, _ = strings.Cut(name, " ")
			can[file+" "+name] = true
			continue
		}
		if !strings.HasSuffix(what, "escapes to heap") && !strings.HasPrefix(what, "moved to heap") ||
			strings.HasPrefix(what, "append ") || strings.HasPrefix(what, `"`) || strings.HasPrefix(what, "new(<node DYNAMICTYPE>)") {
			continue
		}
		at, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		if heap[file] == nil {
			heap[file] = map[int]string{}
		}
		heap[file][at] = what
	}
	if len(can) == 0 {
		t.Fatal("the compiler said nothing")
	}
	return can, heap
}
