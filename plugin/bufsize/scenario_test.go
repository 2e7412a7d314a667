package bufsize_test

import (
	"testing"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/scenario"
	"github.com/godwit-dns/godwit/plugin/bufsize"
	"github.com/godwit-dns/godwit/plugin/whoami"
)

func TestScenarios(t *testing.T) {
	scenario.Run(t, "testdata/*.txtar", []chain.Spec{bufsize.Spec, whoami.Spec})
}
