package trace

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/godwit-dns/godwit/chain"
)

// zipkin makes r send to a collector of Zipkin's, version 2 of its interface.
func (c *config) zipkin(r *reporter, b *chain.Block) {
	r.method = http.MethodPost
	r.interval, r.batch, r.backlog = time.Second, 100, 1000
	if c.interval != 0 {
		r.interval = c.interval
	}
	if c.batch != 0 {
		r.batch = c.batch
	}
	if c.backlog != 0 {
		r.backlog = c.backlog
	}
	local := c.local(b)
	r.encode = func(h http.Header, spans []span) ([]byte, error) {
		h.Set("B3", "0") // proxies on the way must not trace the sending of traces
		list := make([]zipkinSpan, len(spans))
		for i := range spans {
			list[i] = spans[i].zipkin(local)
		}
		return json.Marshal(list)
	}
}

// endpoint is who sends spans, as Zipkin has it.
type endpoint struct {
	Service string `json:"serviceName,omitempty"`
	IPv4    string `json:"ipv4,omitempty"`
	IPv6    string `json:"ipv6,omitempty"`
	Port    uint16 `json:"port,omitempty"`
}

// zipkinSpan is a span as Zipkin's collectors take it. Times are in microseconds.
type zipkinSpan struct {
	Timestamp   int64             `json:"timestamp"`
	Duration    int64             `json:"duration"`
	TraceID     string            `json:"traceId"`
	ID          string            `json:"id"`
	ParentID    string            `json:"parentId,omitempty"`
	Name        string            `json:"name"`
	Kind        string            `json:"kind,omitempty"`
	Local       *endpoint         `json:"localEndpoint,omitempty"`
	Annotations []annotation      `json:"annotations,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
}

type annotation struct {
	Timestamp int64  `json:"timestamp"`
	Value     string `json:"value"`
}

func (s *span) zipkin(local *endpoint) zipkinSpan {
	began := s.trace.wall.Add(s.start)
	z := zipkinSpan{
		Timestamp: began.Round(time.Microsecond).UnixMicro(), Duration: max(s.took.Round(time.Microsecond).Microseconds(), 1),
		TraceID: s.trace.id(), ID: hex(s.id), Name: s.name, Local: local,
	}
	if s.parent != 0 {
		z.ParentID = hex(s.parent)
	}
	if s.peer != "" {
		z.Tags = map[string]string{"peer.address": s.peer}
	}
	if s.facts == nil {
		return z
	}
	z.Kind, z.Tags = "SERVER", s.facts.tags("coredns.io/")
	if failure := s.facts.failure; failure != "" {
		at := began.Add(s.took).Round(time.Microsecond).UnixMicro()
		z.Tags["error"] = "true"
		z.Annotations = []annotation{{at, "event:error"}, {at, "error.object:" + failure}}
	}
	return z
}

func hex(id uint64) string { return fmt.Sprintf("%016x", id) }

// tags are the facts under names with a prefix.
func (f *facts) tags(prefix string) map[string]string {
	return map[string]string{
		prefix + "name": f.name, prefix + "type": f.kind, prefix + "rcode": f.rcode, prefix + "proto": f.proto, prefix + "remote": f.remote,
	}
}
