package trace_test

import (
	"testing"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/scenario"
	"github.com/godwit-dns/godwit/plugin/cache"
	"github.com/godwit-dns/godwit/plugin/forward"
	"github.com/godwit-dns/godwit/plugin/trace"
)

func TestScenarios(t *testing.T) {
	scenario.Run(t, "testdata/*.txtar", []chain.Spec{trace.Spec, cache.Spec, forward.Spec})
}
