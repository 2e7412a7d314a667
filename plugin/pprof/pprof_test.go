package pprof

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
)

func opt() chaintest.Options { return chaintest.Options{Specs: []chain.Spec{Spec}} }

func TestEndpoints(t *testing.T) {
	b := chaintest.New(t, "a {\npprof\n}\nb {\npprof localhost:6053\n}\nc {\npprof :6060 {\nblock 7\n}\n}", opt())
	mux := http.NewServeMux()
	others := 0
	for _, e := range b.Config.Endpoints {
		if e.Addr == "localhost:6053" {
			mux.Handle(e.Path, e.Handler)
		} else {
			others++
		}
	}
	if others != len(handlers()) {
		t.Errorf("%d paths at :6060", others)
	}
	for path, want := range map[string]int{"/debug/pprof": 302, "/debug/pprof/": 200, "/debug/pprof/heap": 200, "/debug/pprof/cmdline": 200,
		"/debug/pprof/symbol": 200, "/debug/pprof/nothing": 404, "/": 404} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}

func TestBlock(t *testing.T) {
	b := chaintest.New(t, ". {\npprof {\nblock\n}\n}", opt())
	b.Start()
	defer runtime.SetBlockProfileRate(0)
	done := make(chan bool)
	go func() { done <- true }()
	<-done
	w := httptest.NewRecorder()
	handlers()["/debug/pprof/"].ServeHTTP(w, httptest.NewRequest("GET", "/debug/pprof/block?debug=1", nil))
	if w.Code != 200 || !strings.Contains(w.Body.String(), "cycles/second") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestRefused(t *testing.T) {
	for _, text := range []string{"pprof\npprof", "pprof 6053", "pprof :1 :2", "pprof {\nblock x\n}", "pprof {\nblock 1 2\n}", "pprof {\nmutex\n}"} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", opt()); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
}
