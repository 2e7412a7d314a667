package root_test

import (
	"testing"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/scenario"
	"github.com/godwit-dns/godwit/plugin/file"
	"github.com/godwit-dns/godwit/plugin/root"
)

func TestScenarios(t *testing.T) {
	scenario.Run(t, "testdata/*.txtar", []chain.Spec{root.Spec, file.Spec})
}
