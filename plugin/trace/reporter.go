package trace

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/metrics"
)

// reporter sends spans in batches. Loops only add to its queue, which is bounded: the oldest spans go when it is full.
type reporter struct {
	env      *chain.Env
	url      string
	method   string
	encode   func(h http.Header, spans []span) ([]byte, error) // gives the body of a request, as JSON, and its header
	interval time.Duration                                     // between batches
	batch    int                                               // spans after which one is sent at once
	backlog  int                                               // spans that may wait
	client   *http.Client

	full chan struct{} // a batch is complete
	said time.Duration // when run logged the last failure

	sent, overrun, refused *metrics.Counter

	mu    sync.Mutex
	queue []span // guarded by mu
}

const (
	patience = 5 * time.Second // with a collector
	farewell = time.Second     // with it when the configuration ends
	silence  = time.Minute     // between two lines of the log
)

func newReporter(env *chain.Env, address string) *reporter {
	dropped := func(reason string) *metrics.Counter {
		return env.Metrics.Counter("godwit_trace_spans_dropped_total",
			"Counter of spans that were not sent: the backlog was full, or the collector did not take them.", metrics.L("reason", reason)...)
	}
	return &reporter{env: env, url: address, full: make(chan struct{}, 1), said: -silence,
		client:  &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, IdleConnTimeout: 90 * time.Second}},
		sent:    env.Metrics.Counter("godwit_trace_spans_sent_total", "Counter of spans that a collector has taken."),
		overrun: dropped("backlog"),
		refused: dropped("refused"),
	}
}

// add takes spans over, which nobody changes any more.
func (r *reporter) add(spans []span, shard int) {
	r.mu.Lock()
	r.queue = append(r.queue, spans...)
	dropped := r.trim()
	complete := len(r.queue) >= r.batch
	r.mu.Unlock()
	r.overrun.Add(shard, uint64(dropped))
	if complete {
		select {
		case r.full <- struct{}{}:
		default:
		}
	}
}

// trim drops the oldest spans beyond the backlog and gives their number. Called with mu held.
func (r *reporter) trim() int {
	n := len(r.queue) - r.backlog
	if n <= 0 {
		return 0
	}
	clear(r.queue[:n])
	r.queue = r.queue[n:]
	return n
}

// run sends batches until ctx is done, and then what is left.
func (r *reporter) run(ctx context.Context) error {
	defer r.client.CloseIdleConnections()
	ticks := r.env.Ticks(ctx, max(r.interval, 10*time.Millisecond))
	full := r.full
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
			defer cancel()
			r.flush(last)
			return nil
		case <-ticks:
		case <-full:
		}
		full = r.full
		if !r.flush(ctx) {
			full = nil // a collector that is away is asked at each interval, however many queries there are
		}
	}
}

// flush sends all that waits. What does not reach the collector waits on, and it reports false.
func (r *reporter) flush(ctx context.Context) bool {
	r.mu.Lock()
	spans := r.queue
	r.queue = nil
	r.mu.Unlock()
	if len(spans) == 0 {
		return true
	}
	shared := r.env.Metrics.Shared()
	reached, err := r.send(ctx, spans)
	switch {
	case err == nil:
		r.sent.Add(shared, uint64(len(spans)))
	case reached: // it would not take them the next time either
		r.refused.Add(shared, uint64(len(spans)))
		r.complain(err)
	default:
		r.mu.Lock()
		r.queue = append(spans, r.queue...)
		dropped := r.trim()
		r.mu.Unlock()
		r.overrun.Add(shared, uint64(dropped))
		r.complain(err)
		return false
	}
	return true
}

// send asks the collector to take spans; reached says that it answered, or that there is nothing to send.
func (r *reporter) send(ctx context.Context, spans []span) (reached bool, err error) {
	header := http.Header{"Content-Type": {"application/json"}}
	body, err := r.encode(header, spans)
	if err != nil {
		return true, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(body))
	if err != nil {
		return true, err
	}
	req.Header = header
	resp, err := r.client.Do(req)
	if err != nil {
		return false, err
	}
	_ = resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return true, fmt.Errorf("the collector said %s", resp.Status)
	}
	return true, nil
}

// complain logs a failure, once a minute at most.
func (r *reporter) complain(err error) {
	now := r.env.Clock()
	if now-r.said < silence {
		return
	}
	r.said = now
	address := r.url
	if u, err := url.Parse(r.url); err == nil {
		address = u.Redacted()
	}
	r.env.Log.Warn("plugin/trace: spans can't be sent", "url", address, "error", err,
		"dropped", r.overrun.Value()+r.refused.Value())
}
