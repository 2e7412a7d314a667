package server

import (
	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// Table is what one listener knows of one configuration: its blocks by zone. It is immutable once published; a query
// keeps the table it entered with, and with it its configuration.
type Table struct {
	Label string // "dns://:53", the server label of metrics
	// AnyClass lets classes other than IN in: a block of the listener forwards, or answers CH.
	AnyClass bool
	Config   *chain.Config
	// Self answers for the process; nil answers nothing.
	Self *Self
	// Dropped is told of every query that no block takes.
	Dropped func(q *chain.Query)

	zones    wire.Index[[]*chain.Chain] // by zone, in the order of the Corefile
	root     []*chain.Chain             // the root's of them: most names end there
	filtered bool                       // some block has filters: which one takes a query is not only the packet's doing
	depths   uint64                     // bit n: some zone has n labels; bit 63 also stands for more
}

// Add enters a block's chain under one of its zones.
func (t *Table) Add(zone wire.Name, c *chain.Chain) {
	chains, _ := t.zones.Get(zone)
	t.zones.Set(zone, append(chains, c))
	t.filtered = t.filtered || len(c.Filters) > 0
	t.root, _ = t.zones.Get(wire.Root)
	t.depths |= 1 << min(zone.Labels(), 63)
}

// Server is the listener's label.
func (t *Table) Server() string { return t.Label }

// Route gives the block whose zone is the longest suffix of the name and whose filters all agree. A DS query for a
// zone's own name belongs to its parent (RFC 4035, 3.1.4.1), so it goes to the shortest matching block, as in CoreDNS:
// the root's only when there is no other.
func (t *Table) Route(q *chain.Query) *chain.Chain {
	if q.Class != wire.ClassIN {
		if c := t.Self.of(q); c != nil || !t.AnyClass {
			return c
		}
	}
	var forDS *chain.Chain
	name, labels := q.Name(), q.Labels()
	if t.depths == 1 { // there are the root's blocks alone
		labels = 0
	}
	for ; ; labels-- {
		if labels == 0 || t.depths&(1<<min(labels, 63)) != 0 {
			chains := t.root
			if labels > 0 {
				chains, _ = t.zones.Get(name)
			}
			for _, c := range chains {
				if c.Empty() {
					return c
				}
				if !passes(c, q) {
					continue
				}
				if q.Type != wire.TypeDS {
					return c
				}
				if labels > 0 || forDS == nil {
					forDS = c
				}
			}
		}
		if labels == 0 {
			return forDS
		}
		name = name.Parent()
	}
}

func passes(c *chain.Chain, q *chain.Query) bool {
	for _, f := range c.Filters {
		if !f(q) {
			return false
		}
	}
	return true
}
