package health

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func opt() chaintest.Options { return chaintest.Options{Specs: []chain.Spec{Spec}} }

func TestEndpoint(t *testing.T) {
	b := chaintest.New(t, "a {\nhealth\n}\nb {\nhealth\n}\nc {\nhealth localhost:8091\n}", opt())
	if len(b.Config.Endpoints) != 2 || b.Config.Endpoints[0].Addr != ":8080" || b.Config.Endpoints[1].Addr != "localhost:8091" {
		t.Fatalf("endpoints: %+v", b.Config.Endpoints)
	}
	w := httptest.NewRecorder()
	b.Config.Endpoints[0].Handler.ServeHTTP(w, httptest.NewRequest("GET", "/health", nil))
	if w.Code != 200 || w.Body.String() != "OK" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

func TestLameduck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := chaintest.New(t, ". {\nhealth {\nlameduck 1s\nlameduck 7s\n}\n}", opt())
		start := time.Now()
		for _, f := range b.Config.Shutdowns {
			f(context.Background())
		}
		if d := time.Since(start); d != 7*time.Second {
			t.Errorf("it took %v", d)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		b.Config.Shutdowns[0](ctx)
		if d := time.Since(start); d != 8*time.Second {
			t.Errorf("a second signal ended it after %v", d-7*time.Second)
		}
	})
}

func TestProbe(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := chaintest.New(t, ". {\nhealth "+ln.Addr().String()+"\n}", opt())
	srv := &http.Server{Handler: b.Config.Endpoints[0].Handler}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln)
	}()
	p := newProbe(b.Env, ln.Addr().String())
	p.once(context.Background())
	if d, f := p.duration.Read().Count, p.failures.Value(); d != 1 || f != 0 {
		t.Errorf("%d observations, %d failures", d, f)
	}
	srv.Close()
	<-done
	p.once(context.Background())
	if d, f := p.duration.Read().Count, p.failures.Value(); d != 2 || f != 1 {
		t.Errorf("without a server: %d observations, %d failures", d, f)
	}
	if !strings.Contains(b.Log.String(), "failed: ") {
		t.Errorf("log: %s", b.Log)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p.once(ctx)
	if d := p.duration.Read().Count; d != 2 {
		t.Error("a probe that was called off counts")
	}
	p.client.CloseIdleConnections()
}

func TestRefused(t *testing.T) {
	for _, text := range []string{"health 8080", "health :8080 x", "health {\nlameduck\n}", "health {\nlameduck 5\n}", "health {\nduck 5s\n}"} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", opt()); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
	for _, text := range []string{"health :8080\nhealth :8081", "health {\nlameduck 0\n}", "health {\nlameduck -5s\n}"} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", opt()); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
