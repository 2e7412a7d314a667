// Package loadbalance changes the order of a reply's records, so that clients which take the first share their load.
//
//	loadbalance [round_robin] {
//	    prefer CIDR...
//	}
//	loadbalance weighted WEIGHTFILE {
//	    reload DURATION
//	}
package loadbalance

import (
	"net/netip"
	"slices"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// LoadBalance is the handler.
type LoadBalance struct {
	weights *weights // nil: round robin
	prefer  []netip.Prefix
	scratch []scratch // one for each loop
}

// scratch is a loop's tables, on cache lines of their own.
type scratch struct {
	p wire.Permutation
	_ [64]byte
}

var (
	_ chain.Handler  = (*LoadBalance)(nil)
	_ chain.Replier  = (*LoadBalance)(nil)
	_ chain.Repeater = (*LoadBalance)(nil)
)

// Serve lets every query pass.
func (*LoadBalance) Serve(*chain.Query) chain.Outcome { return chain.Next }

// Reply changes the order of a positive reply. One that does not parse is left as it is.
func (l *LoadBalance) Reply(q *chain.Query, below chain.Outcome) chain.Outcome {
	m := &q.Reply
	if below != chain.Answered || !ordered(m) {
		return below
	}
	t, _ := q.Original()
	if t == wire.TypeAXFR || t == wire.TypeIXFR { // RFC 5936, 2.2: the order of a transfer means something
		return below
	}
	if list := l.inPlace(m); list.Len() > 0 {
		random := wire.Random(q.Worker().Rand.Uint64())
		list.Shuffle(&random, list.Within(q.Limit())) // the others will be cut off
		return below
	}
	p := &l.scratch[q.Shard()].p
	if p.Open(m) != nil {
		return below
	}
	if l.weights == nil {
		for s := wire.Answer; s <= wire.Additional; s++ {
			roundRobin(q, p.Items(s))
		}
	} else if t == wire.TypeA || t == wire.TypeAAAA || t == wire.TypeSRV {
		l.weights.order(q, p, wire.Answer)
		l.weights.order(q, p, wire.Additional)
	}
	if len(l.prefer) > 0 {
		l.preferred(p, wire.Answer)
		l.preferred(p, wire.Additional)
	}
	_ = q.Rearrange(p) // on an error the reply stays as it was
	return below
}

// ordered reports whether there is an order to change in a reply.
func ordered(m *wire.Reply) bool {
	return m.Rcode == wire.NoError && (m.Count(wire.Answer) > 1 || m.Count(wire.Authority) > 1 || m.Count(wire.Additional) > 1)
}

// inPlace gives the addresses of a reply that has nothing else to put into another order, which is most of them.
func (l *LoadBalance) inPlace(m *wire.Reply) (none wire.Addresses) {
	if l.weights != nil || l.prefer != nil || m.Count(wire.Authority) > 1 || m.Count(wire.Additional) > 1 {
		return none
	}
	return m.Addresses()
}

// Repeat lets replies be repeated that have no order to change, or only that of their addresses.
func (l *LoadBalance) Repeat(q *chain.Query, r *chain.Repeat) bool {
	if !ordered(&q.Reply) {
		return true
	}
	r.Shuffled = true
	return q.Type != wire.TypeAXFR && q.Type != wire.TypeIXFR && l.inPlace(&q.Reply).Len() > 1
}

// group is where a type belongs in a section: CNAMEs lead to what follows them, so they are first.
func group(t wire.Type) int {
	switch t {
	case wire.TypeCNAME:
		return 0
	case wire.TypeA, wire.TypeAAAA:
		return 2
	case wire.TypeMX:
		return 3
	}
	return 1
}

func byGroup(a, b wire.Item) int { return group(a.Type) - group(b.Type) }

// groups sorts the items by group and gives the addresses and the mail exchangers, each a part of items.
func groups(items []wire.Item) (addresses, exchangers []wire.Item) {
	if !slices.IsSortedFunc(items, byGroup) {
		slices.SortStableFunc(items, byGroup)
	}
	from := 0
	for from < len(items) && group(items[from].Type) < 2 {
		from++
	}
	to := from
	for to < len(items) && group(items[to].Type) == 2 {
		to++
	}
	return items[from:to], items[to:]
}

func roundRobin(q *chain.Query, items []wire.Item) {
	if len(items) < 2 {
		return
	}
	addresses, exchangers := groups(items)
	shuffle(q, addresses)
	shuffle(q, exchangers)
}

func shuffle(q *chain.Query, items []wire.Item) {
	for i := len(items) - 1; i > 0; i-- {
		j := q.Worker().Rand.IntN(i + 1)
		items[i], items[j] = items[j], items[i]
	}
}

// preferred puts the addresses in the preferred networks first, in the order of the networks, and what is neither CNAME,
// address nor mail exchanger last.
func (l *LoadBalance) preferred(p *wire.Permutation, s wire.Section) {
	slices.SortStableFunc(p.Items(s), func(a, b wire.Item) int { return l.rank(p, &a) - l.rank(p, &b) })
}

func (l *LoadBalance) rank(p *wire.Permutation, i *wire.Item) int {
	n := len(l.prefer)
	switch group(i.Type) {
	case 0:
		return -1
	case 1:
		return n + 2
	case 3:
		return n + 1
	}
	a := address(p.Data(i))
	for at, network := range l.prefer {
		if network.Contains(a) {
			return at
		}
	}
	return n
}

// address reads the data of an A or AAAA record. What has another size is no address.
func address(data []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(data)
	return a.Unmap()
}
