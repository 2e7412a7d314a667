package metrics

import (
	"math"
	"sync/atomic"
	"time"
)

// Report is one query and its answer, as the coredns_dns_* metrics count them.
type Report struct {
	Stream   bool // over a stream: proto "tcp", else "udp"
	IPv6     bool // family 2, else 1
	Type     uint16
	DO       bool
	Rcode    uint16
	Plugin   string        // the directive that wrote the answer, empty for none
	Request  int           // octets of the query as it came
	Response int           // octets of the answer without name compression
	Took     time.Duration // from receipt to answer; negative when it is counted later (Durations)
}

// Traffic counts the queries of one server, zone and view. Series appear when they are first counted, so each handle is
// resolved once and then found by array index.
type Traffic struct {
	r                 *Registry
	labels            []Label
	requests          [4][len(monitored) + 1]atomic.Pointer[Counter] // proto and family, then type
	do                atomic.Pointer[Counter]
	duration          atomic.Pointer[Histogram]
	request, response [2]atomic.Pointer[Histogram]
	responses         atomic.Pointer[[]rcodeCounter]
	rcode             func(uint16) string
	typ               func(uint16) string
	durations, octets []float64
}

type rcodeCounter struct {
	rcode  uint16
	plugin string
	c      *Counter
}

// monitored are the types with a label of their own; all others are "other".
var monitored = [...]uint16{1, 2, 5, 6, 12, 15, 16, 28, 33, 43, 46, 47, 48, 50, 64, 65, 251, 252, 255}

// columns maps a type to its place in monitored, or behind it.
var columns = func() (at [256]uint8) {
	for t := range at {
		at[t] = uint8(len(monitored))
	}
	for i, t := range monitored {
		at[t] = uint8(i)
	}
	return at
}()

// TimeBounds are the bounds of CoreDNS's duration histograms: 0.25 ms, doubled fifteen times.
func TimeBounds() []float64 { return exponential(0.00025, 2, 16) }

// SlimTimeBounds are those with few buckets: 0.25 ms times ten, four times.
func SlimTimeBounds() []float64 { return exponential(0.00025, 10, 5) }

func exponential(start, factor float64, n int) []float64 {
	b := make([]float64, n)
	for i := range b {
		b[i] = start * math.Pow(factor, float64(i))
	}
	return b
}

// Traffic gives the counts of one server, zone and view. The two functions name rcodes and types.
func (r *Registry) Traffic(server, zone, view string, rcode, typ func(uint16) string) *Traffic {
	return &Traffic{r: r, labels: L("server", server, "zone", zone, "view", view), rcode: rcode, typ: typ,
		durations: TimeBounds(),
		octets:    []float64{0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16e3, 32e3, 48e3, 64e3}}
}

func (t *Traffic) with(pairs ...string) []Label {
	return append(append([]Label(nil), t.labels...), L(pairs...)...)
}

// Count adds one query. It does not allocate once every label it meets has been met before.
func (t *Traffic) Count(shard int, r *Report) {
	net := 0
	if r.Stream {
		net = 1
	}
	if r.DO {
		lazy(&t.do, t.newDO).Inc(shard)
	}
	t.requestsOf(net, r).Inc(shard)
	if r.Took >= 0 {
		t.Durations(shard).ObserveTime(r.Took, 1)
	}
	response, request := t.response[net].Load(), t.request[net].Load()
	if response == nil || request == nil {
		response, request = t.newSizes(net)
	}
	response.ObserveInt(shard, r.Response)
	request.ObserveInt(shard, r.Request)
	t.responsesOf(r.Rcode, r.Plugin).Inc(shard)
}

// Cells appends the places where Count adds one for a report, as a Tally has them. It reports false when those are not all
// that there are. The duration is not among them.
func (t *Traffic) Cells(r *Report, cells []*atomic.Uint64) ([]*atomic.Uint64, bool) {
	net := 0
	if r.Stream {
		net = 1
	}
	response, request := t.response[net].Load(), t.request[net].Load()
	if response == nil || request == nil {
		response, request = t.newSizes(net)
	}
	out, in := response.cell(r.Response), request.cell(r.Request)
	if out == nil || in == nil {
		return cells, false
	}
	if r.DO {
		cells = append(cells, lazy(&t.do, t.newDO).Cell())
	}
	return append(cells, t.requestsOf(net, r).Cell(), out, in, t.responsesOf(r.Rcode, r.Plugin).Cell()), true
}

// Durations is where a loop counts how long queries took.
func (t *Traffic) Durations(shard int) *HistogramShard {
	h := t.duration.Load()
	if h == nil { // not lazy, for which a caller elsewhere would make a closure each time
		h = t.newDuration()
		t.duration.Store(h)
	}
	return h.Shard(shard)
}

func lazy[T any](p *atomic.Pointer[T], make func() *T) *T {
	if v := p.Load(); v != nil {
		return v
	}
	v := make()
	p.Store(v)
	return v
}

func (t *Traffic) newDO() *Counter {
	return t.r.Counter("coredns_dns_do_requests_total", "Counter of DNS requests with DO bit set per zone.", t.labels...)
}

func (t *Traffic) newDuration() *Histogram {
	return t.r.Durations("coredns_dns_request_duration_seconds",
		"Histogram of the time (in seconds) each request took per zone.", t.durations, t.labels...)
}

func protoName(net int) string {
	if net == 1 {
		return "tcp"
	}
	return "udp"
}

func (t *Traffic) newSizes(net int) (response, request *Histogram) {
	proto := t.with("proto", protoName(net))
	response = t.r.Histogram("coredns_dns_response_size_bytes", "Size of the returned response in bytes.", t.octets, proto...)
	request = t.r.Histogram("coredns_dns_request_size_bytes",
		"Size of the EDNS0 UDP buffer in bytes (64K for TCP) per zone and protocol.", t.octets, proto...)
	t.response[net].Store(response)
	t.request[net].Store(request)
	return response, request
}

func (t *Traffic) requestsOf(net int, r *Report) *Counter {
	row, family := 2*net, "1"
	if r.IPv6 {
		row, family = row+1, "2"
	}
	i := len(monitored)
	if int(r.Type) < len(columns) {
		i = int(columns[r.Type])
	}
	p := &t.requests[row][i]
	if c := p.Load(); c != nil {
		return c
	}
	name := "other"
	if i < len(monitored) {
		name = t.typ(r.Type)
	}
	c := t.r.Counter("coredns_dns_requests_total", "Counter of DNS requests made per zone, protocol and family.",
		t.with("proto", protoName(net), "family", family, "type", name)...)
	p.Store(c)
	return c
}

func (t *Traffic) responsesOf(rcode uint16, plugin string) *Counter {
	known := t.responses.Load()
	if known != nil {
		for i := range *known {
			if e := &(*known)[i]; e.rcode == rcode && e.plugin == plugin {
				return e.c
			}
		}
	}
	c := t.r.Counter("coredns_dns_responses_total", "Counter of response status codes.",
		t.with("rcode", t.rcode(rcode), "plugin", plugin)...)
	next := []rcodeCounter{{rcode, plugin, c}}
	if known != nil {
		next = append(next, *known...)
	}
	t.responses.Store(&next) // a loop that lost the race asks the registry again and gets the same counter
	return c
}
