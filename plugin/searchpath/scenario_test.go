package searchpath_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/internal/scenario"
	"github.com/godwit-dns/godwit/plugin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestScenarios(t *testing.T) { scenario.Run(t, "testdata/*.txtar", plugin.All()) }
