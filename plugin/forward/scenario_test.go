package forward

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/scenario"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestScenarios(t *testing.T) { scenario.Run(t, "testdata/*.txtar", []chain.Spec{Spec}) }
