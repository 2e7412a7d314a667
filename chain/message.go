package chain

import (
	"context"
	"errors"
	"sync"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/wire"
)

// Message decodes the query for handlers that work on text or on rare record types. It allocates, so no handler of the
// default Corefiles may call it.
func (q *Query) Message() (*dns.Msg, error) {
	m := new(dns.Msg)
	b := q.AppendQuery(make([]byte, 0, 512), q.ID, q.EDNS.Size)
	if err := m.Unpack(b); err != nil {
		return nil, err
	}
	return m, nil
}

// ReplyMessage decodes the reply as it stands.
func (q *Query) ReplyMessage() (*dns.Msg, error) {
	m := new(dns.Msg)
	if err := m.Unpack(q.Reply.Bytes()); err != nil {
		return nil, err
	}
	return m, nil
}

// SetReplyMessage makes m the reply. Its question must be the query's.
func (q *Query) SetReplyMessage(m *dns.Msg) error {
	m.Compress = false
	b, err := m.Pack()
	if err != nil {
		return err
	}
	return q.Reply.Adopt(b, &q.Request)
}

// errPoolFull is the failure of a query that found every goroutine of its pool busy and the queue full.
var errPoolFull = errors.New("all workers are busy")

// errNoReturn is the failure of a query whose function ended its goroutine.
var errNoReturn = errors.New("the function did not return")

// Blocking makes a handler of a function that may block: it runs on at most limit goroutines, started when needed and
// ended when idle, with as many queries again waiting; more are SERVFAIL. f must end soon after its context, which ends
// with the configuration. A nil message with a nil error is Next.
func Blocking(limit int, f func(ctx context.Context, m *dns.Msg) (*dns.Msg, error)) Handler {
	b := &blocking{limit: limit, f: f}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

type blocking struct {
	limit  int
	f      func(ctx context.Context, m *dns.Msg) (*dns.Msg, error)
	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu      sync.Mutex
	running int           // goroutines; guarded by mu
	queue   []blockingJob // guarded by mu
}

type blockingJob struct {
	t Ticket
	m *dns.Msg
}

// Serve parks the query and runs the function elsewhere.
func (b *blocking) Serve(q *Query) Outcome {
	m, err := q.Message()
	if err != nil {
		return q.Fail(wire.FormErr, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running >= b.limit && len(b.queue) >= b.limit || b.ctx.Err() != nil {
		return q.Fail(wire.ServFail, errPoolFull)
	}
	t, ok := q.Park()
	if !ok {
		return Failed
	}
	job := blockingJob{t, m}
	if b.running >= b.limit {
		b.queue = append(b.queue, job)
		return Parked
	}
	b.running++
	b.wait.Go(func() { b.work(job) })
	return Parked
}

// work does a job, and has the next one done however it ends.
func (b *blocking) work(job blockingJob) {
	defer b.next()
	b.do(job)
}

func (b *blocking) next() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		b.running--
		return
	}
	job := b.queue[0]
	b.queue = b.queue[:copy(b.queue, b.queue[1:])]
	b.wait.Go(func() { b.work(job) })
}

func (b *blocking) do(job blockingJob) {
	ev := Event{Kind: EventResult, Err: errNoReturn}
	defer func() {
		if recover() != nil {
			ev.Err = ErrPanic
		}
		job.t.Post(ev)
	}()
	m, err := b.f(b.ctx, job.m)
	ev.Value, ev.Err = m, err
}

// stop ends the pool with its configuration.
func (b *blocking) stop(bool) {
	b.cancel()
	b.wait.Wait()
}

// Resume takes the function's reply.
func (b *blocking) Resume(q *Query, ev Event) Outcome {
	reply, _ := ev.Value.(*dns.Msg)
	switch {
	case ev.Err != nil:
		return q.Fail(wire.ServFail, ev.Err)
	case reply == nil:
		return Next
	}
	if err := q.SetReplyMessage(reply); err != nil {
		return q.Fail(wire.ServFail, err)
	}
	return Answered
}

// RunOn runs f on the worker's loop and waits for it, or for ctx. It must not be called from a loop.
func (w *Worker) RunOn(ctx context.Context, f func(w *Worker)) error {
	done := make(chan struct{})
	w.Loop.Post(loop.TaskFunc(func(*loop.Loop) {
		f(w)
		close(done)
	}))
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
