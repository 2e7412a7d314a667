package dns64_test

import (
	"testing"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/scenario"
	"github.com/godwit-dns/godwit/plugin/cache"
	"github.com/godwit-dns/godwit/plugin/dns64"
	"github.com/godwit-dns/godwit/plugin/forward"
	"github.com/godwit-dns/godwit/plugin/rewrite"
)

func TestScenarios(t *testing.T) {
	scenario.Run(t, "testdata/*.txtar", []chain.Spec{dns64.Spec, rewrite.Spec, cache.Spec, forward.Spec})
}
