package reload

import (
	"testing"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
)

func TestReload(t *testing.T) {
	opt := chaintest.Options{Specs: []chain.Spec{Spec}}
	for text, want := range map[string][2]time.Duration{
		"reload":              {30 * time.Second, 15 * time.Second},
		"reload 10s":          {10 * time.Second, 5 * time.Second},
		"reload 2s 0":         {2 * time.Second, 0},
		"reload 1m 1s":        {time.Minute, time.Second},
		"reload 1m 1h":        {time.Minute, 30 * time.Second},
		"reload 5s\nreload x": {5 * time.Second, 2500 * time.Millisecond},
	} {
		b := chaintest.New(t, ". {\n"+text+"\n}", opt)
		if got := [2]time.Duration{b.Config.ReloadEvery, b.Config.ReloadJitter}; got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	for _, text := range []string{"reload 1s", "reload 10", "reload 10s 500ms", "reload 10s -1s", "reload 10s 1", "reload 1m 1s 1s"} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", opt); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
}
