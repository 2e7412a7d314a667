package server

import (
	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// An answer of several addresses may be one that comes in another order each time (chain.Repeat.Shuffled). A short one is
// kept as any other, and its records change places in what is sent. Of one that is long or had to be cut only what is
// around its records is kept: they are drawn from a deck of all addresses there are.

// order is where in an answer the records are that change places, and where they are drawn from, if they are.
type order struct {
	first, octets uint16
	from          stock
}

// stock is where a memo's records are drawn from.
type stock struct {
	deck *wire.Deck
	n    int // how many are sent
}

// maxAround is how many octets may follow the drawn records of an answer: those of an OPT without options.
const maxAround = 11

// drawn reports whether the records at k.first are not in the memo but drawn.
func (k *memo) drawn() bool { return k.size() < int(k.first)+int(k.octets) }

// dealt is how many octets the memo's deck has.
func (k *memo) dealt() int {
	if k == nil || k.renewal == nil || k.renewal.stock.deck == nil {
		return 0
	}
	return k.renewal.stock.deck.Size()
}

// several finds the records that change places, and gives the part of the answer that is to be kept. It reports false when
// that can't be done.
func (m *repeats) several(q *chain.Query, r *chain.Repeat, packet, answer []byte) (kept []byte, o order, ok bool) {
	first := wire.HeaderSize + len(q.OriginalName()) + 4
	list, all := wire.AddressesOf(answer, first), q.Reply.Addresses()
	section := list.Octets()
	if list.Len() == 0 {
		return nil, o, false
	}
	o.first, o.octets = uint16(first), uint16(len(section))
	if list.Len() == all.Len() && len(packet)+len(answer) <= maxRepeat {
		return answer, o, true
	}
	rest := answer[first+len(section):]
	if !r.Lasting || len(rest) > maxAround || m.decks+len(all.Octets()) > maxDecks ||
		q.Reply.Count(wire.Authority)+q.Reply.Count(wire.Additional) > 0 {
		return nil, o, false
	}
	o.from = stock{deck: wire.NewDeck(all, &m.random), n: list.Len()}
	return append(append([]byte(nil), answer[:first]...), rest...), o, true
}

// shuffle puts the records of a kept answer into another order where it was written.
func (m *repeats) shuffle(k *memo, answer []byte) {
	list := wire.AddressesIn(answer[k.first:][:k.octets])
	list.Shuffle(&m.random, list.Len())
}

// draw puts records between what was kept of an answer, which begins at octet at of out.
func (m *repeats) draw(k *memo, out []byte, at int) []byte {
	var around [maxAround]byte
	from, first := &k.renewal.stock, at+int(k.first)
	rest := around[:copy(around[:], out[first:])]
	return append(from.deck.Append(out[:first], &m.random, from.n), rest...)
}

// append appends what is kept of the answer to a packet.
func (k *memo) append(out, packet []byte) []byte {
	out = append(append(out, packet[:2]...), k.header()...)
	return append(append(out, packet[wire.HeaderSize:k.same]...), k.rest()...)
}
