// Package loop finds out whether forwarded queries come back to this server, and stops forwarding while they do.
//
//	loop [exit]
//
// No RFC says how; RFC 1035, 7.1 asks a resolver to bound the work a query can cause.
package loop

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// errLoop is the failure of a probe that came back.
var errLoop = errors.New("this probe of the loop directive came back: forwarded queries return to this server")

// maxSeen is how often a probe may be seen: once when it is sent, and once more for a datagram that was doubled.
const maxSeen = 2

// Loop counts how often its own probe arrives.
type Loop struct {
	current atomic.Pointer[probe] // nil while nothing is looked for
}

var _ chain.Handler = (*Loop)(nil)

// probe is one random name that nobody else asks for.
type probe struct {
	name   wire.Name
	seen   atomic.Int32
	client atomic.Pointer[netip.AddrPort] // who sent it when it was seen too often
	found  chan struct{}                  // closed then
}

// Serve counts the probe and lets everything else pass. A probe seen too often ends here, and with it the loop.
func (l *Loop) Serve(q *chain.Query) chain.Outcome {
	if q.Type != wire.TypeHINFO {
		return chain.Next
	}
	p := l.current.Load()
	if p == nil || !wire.Equal(q.Name(), p.name) {
		return chain.Next
	}
	n := p.seen.Add(1)
	if n <= maxSeen {
		return chain.Next
	}
	if n == maxSeen+1 {
		client := q.Client
		p.client.Store(&client)
		close(p.found)
	}
	return q.Fail(wire.ServFail, errLoop)
}

// looping reports whether the probe was seen too often.
func (p *probe) looping() bool { return p.seen.Load() > maxSeen }

// text says what was found, in the words that people search for.
func (p *probe) text(address, zone string) string {
	from := "unknown"
	if c := p.client.Load(); c != nil {
		from = c.String()
	}
	return fmt.Sprintf("Loop (%s -> %s) detected for zone %q. Query: \"HINFO %s\"", from, address, zone, p.name)
}
