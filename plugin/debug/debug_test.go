package debug

import (
	"testing"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
)

func TestDebug(t *testing.T) {
	opt := chaintest.Options{Specs: []chain.Spec{Spec}}
	b := chaintest.New(t, "a {\ndebug\ndebug\n}\nb {\n}", opt)
	if !b.Config.Blocks[0].Debug || !b.Config.Blocks[0].Chain().Debug || b.Config.Blocks[1].Debug {
		t.Error("debug is not that of its block")
	}
	if _, err := chaintest.Build(t, ". {\ndebug all\n}", opt); err == nil {
		t.Error("an argument is accepted")
	}
}
