package server

import (
	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// SelfName is the name whose TXT record of class CH a process with a Self text answers by itself: whoever asks learns that
// this process, and not another behind the same address, takes queries and walks them.
const SelfName = "self.godwit."

// Self answers for SelfName.
type Self struct {
	name  wire.Name
	chain *chain.Chain
}

// NewSelf makes the answerer; text is at most 255 octets.
func NewSelf(text string) *Self {
	name, err := wire.ParseName(SelfName)
	if err != nil {
		return nil // a constant, and a test asks for it
	}
	var b chain.Builder
	b.Add("self", selfHandler(append([]byte{byte(len(text))}, text...)))
	return &Self{name: name, chain: b.Chain()}
}

// of gives the chain of a query that asks for the process itself; nil for every other. A nil Self has none.
func (s *Self) of(q *chain.Query) *chain.Chain {
	if s == nil || q.Class != wire.ClassCH || q.Type != wire.TypeTXT || string(q.Name()) != string(s.name) {
		return nil
	}
	return s.chain
}

// selfHandler is the TXT record's data.
type selfHandler []byte

// Serve answers at once, from nothing but the text.
func (h selfHandler) Serve(q *chain.Query) chain.Outcome {
	q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA)
	q.Reply.Append(wire.Answer, q.OriginalName(), wire.TypeTXT, wire.ClassCH, 0, h)
	return chain.Answered
}
