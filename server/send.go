package server

import (
	"errors"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// Complete makes q's reply ready for the fitter, whatever transport it leaves by, and reports whether there is one to
// send. A failure becomes a reply of its code alone; nothing has been written for it before.
func Complete(q *chain.Query, out chain.Outcome) bool {
	switch out {
	case chain.Dropped, chain.Streamed:
		return false
	case chain.Failed:
		if q.Chain() == nil || q.Chain().Empty() || errors.Is(q.Err, chain.ErrPanic) { // no directive has counted it
			if t, ok := q.Router().(*Table); ok && t.Dropped != nil {
				t.Dropped(q)
			}
		}
		options, own := q.Reply.Options, q.Reply.OwnOPT
		q.Reply.Begin(&q.Request, q.Rcode, 0)
		q.Reply.Options, q.Reply.OwnOPT = options, own
	}
	if q.Renamed() && !q.Reply.AnswersOriginal(&q.Request) {
		// No handler put the client's question back, so it is done here: a reply never answers another question.
		if err := q.RestoreQuestion(nil); err != nil {
			q.Fail(wire.ServFail, err)
			q.Reply.Begin(&q.Request, q.Rcode, 0)
			return q.RestoreQuestion(nil) == nil
		}
	}
	return true
}

// fit appends the finished message for q's client to out (wire.Fitter.Append).
func (w *worker) fit(out []byte, q *chain.Query, limit int) []byte {
	w.echoed = nil
	if t, ok := q.Router().(*Table); ok && t.Config != nil {
		w.echoed = t.Config.Echoed
	}
	return w.fitter.Append(out, &q.Reply, &q.Request, limit, 0)
}
