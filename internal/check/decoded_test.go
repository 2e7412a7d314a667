package check

import (
	"go/ast"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// defaultPlugins are those of the default Corefiles, kubeadm's and the node agent's. Their handlers see bytes, never a
// decoded message, which costs a dozen allocations.
var defaultPlugins = []string{"bind", "cache", "errors", "forward", "health", "kubernetes", "loadbalance", "log", "loop", "prometheus", "ready", "reload"}

// decoders are the only files of the program that import miekg/dns.
var decoders = map[string]string{
	"chain/message.go":     "for handlers that work on text or on rare types",
	"zone/parse.go":        "reads master files",
	"plugin/template/*":    "its templates see decoded messages",
	"plugin/transfer/*":    "TSIG, and NOTIFY to secondaries",
	"internal/chaintest/*": "tests",
	"internal/scenario/*":  "tests",
}

func TestMessagesAreDecodedInNamedFilesOnly(t *testing.T) {
	set, list := sources(t)
	for _, s := range list {
		if !serverCode(s) {
			continue
		}
		for _, i := range s.file.Imports {
			if name, _ := strconv.Unquote(i.Path.Value); name != "github.com/miekg/dns" {
				continue
			}
			allowed := false
			for pattern := range decoders {
				if ok, err := path.Match(pattern, s.name); err == nil && ok {
					allowed = true
				}
			}
			if !allowed {
				t.Errorf("%s: messages are bytes: read them with wire.Cursor, write them with wire.Reply", set.Position(i.Pos()))
			}
		}
	}
}

func TestDefaultPluginsDecodeNothing(t *testing.T) {
	set, list := sources(t)
	decoding := []string{"Message", "ReplyMessage", "SetReplyMessage", "Blocking"}
	for _, s := range list {
		name, ok := strings.CutPrefix(s.folder(), "plugin/")
		if !ok || s.test || !slices.Contains(defaultPlugins, name) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if sel, ok := call.Fun.(*ast.SelectorExpr); ok && slices.Contains(decoding, sel.Sel.Name) {
					t.Errorf("%s: %s in a handler of the default Corefiles", set.Position(n.Pos()), sel.Sel.Name)
				}
			}
			return true
		})
	}
}
