package e2e_test

import "testing"

// TestStreaming and TestList run the same against an API server that streams
// lists and one that does not.
func TestStreaming(t *testing.T) { testCluster(t, true) }

func TestList(t *testing.T) { testCluster(t, false) }

func testCluster(t *testing.T, streaming bool) {
	plane := startPlane(t, streaming)
	t.Run("records", func(t *testing.T) { testRecords(t, plane) })
}
