// Package trace sends what happens to queries to a collector of traces, Zipkin's or Datadog's.
//
//	trace [ENDPOINT-TYPE] [ENDPOINT] {
//	    every AMOUNT
//	    service NAME
//	    client_server [BOOL]
//	    datadog_analytics_rate [RATE]
//	    zipkin_max_backlog_size SIZE
//	    zipkin_max_batch_size SIZE
//	    zipkin_max_batch_interval DURATION
//	}
package trace

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/godwit-dns/godwit/chain"
)

// Trace is the handler. It is no chain.Repeater: an answer that is given again without a walk would not be counted, and
// not every Nth query would be traced.
type Trace struct {
	every    uint64 // one of so many queries is traced; 0 is none
	steps    bool   // a span for each handler too
	env      *chain.Env
	reporter *reporter
	upstream func(q *chain.Query) string // who forward asked; nil when nobody says
	last     string                      // the directive at the end of the chain
	count    atomic.Uint64               // queries seen, by all loops: it decides who is the Nth
}

var _ chain.Handler = (*Trace)(nil)

// Serve counts the query and follows it when its turn has come. A question that a traced query asks is part of its trace.
func (t *Trace) Serve(q *chain.Query) chain.Outcome {
	chosen := t.every == 1 || t.every > 0 && t.count.Add(1)%t.every == 0
	if q.Own() {
		return t.serveOwn(q, chosen)
	}
	if !chosen {
		return chain.Next
	}
	return q.Watch(t.begin(q))
}

func (t *Trace) serveOwn(q *chain.Query, chosen bool) chain.Outcome {
	var above *walk
	if asker := q.Asker(); asker != nil {
		above, _ = asker.Watcher().(*walk)
	}
	if above != nil && above.trace.sent { // its own asker did not wait
		above = nil
	}
	switch {
	case above == nil && chosen:
		return q.Watch(t.begin(q))
	case above == nil || !t.steps && !chosen:
		return chain.Next
	}
	w := &walk{t: above.t, trace: above.trace, parent: above.current()}
	if above.t.steps {
		w.enter("trace")
	} else {
		w.enterTop(q)
	}
	return q.Watch(w)
}

// trace is all that becomes of one client's query. It is its loop's until it is sent, and then nobody changes it.
type trace struct {
	high, low uint64        // its identifier; high is 0 where it has 64 bits
	wall      time.Time     // when it began
	began     time.Duration // the same by the process's clock
	spans     []span
	sent      bool
}

// span is a piece of time.
type span struct {
	trace      *trace
	id, parent uint64 // parent is 0 for none
	name       string
	start      time.Duration // since the trace began
	took       time.Duration // negative while it lasts
	peer       string        // the server that was asked; empty for none
	facts      *facts        // nil but for a query's
}

// facts are what the span of a query says of it.
type facts struct{ name, kind, rcode, proto, remote, failure string }

// walk follows one query: the client's, or one that follows from it.
type walk struct {
	t      *Trace
	trace  *trace
	parent uint64
	root   bool
	open   []int // the spans that last, the innermost at the end
}

var _ chain.Watcher = (*walk)(nil)

// begin starts a trace with the query's span.
func (t *Trace) begin(q *chain.Query) *walk {
	tr := &trace{low: newID(), wall: t.env.Wall(), began: t.env.Clock(), spans: make([]span, 0, 8)}
	if !t.steps { // Datadog's have 128 bits and begin with the time
		tr.high = uint64(tr.wall.Unix()) << 32
	}
	w := &walk{t: t, trace: tr, root: true}
	w.enterTop(q)
	tr.spans[0].id = tr.low
	return w
}

// newID gives a number that no other trace or span is likely to have. Its first bit is free: not every collector takes it.
func newID() uint64 { return rand.Uint64()>>1 | 1 }

// id is the trace's identifier as metadata has it.
func (tr *trace) id() string {
	if tr.high == 0 {
		return fmt.Sprintf("%016x", tr.low)
	}
	return fmt.Sprintf("%016x%016x", tr.high, tr.low)
}

// enterTop begins the span of a query.
func (w *walk) enterTop(q *chain.Query) {
	w.enter("servedns")
	w.trace.spans[w.open[0]].facts = &facts{proto: q.Proto.String(), remote: remote(q)}
}

func remote(q *chain.Query) string {
	if addr := q.Client.Addr(); addr.IsValid() {
		return addr.Unmap().String()
	}
	return ""
}

func (w *walk) enter(name string) {
	tr := w.trace
	if tr.sent { // a question that its asker did not wait for
		return
	}
	tr.spans = append(tr.spans, span{trace: tr, id: newID(), parent: w.current(), name: name, start: w.now(), took: -1})
	w.open = append(w.open, len(tr.spans)-1)
}

func (w *walk) leave() {
	if w.trace.sent || len(w.open) == 0 {
		return
	}
	s := &w.trace.spans[w.open[len(w.open)-1]]
	s.took = w.now() - s.start
	w.open = w.open[:len(w.open)-1]
}

// current is the span that whatever begins now is part of.
func (w *walk) current() uint64 {
	if len(w.open) == 0 {
		return w.parent
	}
	return w.trace.spans[w.open[len(w.open)-1]].id
}

func (w *walk) now() time.Duration { return w.t.env.Clock() - w.trace.began }

// Enter begins a handler's span.
func (w *walk) Enter(_ *chain.Query, name string) {
	if w.t.steps {
		w.enter(name)
	}
}

// Leave ends it.
func (w *walk) Leave(q *chain.Query, name string) {
	if !w.t.steps || w.trace.sent || len(w.open) == 0 {
		return
	}
	last := len(w.trace.spans) - 1
	if name == "forward" && w.t.upstream != nil && w.open[len(w.open)-1] == last { // and not a forward below it
		w.trace.spans[last].peer = w.t.upstream(q)
	}
	w.leave()
}

// End ends the query's span, and with it the trace of a client's query.
func (w *walk) End(q *chain.Query, out chain.Outcome) {
	if w.trace.sent || len(w.open) == 0 {
		return
	}
	if f := w.trace.spans[w.open[0]].facts; f != nil {
		f.name, f.kind, f.rcode = q.Name().String(), q.Type.String(), q.ResponseCode(out).String()
		f.failure = w.failure(q)
	}
	w.leave()
	if !w.root {
		return
	}
	for i := range w.trace.spans { // of questions that go on without their asker
		if s := &w.trace.spans[i]; s.took < 0 {
			s.took = w.now() - s.start
		}
	}
	w.trace.sent = true
	w.t.reporter.add(w.trace.spans, q.Shard())
}

// failure is the query's error in CoreDNS's words, empty for none.
func (w *walk) failure(q *chain.Query) string {
	switch {
	case q.Err == nil:
		return ""
	case errors.Is(q.Err, chain.ErrNoNext):
		return "plugin/" + w.t.last + ": " + q.Err.Error()
	}
	return q.Err.Error()
}

// traceID is the metadata trace/traceid of a query that is traced.
func traceID(q *chain.Query) string {
	if w, ok := q.Watcher().(*walk); ok && w.root {
		return w.trace.id()
	}
	return ""
}
