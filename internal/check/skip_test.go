package check

import (
	"go/ast"
	"testing"
)

// skips are the tests that may not run everywhere, by file.
var skips = map[string]string{
	"wire/oracle_test.go":                    "a fuzz input that the oracle itself can't write again",
	"cluster/plane_test.go":                  "needs a control plane, which needs the modules of Kubernetes",
	"hostnet/lab_test.go":                    "needs root",
	"deploy/deploy_test.go":                  "needs a control plane",
	"plugin/kubernetes/differential_test.go": "needs a coredns to compare with",
	"plugin/searchpath/plane_test.go":        "needs a control plane",
	"test/e2e/main_test.go":                  "needs a control plane",
	"test/e2e/quickstart_test.go":            "needs dig",
	"test/e2e/world_test.go":                 "needs root and the programs that test/deps.sh installs",
	"test/image/image_test.go":               "needs root and the programs that test/deps.sh installs",
	"test/kube/main_test.go":                 "needs a control plane",
}

func TestSkipsHaveAReason(t *testing.T) {
	set, list := sources(t)
	used := map[string]bool{}
	for _, s := range list {
		if s.folder() == "internal/check" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Skip" && sel.Sel.Name != "Skipf" && sel.Sel.Name != "SkipNow" {
				return true
			}
			used[s.name] = true
			if skips[s.name] == "" {
				t.Errorf("%s: a test that is skipped checks nothing: make it run, or give the reason in internal/check/skip_test.go", set.Position(n.Pos()))
			}
			if len(call.Args) == 0 {
				t.Errorf("%s: say why", set.Position(n.Pos()))
			}
			return true
		})
	}
	for name := range skips {
		if !used[name] {
			t.Errorf("%s skips nothing any more: take it off the list", name)
		}
	}
}
