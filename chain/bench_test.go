package chain

import (
	"testing"

	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/wire"
)

// short is a router and a sink for a chain.
type short struct{ c *Chain }

func (s short) Route(*Query) *Chain             { return s.c }
func (short) Server() string                    { return "dns://:53" }
func (short) Finish(*Query, Outcome)            {}
func (short) Serve(*Query) Outcome              { return Next }
func (short) Reply(_ *Query, o Outcome) Outcome { return o }

// BenchmarkWalk takes a query down four handlers that look at its reply, to one that answers, and up again.
func BenchmarkWalk(b *testing.B) {
	l, err := loop.New(0, loop.System())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(l.Close)
	w := NewWorker(l, 1)
	var builder Builder
	for range 4 {
		builder.Add("above", short{})
	}
	builder.Add("answer", serve(answer))
	s := short{builder.Chain()}
	packet := new(wire.Request)
	packet.SetQuestion(wire.MustName("www.example.org."), wire.TypeA)
	msg := packet.AppendQuery(nil, 1, 1232)
	b.ReportAllocs()
	for b.Loop() {
		q := w.Get()
		q.Parse(msg)
		w.Start(q, s, s)
	}
}
