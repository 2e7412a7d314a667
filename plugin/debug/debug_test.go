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
	for _, text := range []string{"debug all", "debug {\n}"} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", opt); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
}
