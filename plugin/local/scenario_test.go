package local_test

import (
	"testing"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/scenario"
	"github.com/godwit-dns/godwit/plugin/forward"
	"github.com/godwit-dns/godwit/plugin/local"
)

func TestScenarios(t *testing.T) {
	scenario.Run(t, "testdata/*.txtar", []chain.Spec{local.Spec, forward.Spec})
}
