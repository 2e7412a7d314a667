package minimal_test

import (
	"testing"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/scenario"
	"github.com/godwit-dns/godwit/plugin/forward"
	"github.com/godwit-dns/godwit/plugin/minimal"
	"github.com/godwit-dns/godwit/plugin/whoami"
)

func TestScenarios(t *testing.T) {
	scenario.Run(t, "testdata/*.txtar", []chain.Spec{minimal.Spec, forward.Spec, whoami.Spec})
}
