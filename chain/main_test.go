package chain

import (
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve is a handler of one function.
type serve func(q *Query) Outcome

func (f serve) Serve(q *Query) Outcome { return f(q) }

// full is a handler that does everything.
type full struct {
	serve  func(q *Query) Outcome
	reply  func(q *Query, below Outcome) Outcome
	resume func(q *Query, ev Event) Outcome
}

func (f *full) Serve(q *Query) Outcome {
	if f.serve == nil {
		return Next
	}
	return f.serve(q)
}

func (f *full) Reply(q *Query, below Outcome) Outcome {
	if f.reply == nil {
		return below
	}
	return f.reply(q, below)
}

func (f *full) Resume(q *Query, ev Event) Outcome { return f.resume(q, ev) }

// answer is the plainest handler.
func answer(q *Query) Outcome {
	q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA)
	return Answered
}

// bench is a worker without sockets; it is its own router and sink.
type bench struct {
	*Worker
	t      *testing.T
	now    time.Duration
	chain  *Chain
	ends   []Outcome
	rcodes []wire.Rcode
	errs   []error
	panics []any
}

func newBench(t *testing.T, handlers ...Handler) *bench {
	b := &bench{t: t}
	l, err := loop.New(0, func() time.Duration { return b.now })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	b.Worker = NewWorker(l, 1)
	b.OnPanic = func(_ *Query, v any, stack []byte) {
		if len(stack) == 0 {
			t.Error("no stack")
		}
		b.panics = append(b.panics, v)
	}
	var builder Builder
	for i, h := range handlers {
		builder.Add(string(rune('a'+i)), h)
	}
	b.chain = builder.Chain()
	return b
}

func (b *bench) Route(*Query) *Chain { return b.chain }
func (b *bench) Server() string      { return "dns://:53" }

func (b *bench) Finish(q *Query, out Outcome) {
	b.ends = append(b.ends, out)
	b.rcodes = append(b.rcodes, q.ResponseCode(out))
	b.errs = append(b.errs, q.Err)
}

// query makes a query that has not started.
func (b *bench) query(name string) *Query {
	q := b.Get()
	q.SetQuestion(wire.MustName(name), wire.TypeA)
	q.Client, q.Proto = netip.MustParseAddrPort("192.0.2.9:4242"), UDP
	return q
}

// ask starts a query and gives it.
func (b *bench) ask(name string) *Query {
	q := b.query(name)
	b.Start(q, b, b)
	return q
}

// ended checks that exactly these ends were seen, and that nothing is in flight any more.
func (b *bench) ended(want ...Outcome) {
	b.t.Helper()
	if len(b.ends) != len(want) {
		b.t.Fatalf("ended %v, want %v (errors %v, panics %v)", b.ends, want, b.errs, b.panics)
	}
	for i := range want {
		if b.ends[i] != want[i] {
			b.t.Fatalf("ended %v, want %v (errors %v, panics %v)", b.ends, want, b.errs, b.panics)
		}
	}
	if b.InFlight() != 0 || len(b.pending) != 0 || b.inside != 0 {
		b.t.Fatalf("%d in flight, %d pending, inside %d", b.InFlight(), len(b.pending), b.inside)
	}
}

// until turns the loop until ok.
func (b *bench) until(ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			b.t.Fatal("it did not happen")
		}
		b.Loop.Turn(false)
		time.Sleep(100 * time.Microsecond)
	}
}
