package timeouts

import (
	"testing"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
)

func TestTimeouts(t *testing.T) {
	opt := chaintest.Options{Specs: []chain.Spec{Spec}}
	for text, want := range map[string]chain.Timeouts{
		"timeouts {\nread 5s\nwrite 1m\nidle 24h\n}":            {Read: 5 * time.Second, Write: time.Minute, Idle: 24 * time.Hour},
		"timeouts {\nread 7\n}\ntimeouts {\nidle 9\nidle 10\n}": {Read: 7 * time.Second, Idle: 10 * time.Second},
		"timeouts {\nmaxtcpqueries 128\n}":                      {Queries: 128},
		"timeouts {\nmaxtcpqueries 128\nmaxtcpqueries -1\n}":    {},
	} {
		b := chaintest.New(t, ". {\n"+text+"\n}", opt)
		if got := b.Config.Blocks[0].Timeout; got != want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
	for _, text := range []string{"timeouts", "timeouts {\n}", "timeouts 5s", "timeouts {\nread\n}", "timeouts {\nread 1s 2s\n}", "timeouts {\nread 999ms\n}",
		"timeouts {\nread 25h\n}", "timeouts {\nread soon\n}", "timeouts {\nsleep 5s\n}", "timeouts {\nmaxtcpqueries 0\n}",
		"timeouts {\nmaxtcpqueries -2\n}", "timeouts {\nmaxtcpqueries many\n}"} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", opt); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
}
