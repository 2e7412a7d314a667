package chain

// MessageWriter sends whole messages, one after the other, to the client of a streamed query. WriteMessage blocks until
// the connection has taken the message, whose bytes may then be reused; its error means that the client is gone.
type MessageWriter interface {
	WriteMessage(msg []byte) error
}

// Streamer is what a transport's Return.Socket is when its connection can carry several messages for one query.
type Streamer interface {
	// Stream runs f on a goroutine of its own, which owns the connection's output until f returns.
	Stream(f func(w MessageWriter) error)
}

// CanStream reports whether the query's transport can carry several messages.
func (q *Query) CanStream() bool {
	_, ok := q.Back.Socket.(Streamer)
	return ok && !q.Own()
}

// Stream hands the connection to f, on a goroutine of its own. The query ends with what Stream returns, so f must have
// copied all it needs of it.
func (q *Query) Stream(f func(w MessageWriter) error) Outcome {
	q.Back.Socket.(Streamer).Stream(f)
	return Streamed
}
