package hostnet

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The test program is also the agent that tests kill, and each test that changes the network runs again in a network
// namespace of its own: see lab_test.go.
func TestMain(m *testing.M) {
	if spec := os.Getenv(agentVariable); spec != "" {
		os.Exit(agentMain(spec))
	}
	goleak.VerifyTestMain(m)
}
