package cache

import (
	"sync"
	"sync/atomic"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/metrics"
)

// counters are a cache's metrics for one listener: a block may have several.
type counters struct {
	server                                               string
	requests, success, denial, misses, prefetches, stale *metrics.Counter
	evictions                                            func(kind string) *metrics.Counter
	entriesSuccess, entriesDenial                        *metrics.Gauge
	gone                                                 [2]atomic.Pointer[metrics.Counter]
	r                                                    *metrics.Registry
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
	count := func(name, help string, labels []metrics.Label) *metrics.Counter {
		return s.r.Counter("coredns_cache_"+name, help, labels...)
	}
	size := func(kind string) *metrics.Gauge {
		return s.r.Gauge("coredns_cache_entries", "The number of elements in the cache.", typed(kind)...)
	}
	const hits = "The count of cache hits."
	return &counters{
		server:     server,
		requests:   count("requests_total", "The count of cache requests.", plain),
		success:    count("hits_total", hits, typed("success")),
		denial:     count("hits_total", hits, typed("denial")),
		misses:     count("misses_total", "The count of cache misses. Deprecated, derive misses from cache hits/requests counters.", plain),
		prefetches: count("prefetch_total", "The number of times the cache has prefetched a cached item.", plain),
		stale:      count("served_stale_total", "The number of requests served from stale cache entries.", plain),
		evictions: func(kind string) *metrics.Counter {
			return count("evictions_total", "The count of cache evictions.", typed(kind))
		},
		entriesSuccess: size("success"), entriesDenial: size("denial"), r: s.r,
	}
}

// evicted is the counter of entries that had to go for others.
func (c *counters) evicted(success bool) *metrics.Counter {
	i, kind := 0, "denial"
	if success {
		i, kind = 1, "success"
	}
	if n := c.gone[i].Load(); n != nil {
		return n
	}
	n := c.evictions(kind)
	c.gone[i].Store(n)
	return n
}

func (c *counters) entries(cache *Cache) {
	c.entriesSuccess.Set(float64(cache.success.count.Load()))
	c.entriesDenial.Set(float64(cache.denial.count.Load()))
}
