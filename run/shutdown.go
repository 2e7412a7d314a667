package run

import (
	"context"
	"os"
	"sync"
	"syscall"
	"time"
)

// After the lameduck the process goes on until clients have stopped asking: no packet for quietFor, at most drainFor.
const (
	quietFor = time.Second
	drainFor = 10 * time.Second
)

// shutdown ends the process in order: not ready at once, lameduck, serve until it is quiet, stop. It gives the exit code.
func (p *process) shutdown(sig os.Signal, signals <-chan os.Signal) int {
	p.env.Log.Info(signalName(sig) + ": Shutting down servers then terminating")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.drain(ctx)
	}()
	for {
		select {
		case <-done:
			return 0
		case again := <-signals:
			switch {
			case again == syscall.SIGINT && sig == syscall.SIGINT:
				p.env.Log.Info("SIGINT: Force quit")
				os.Exit(2)
			case again == syscall.SIGQUIT:
				os.Exit(0)
			}
		}
	}
}

func signalName(sig os.Signal) string {
	if sig == syscall.SIGINT {
		return "SIGINT"
	}
	return "SIGTERM"
}

func (p *process) drain(ctx context.Context) {
	var hooks sync.WaitGroup
	for _, f := range p.current.Config.Shutdowns {
		hooks.Go(func() { f(ctx) })
	}
	hooks.Wait()
	for end := time.Now().Add(drainFor); p.server.Quiet() < quietFor && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	if p.retiring != nil {
		<-p.retiring
	}
	p.current.stop(true)
}
