package e2e_test

import "testing"

// TestStreaming and TestList run the same against an API server that streams
// lists and one that does not.
func TestStreaming(t *testing.T) { testCluster(t, true) }

func TestList(t *testing.T) { testCluster(t, false) }

func testCluster(t *testing.T, streaming bool) {
	plane := startPlane(t, streaming)
	t.Run("records", func(t *testing.T) { testRecords(t, plane) })
	t.Run("access", func(t *testing.T) { testAccess(t, plane) })
	t.Run("multicluster", func(t *testing.T) { testImports(t, plane) })
	t.Run("outage", func(t *testing.T) { testOutage(t, plane) })
	t.Run("expired", func(t *testing.T) { testExpired(t, plane) })
	t.Run("forbidden", func(t *testing.T) { testForbidden(t, plane) })
	t.Run("forbidden at the start", func(t *testing.T) { testForbiddenStart(t, plane) })
	t.Run("away", func(t *testing.T) { testAway(t, plane) })
	t.Run("corefiles", func(t *testing.T) { testCorefiles(t, plane) })
}
