package cluster

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// TestSilence: a stream that brings nothing any more is closed and begun again where it was.
func TestSilence(t *testing.T) {
	f, cfg := startFake(t, func(resource string, n int, w http.ResponseWriter, r *http.Request) {
		if n == 0 {
			stream(resource, w, r, named("20", "a")...)
			return
		}
		watching(w)
		if resource == "services" {
			frame(w, "ADDED", &named("120", "b")[0])
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range c.readers {
		r.silence = 100 * time.Millisecond
	}
	start(t, c)
	eventually(t, 5*time.Second, "the second stream", func() bool { return c.has("b") })
	if asked := f.requests("services"); len(asked) < 2 || !contains(asked[1], "resourceVersion=100") || contains(asked[1], "sendInitialEvents") {
		t.Errorf("asked %q", asked)
	}
}

// TestTokenIsReadAgain: a token that the API server no longer takes is looked up on disk.
func TestTokenIsReadAgain(t *testing.T) {
	var accepted atomic.Value
	accepted.Store("Bearer one")
	f := &fake{t: t, count: map[string]int{}}
	f.answers = func(resource string, n int, w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != accepted.Load() {
			refuse(w, http.StatusUnauthorized, "Unauthorized", "who are you?")
			return
		}
		if n == 0 {
			watching(w)
			frame(w, "BOOKMARK", bookmark(resource, "100", true))
			return // ends the watch, so that there is a next request
		}
		stream(resource, w, r)
	}
	s := httptest.NewTLSServer(f) // credentials are sent over TLS only
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	dir := t.TempDir()
	token, config := filepath.Join(dir, "token"), filepath.Join(dir, "config")
	put(t, token, "old")
	put(t, config, fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: x, clusters: [{name: c, cluster: {server: %q, insecure-skip-tls-verify: true}}],
contexts: [{name: x, context: {cluster: c, user: u}}], users: [{name: u, user: {tokenFile: %q}}]}`, s.URL, token))
	c, err := Open(Config{Kubeconfig: config})
	if err != nil {
		t.Fatal(err)
	}
	start(t, c)
	eventually(t, 5*time.Second, "a refusal", func() bool { return len(f.requests("services")) > 0 })
	put(t, token, "one")
	c.client.mu.Lock()
	c.client.loaded = time.Time{} // as if the credentials had been read long ago
	c.client.mu.Unlock()
	eventually(t, 10*time.Second, "sync with the new token", c.Synced)
}

// TestLimits: bounds on requests hold none of them back for good.
func TestLimits(t *testing.T) {
	_, cfg := startFake(t, func(resource string, n int, w http.ResponseWriter, r *http.Request) { stream(resource, w, r) })
	cfg.QPS, cfg.Burst, cfg.MaxInFlight = 50, 1, 1
	c, _ := runCluster(t, cfg)
	eventually(t, 5*time.Second, "sync", c.Synced)
}

func TestInClusterOnly(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := Open(Config{}); err == nil || !contains(err.Error(), "kubeconfig, endpoint or manifests") {
		t.Errorf("outside a pod: %v", err)
	}
	if _, err := Open(Config{Endpoint: "http://127.0.0.1:1", Snapshot: "/nonexistent"}); err == nil || !contains(err.Error(), "make the folder") {
		t.Errorf("a missing snapshot folder: %v", err)
	}
	if _, err := Open(Config{Kubeconfig: "/nonexistent"}); err == nil {
		t.Error("a missing kubeconfig is no error")
	}
	if _, err := Open(Config{Endpoint: "http://127.0.0.1:1", Selector: "a in (b"}); err == nil {
		t.Error("a broken selector is no error")
	}
}
