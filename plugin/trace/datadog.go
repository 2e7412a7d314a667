package trace

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"
)

// datadog makes r send to a Datadog agent: version 0.3 of its interface for traces, which is documented and takes JSON.
func (c *config) datadog(r *reporter) {
	r.method = http.MethodPut
	r.interval, r.batch, r.backlog = 2*time.Second, 1000, 10000
	pid := float64(os.Getpid())
	r.encode = func(h http.Header, spans []span) ([]byte, error) {
		var traces [][]datadogSpan
		for i := range spans {
			if i == 0 || spans[i].trace != spans[i-1].trace {
				traces = append(traces, nil)
			}
			last := &traces[len(traces)-1]
			*last = append(*last, spans[i].datadog(c, pid))
		}
		h.Set("X-Datadog-Trace-Count", strconv.Itoa(len(traces)))
		return json.Marshal(traces)
	}
}

// datadogSpan is a span as the agent takes it. Times are in nanoseconds.
type datadogSpan struct {
	TraceID  uint64             `json:"trace_id"`
	ID       uint64             `json:"span_id"`
	ParentID uint64             `json:"parent_id"`
	Name     string             `json:"name"`
	Resource string             `json:"resource"`
	Service  string             `json:"service"`
	Start    int64              `json:"start"`
	Duration int64              `json:"duration"`
	Error    int32              `json:"error"`
	Meta     map[string]string  `json:"meta"`
	Metrics  map[string]float64 `json:"metrics"`
}

func (s *span) datadog(c *config, pid float64) datadogSpan {
	d := datadogSpan{
		TraceID: s.trace.low, ID: s.id, ParentID: s.parent, Name: s.name, Resource: s.name, Service: c.service,
		Start: s.trace.wall.Add(s.start).UnixNano(), Duration: int64(max(s.took, 1)),
		Meta: s.facts.tags("coredns.io@"), Metrics: map[string]float64{},
	}
	d.Meta["dns"], d.Meta["language"] = "true", "go"
	if failure := s.facts.failure; failure != "" {
		d.Error = 1
		d.Meta["error.message"], d.Meta["error.type"] = failure, "dns_error"
	}
	if s.parent != 0 {
		return d
	}
	d.Meta["_dd.p.tid"] = fmt.Sprintf("%016x", s.trace.high)
	d.Metrics["process_id"] = pid
	d.Metrics["_dd.top_level"] = 1
	d.Metrics["_sampling_priority_v1"] = 1 // the agent keeps it
	if c.rate > 0 {
		d.Metrics["_dd1.sr.eausr"] = c.rate
	}
	return d
}
