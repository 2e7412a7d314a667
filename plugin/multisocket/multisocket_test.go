package multisocket

import (
	"testing"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
)

func TestMultisocket(t *testing.T) {
	opt := chaintest.Options{Specs: []chain.Spec{Spec}}
	for text, want := range map[string]struct{ sockets, warnings int }{
		"multisocket": {0, 0}, "multisocket 1": {1, 0}, "multisocket 1024": {1024, 1},
	} {
		b := chaintest.New(t, ". {\n"+text+"\n}", opt)
		if b.Config.Blocks[0].Sockets != want.sockets || len(b.Config.Warnings) != want.warnings {
			t.Errorf("%s: %d sockets, warnings %v", text, b.Config.Blocks[0].Sockets, b.Config.Warnings)
		}
	}
	for _, text := range []string{"multisocket 0", "multisocket -1", "multisocket 1025", "multisocket x", "multisocket 1 2", "multisocket\nmultisocket", "multisocket {\n}"} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", opt); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
}
