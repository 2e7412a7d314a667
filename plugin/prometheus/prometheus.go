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
	traffic atomic.Pointer[[]*counts] // replaced, never changed
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

func (c *counts) count(q *chain.Query, r *metrics.Report) {
	if q.Prompt() {
		q.Worker().AtBatchEnd(c.traffic.Durations(q.Shard()))
		r.Took = -1
	}
	c.traffic.Count(q.Shard(), r)
}

var (
	_ chain.Handler  = (*Prometheus)(nil)
	_ chain.Replier  = (*Prometheus)(nil)
	_ chain.Repeater = (*Prometheus)(nil)
)

// Serve lets every query pass.
func (*Prometheus) Serve(*chain.Query) chain.Outcome { return chain.Next }

// Reply counts the query.
func (p *Prometheus) Reply(q *chain.Query, below chain.Outcome) chain.Outcome {
	r := p.report(q, below)
	p.countsOf(q).count(q, &r)
	return below
}

// Repeat adds what Reply counts.
func (p *Prometheus) Repeat(q *chain.Query, rep *chain.Repeat) (ok bool) {
	if rep.Took != nil {
		return false // the directive stands twice: there is one place
	}
	c, r := p.countsOf(q), p.report(q, chain.Answered)
	rep.Took = c.traffic.Durations(q.Shard())
	rep.Cells, ok = c.traffic.Cells(&r, rep.Cells)
	return ok
}

// report is what is counted of a query.
func (p *Prometheus) report(q *chain.Query, below chain.Outcome) metrics.Report {
	r := q.Report(below, q.Now())
	if below == chain.Answered || below == chain.Streamed {
		// CoreDNS 1.14.7 means to name the directive that wrote the reply, and names the one that follows this one.
		r.Plugin = q.Below()
		if q.Reply.OwnOPT && below == chain.Answered {
			r.Response += 11 + len(q.Reply.Options)
		}
	}
	return r
}

func (p *Prometheus) countsOf(q *chain.Query) *counts {
	return p.of(q.Router().Server(), p.longest(q.OriginalName()), q.Chain().View)
}

// longest gives the index of the longest zone that n is in. A query that was routed here is in one of them.
func (p *Prometheus) longest(n wire.Name) (best int) {
	if len(p.zones) == 1 {
		return 0
	}
	length := 0
	for i := range p.zones {
		if z := p.zones[i].name; len(z) > length && n.Under(z) {
			best, length = i, len(z)
		}
	}
	return best
}

// of finds the counters, which are made when they are first needed: listeners are known when a query comes.
func (p *Prometheus) of(server string, zone int, view string) *counts {
	known := p.traffic.Load()
	for i := range *known {
		if c := (*known)[i]; c.zone == zone && c.server == server && c.view == view {
			return c
		}
	}
	c := &counts{server, zone, view, p.env.Traffic(server, p.zones[zone].text, view)}
	for {
		next := append([]*counts{c}, *known...)
		if p.traffic.CompareAndSwap(known, &next) {
			return c // another loop may have entered the same series, which then counts in either
		}
		known = p.traffic.Load()
	}
}
