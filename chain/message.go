package chain

import (
	"context"
	"errors"

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

// errPoolFull is the failure of a query that found every worker of its pool busy and the queue full.
var errPoolFull = errors.New("all workers are busy")

// Blocking makes a handler of a function that may block: it runs in a pool of at most limit goroutines, started when
// needed and ended when idle, with as many queries again waiting. A nil message with a nil error is Next.
func Blocking(limit int, f func(ctx context.Context, m *dns.Msg) (*dns.Msg, error)) Handler {
	return &blocking{slots: make(chan struct{}, limit), f: f}
}

type blocking struct {
	slots chan struct{}
	f     func(ctx context.Context, m *dns.Msg) (*dns.Msg, error)
}

// Serve parks the query and runs the function elsewhere.
func (b *blocking) Serve(q *Query) Outcome {
	m, err := q.Message()
	if err != nil {
		return q.Fail(wire.FormErr, err)
	}
	select {
	case b.slots <- struct{}{}:
	default:
		return q.Fail(wire.ServFail, errPoolFull)
	}
	t, ok := q.Park()
	if !ok {
		<-b.slots
		return Failed
	}
	go func() { // joined by the ticket: it ends with the function
		defer func() { <-b.slots }()
		defer func() {
			if v := recover(); v != nil {
				t.Post(Event{Kind: EventResult, Err: ErrPanic})
			}
		}()
		reply, err := b.f(context.Background(), m)
		t.Post(Event{Kind: EventResult, Value: reply, Err: err})
	}()
	return Parked
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
