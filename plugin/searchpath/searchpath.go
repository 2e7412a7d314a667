// Package searchpath finishes the walk over a search list that a pod's stub resolver has begun: it answers the first name
// of the walk with what the stub would have found at its end.
//
//	searchpath [CLUSTER_DOMAIN] {
//	    node NAME
//	    resolv_conf FILE
//	    ...
//	}
//
// # What is never done
//
// A stub gets the addresses that its own walk would have given, or it walks by itself. So only those walks are finished
// which this very pod has been seen to make for this very name (seen.go): a name that was spelled out in full, the end of
// another walk, or a search list unlike the one that is expected never qualify. And since nobody can tell from a query
// which stub sent it, a walk is finished only where all of them agree (walk.go).
//
// # A query's way
//
//  1. Reply looks at queries on their way up, when the block has answered: names that exist cost a look at the client and
//     at three suffixes.
//  2. One that does not exist in the client's first suffix is looked up among the walks that were seen.
//  3. The candidates are asked for through the whole server, one after the other (walk.go).
//  4. What is found is written behind a CNAME record from the name that was asked.
package searchpath

import (
	"net/netip"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/cluster"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

const (
	// youngest is how long a pod is left alone at its beginning: its address may have been another's a moment ago.
	youngest = 5 * time.Second
	// maxAway is how long the watch may be without a connection. A server that vanishes without a word is noticed after 25 s
	// (cluster's keep-alives), so what is known is never older than half a minute.
	maxAway = 5 * time.Second
)

// SearchPath is the handler of one block.
type SearchPath struct {
	*core
	slot  *chain.Slot[*walk]
	loops []perLoop
}

// core is what the blocks with the same line have in common.
type core struct {
	domain wire.Name // the cluster's
	svc    wire.Name // svc in front of it
	pods   *cluster.NodePods
	lists  lists
	table  table
	seen   *seen

	completed *metrics.Counter
	alone     [reasonCount]*metrics.Counter
}

// perLoop is what belongs to a loop, on cache lines of its own.
type perLoop struct {
	idle []*walk // that no query has
	ends [256]ending
	_    [64]byte
}

// ending is where a walk has just ended: a stub asks for A and AAAA in one breath, and the second walk need not go over the
// same names. Both come in at one loop, as they leave by one socket.
type ending struct {
	key   uint64
	until time.Duration
	index int
	ttl   uint32
}

var (
	_ chain.Handler = (*SearchPath)(nil)
	_ chain.Replier = (*SearchPath)(nil)
	_ chain.Resumer = (*SearchPath)(nil)
)

// reason says why a walk was left to the stub.
type reason uint8

const (
	completable   reason = iota
	unknownClient        // no pod of this node alone has the address: hostNetwork pods, the node, strangers
	youngPod             // younger than youngest
	watchLost            // what is known of pods may be old
	podPolicy            // another dnsPolicy, or a search list or options that stubs treat differently
	otherType            // neither A nor AAAA
	validating           // DO or CD is set: a made-up CNAME would not validate
	manyDots             // ndots has the name itself asked first
	notSeen              // this pod has not been seen to walk for this name lately
	notFound             // the walk ends nowhere
	stubsDiffer          // the stubs would not agree on where it ends
	walkFailed           // a lookup failed
	walkSlow             // it took longer than patience
	overloaded           // too many queries are in flight
	reasonCount
)

// label is the reason's in the metric.
func (r reason) label() string {
	return [...]string{"", "client", "young", "watch", "policy", "type", "validating", "dots", "unseen", "nothing", "stubs", "failed",
		"slow", "busy"}[r]
}

// Serve lets every query pass.
func (*SearchPath) Serve(*chain.Query) chain.Outcome { return chain.Next }

// Reply looks at what the block answered. It notes the steps of walks, and goes the rest of one that it knows.
func (s *SearchPath) Reply(q *chain.Query, below chain.Outcome) chain.Outcome {
	name := q.Name()
	if below != chain.Answered && below != chain.Failed || q.Own() || q.Renamed() || len(name) <= len(s.domain) || !name.Under(s.domain) {
		return below
	}
	missing := below == chain.Answered && q.Reply.Rcode == wire.NXDomain
	c := s.table.find(q.Client.Addr())
	if c == nil || c.off != completable {
		if missing && name.Under(s.svc) {
			s.leave(q, c.reason())
		}
		return below
	}
	address := q.Class == wire.ClassIN && (q.Type == wire.TypeA || q.Type == wire.TypeAAAA)
	if address {
		s.seen.step(c, name, q.Labels(), q.Now())
	}
	first := len(name) > len(c.search[0]) && name.Under(c.search[0])
	switch {
	case !first:
	case missing && address:
		return s.first(q, c)
	case missing:
		s.leave(q, otherType)
	case address && (below == chain.Failed || !q.Reply.Has(wire.Answer, q.Type)): // some stubs go on from here
		s.seen.note(s.seen.key(c, name[:len(name)-len(c.search[0])]), q.Now())
	}
	return below
}

// first judges a query for a name that is missing in the client's first suffix, and begins the walk.
func (s *SearchPath) first(q *chain.Query, c *client) chain.Outcome {
	base := wire.Name(q.Name()[:len(q.Name())-len(c.search[0])])
	key, now := s.seen.key(c, base), q.Now()
	w := q.Worker()
	var why reason
	switch {
	case q.Labels()-c.labels[0]-1 >= c.ndots:
		s.seen.put(key, begun, now)
		why = manyDots
	case q.DO() || q.CD() || !q.RD():
		why = validating
	case !s.pods.Synced() || s.pods.Away() > maxAway:
		why = watchLost
	case now < c.ready:
		why = youngPod
	case w.InFlight() >= w.MaxInFlight:
		why = overloaded
	case s.seen.within(c, q.Name(), now):
		why = notSeen
	}
	if why == completable && !s.seen.begin(key, now) {
		why = notSeen
	}
	if why != completable {
		s.leave(q, why)
		return chain.Answered
	}
	return s.walk(q, c, key, len(base))
}

// leave counts a walk that is left to the stub.
func (s *SearchPath) leave(q *chain.Query, why reason) { s.alone[why].Inc(q.Shard()) }

// find gives what is known of an address.
func (t *table) find(a netip.Addr) *client {
	m := t.clients.Load()
	if m == nil {
		return nil
	}
	return (*m)[a.Unmap()]
}
