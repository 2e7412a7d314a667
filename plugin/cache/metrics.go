package cache

import (
	"sync"
	"sync/atomic"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/metrics"
)

// counters are a cache's metrics for one listener: a block may have several. Each appears with its first count, as
// CoreDNS's do.
type counters struct {
	server                                               string
	requests, success, denial, misses, prefetches, stale late
	evictedSuccess, evictedDenial                        late
	entriesSuccess, entriesDenial                        atomic.Pointer[metrics.Gauge]
	size                                                 func(kind string) *metrics.Gauge
}

// late is a counter that is made when it is first needed.
type late struct {
	made atomic.Pointer[metrics.Counter]
	make func() *metrics.Counter
}

// Inc adds one.
func (l *late) Inc(shard int) { l.counter().Inc(shard) }

func (l *late) counter() *metrics.Counter {
	c := l.made.Load()
	if c == nil {
		c = l.make() // the registry gives everybody the same
		l.made.Store(c)
	}
	return c
}

// counterSet finds the counters of a query's listener.
type counterSet struct {
	r           *metrics.Registry
	zones, view string
	mu          sync.Mutex // held while the list grows
	all         atomic.Pointer[[]*counters]
}

func (s *counterSet) of(q *chain.Query) *counters {
	server := q.Router().Server()
	if all := s.all.Load(); all != nil {
		for _, c := range *all {
			if c.server == server {
				return c
			}
		}
	}
	return s.grow(server)
}

func (s *counterSet) grow(server string) *counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	var next []*counters
	if all := s.all.Load(); all != nil {
		for _, c := range *all {
			if c.server == server {
				return c
			}
		}
		next = append(next, *all...)
	}
	c := s.make(server)
	next = append(next, c)
	s.all.Store(&next)
	return c
}

func (s *counterSet) make(server string) *counters {
	plain := metrics.L("server", server, "zones", s.zones, "view", s.view)
	typed := func(kind string) []metrics.Label {
		return metrics.L("server", server, "type", kind, "zones", s.zones, "view", s.view)
	}
	c := &counters{server: server, size: func(kind string) *metrics.Gauge {
		return s.r.Gauge("coredns_cache_entries", "The number of elements in the cache.", typed(kind)...)
	}}
	define := func(l *late, name, help string, labels []metrics.Label) {
		l.make = func() *metrics.Counter { return s.r.Counter("coredns_cache_"+name, help, labels...) }
	}
	const hits, evictions = "The count of cache hits.", "The count of cache evictions."
	define(&c.requests, "requests_total", "The count of cache requests.", plain)
	define(&c.success, "hits_total", hits, typed("success"))
	define(&c.denial, "hits_total", hits, typed("denial"))
	define(&c.misses, "misses_total", "The count of cache misses. Deprecated, derive misses from cache hits/requests counters.", plain)
	define(&c.prefetches, "prefetch_total", "The number of times the cache has prefetched a cached item.", plain)
	define(&c.stale, "served_stale_total", "The number of requests served from stale cache entries.", plain)
	define(&c.evictedSuccess, "evictions_total", evictions, typed("success"))
	define(&c.evictedDenial, "evictions_total", evictions, typed("denial"))
	return c
}

// evicted counts an entry that had to go for another.
func (c *counters) evicted(shard int, success bool) {
	if success {
		c.evictedSuccess.Inc(shard)
		return
	}
	c.evictedDenial.Inc(shard)
}

func (c *counters) entries(cache *Cache) {
	set := func(p *atomic.Pointer[metrics.Gauge], kind string, t *table) {
		g := p.Load()
		if g == nil {
			g = c.size(kind)
			p.Store(g)
		}
		g.Set(float64(t.count.Load()))
	}
	set(&c.entriesSuccess, "success", cache.success)
	set(&c.entriesDenial, "denial", cache.denial)
}
