package chain

import (
	"time"

	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

// Traffic gives the coredns_dns_* counts of one server, zone and view.
func (e *Env) Traffic(server, zone, view string) *metrics.Traffic {
	return e.Metrics.Traffic(server, zone, view,
		func(r uint16) string { return wire.Rcode(r).Label() },
		func(t uint16) string { return wire.Type(t).String() })
}

// Report fills in what the coredns_dns_* metrics count of a query that ends with out. The clock is read as the loop last
// read it.
func (q *Query) Report(out Outcome, now time.Duration) metrics.Report {
	response := q.Reply.PlainLen()
	if out == Failed || out == Dropped || out == Streamed {
		response = 0
	}
	return metrics.Report{
		Stream:   q.Proto.String() == "tcp",
		IPv6:     q.Client.Addr().Is6(),
		Type:     uint16(q.Type),
		DO:       q.DO(),
		Rcode:    uint16(q.ResponseCode(out)),
		Request:  q.Length,
		Response: response,
		Took:     now - q.Start,
	}
}
