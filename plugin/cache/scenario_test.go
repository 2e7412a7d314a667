package cache_test

import (
	"testing"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/scenario"
	"github.com/godwit-dns/godwit/plugin/cache"
	"github.com/godwit-dns/godwit/plugin/forward"
)

func TestScenarios(t *testing.T) {
	scenario.Run(t, "testdata/*.txtar", []chain.Spec{cache.Spec, forward.Spec})
}
