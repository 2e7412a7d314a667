package run

import (
	"cmp"
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
		p.host.Leaving(sig)
		p.drain(func() { p.lameduck(ctx) })
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

// lameduck runs what directives do before the end, all at once.
func (p *process) lameduck(ctx context.Context) {
	var hooks sync.WaitGroup
	for _, f := range p.current.Config.Shutdowns {
		hooks.Go(func() { f(ctx) })
	}
	hooks.Wait()
}

// drain serves until clients have stopped asking and everything is answered, and stops the configurations. First, which may
// be nil, is done before.
func (p *process) drain(first func()) {
	if first != nil {
		first()
	}
	quiet, limit := cmp.Or(p.opt.QuietFor, quietFor), cmp.Or(p.opt.DrainFor, drainFor)
	for end := time.Now().Add(limit); !p.drained(quiet) && time.Now().Before(end); {
		time.Sleep(min(50*time.Millisecond, quiet/4))
	}
	if p.retiring != nil {
		<-p.retiring
	}
	p.current.stop(true)
}

// drained reports whether no packet has come for a while and no query waits for its answer.
func (p *process) drained(quiet time.Duration) bool {
	if p.server.Quiet() < quiet {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), quiet)
	defer cancel()
	return p.server.InFlight(ctx, p.current.Config) == 0
}
