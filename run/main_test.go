package run

import (
	"context"
	"runtime"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func goroutines() int { return runtime.NumGoroutine() }

// runServer turns the process's loops until the function it gives is called.
func runServer(t *testing.T, p *process) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.server.Run(ctx)
	}()
	return func() {
		cancel()
		<-ended
		p.endpoints.closeAll()
	}
}
