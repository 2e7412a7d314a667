// Package prometheus counts the queries of a server block and serves the metrics of the process over HTTP.
//
//	prometheus [ADDRESS] {
//	    tls WEBCONFIG
//	    runtime_metrics
//	}
package prometheus

import (
	"sync/atomic"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

// Prometheus is the handler: it counts every query of its block.
type Prometheus struct {
	env     *chain.Env
	zones   []zone
	traffic atomic.Pointer[[]counts] // replaced, never changed
}

// zone is one of the block's zones.
type zone struct {
	name wire.Name
	text string
}

// counts are the counters of one listener, zone and view.
type counts struct {
	server  string
	zone    int
	view    string
	traffic *metrics.Traffic
}

var (
	_ chain.Handler = (*Prometheus)(nil)
	_ chain.Replier = (*Prometheus)(nil)
)

// Serve lets every query pass.
func (*Prometheus) Serve(*chain.Query) chain.Outcome { return chain.Next }

// Reply counts the query.
func (p *Prometheus) Reply(q *chain.Query, below chain.Outcome) chain.Outcome {
	r := q.Report(below, q.Now())
	if below == chain.Answered || below == chain.Streamed {
		r.Plugin = q.By()
		if q.Reply.OwnOPT && below == chain.Answered {
			r.Response += 11 + len(q.Reply.Options)
		}
	}
	p.of(q.Router().Server(), p.longest(q.OriginalName()), q.Chain().View).Count(q.Shard(), &r)
	return below
}

// longest gives the index of the longest zone that n is in. A query that was routed here is in one of them.
func (p *Prometheus) longest(n wire.Name) (best int) {
	length := 0
	for i := range p.zones {
		if z := p.zones[i].name; len(z) > length && n.Under(z) {
			best, length = i, len(z)
		}
	}
	return best
}

// of finds the counters, which are made when they are first needed: listeners are known when a query comes.
func (p *Prometheus) of(server string, zone int, view string) *metrics.Traffic {
	known := p.traffic.Load()
	for i := range *known {
		if c := &(*known)[i]; c.zone == zone && c.server == server && c.view == view {
			return c.traffic
		}
	}
	t := p.env.Traffic(server, p.zones[zone].text, view)
	for {
		next := append([]counts{{server, zone, view, t}}, *known...)
		if p.traffic.CompareAndSwap(known, &next) {
			return t // another loop may have entered the same series, which then counts in either
		}
		known = p.traffic.Load()
	}
}
