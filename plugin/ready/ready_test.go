package ready

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// part makes a directive that is ready when the flag says so.
func partOf(name string, ready *bool) chain.Spec {
	return chain.Spec{Name: name, New: func(s *chain.Setup) error {
		s.Ready(func() bool { return *ready })
		return nil
	}}
}

func get(b *chaintest.Bench, endpoint int) (int, string) {
	w := httptest.NewRecorder()
	b.Config.Endpoints[endpoint].Handler.ServeHTTP(w, httptest.NewRequest("GET", "/ready", nil))
	return w.Code, w.Body.String()
}

func TestReady(t *testing.T) {
	for _, c := range []struct {
		monitor string
		again   int // after a part that was ready is not any more
	}{{"", 200}, {"{\nmonitor until-ready\n}", 200}, {"{\nmonitor continuously\n}", 503}} {
		var zebra, ape bool
		opt := chaintest.Options{Specs: []chain.Spec{Spec, partOf("zebra", &zebra), partOf("ape", &ape)}}
		b := chaintest.New(t, "a {\nready "+c.monitor+"\nzebra\n}\nb {\nready "+c.monitor+"\nape\nzebra\n}\nc {\nzebra\nready :8182\n}\nd {\nready :8183\n}", opt)
		step := func(endpoint, code int, body string) {
			t.Helper()
			if gotCode, gotBody := get(b, endpoint); gotCode != code || gotBody != body {
				t.Errorf("%q: got %d %q, want %d %q", c.monitor, gotCode, gotBody, code, body)
			}
		}
		step(0, 503, "ape,zebra")
		step(1, 503, "zebra")
		step(2, 200, "OK")
		ape = true
		step(0, 503, "zebra")
		zebra = true
		step(0, 200, "OK")
		step(1, 200, "OK")
		ape = false
		if c.again == 200 {
			step(0, 200, "OK")
		} else {
			step(0, 503, "ape")
		}
		if !strings.Contains(b.Log.String(), `plugin/ready: Plugins not ready: \"ape,zebra\"`) {
			t.Errorf("log: %s", b.Log)
		}
		for _, f := range b.Config.Shutdowns {
			f(context.Background())
		}
		step(0, 503, "Shutting down")
		step(2, 503, "Shutting down")
	}
}

func TestRefused(t *testing.T) {
	opt := chaintest.Options{Specs: []chain.Spec{Spec}}
	for _, text := range []string{"ready\nready", "ready 8181", "ready :1 :2", "ready {\nmonitor\n}", "ready {\nmonitor never\n}", "ready {\nwatch\n}"} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", opt); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
}
