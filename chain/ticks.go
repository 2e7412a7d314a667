package chain

import (
	"context"
	"time"

	"github.com/godwit-dns/godwit/loop"
)

// Ticks gives a channel that gets a value every d of the loops' time until ctx is done: for tasks (Setup.Go) that look at
// a file now and then. A tick that comes while the last one was not taken is lost. The channel is never closed.
func (e *Env) Ticks(ctx context.Context, d time.Duration) <-chan struct{} {
	t := &ticker{every: d, c: make(chan struct{}, 1)}
	w := e.Loop(0)
	w.Loop.Post(loop.TaskFunc(func(l *loop.Loop) { l.After(&t.timer, d, t) }))
	context.AfterFunc(ctx, func() {
		w.Loop.Post(loop.TaskFunc(func(l *loop.Loop) { l.Stop(&t.timer) }))
	})
	return t.c
}

type ticker struct {
	timer loop.Timer
	every time.Duration
	c     chan struct{}
}

// Fire sends a tick and starts the timer again.
func (t *ticker) Fire(l *loop.Loop) {
	select {
	case t.c <- struct{}{}:
	default:
	}
	l.After(&t.timer, t.every, t)
}
