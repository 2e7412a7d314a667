package run

import (
	"sync"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/metrics"
)

// traffic counts the queries that no block takes, whose zone is "dropped" in the metrics.
type traffic struct {
	env *chain.Env
	mu  sync.RWMutex
	by  map[string]*metrics.Traffic // by server; guarded by mu
}

func (t *traffic) dropped(q *chain.Query) {
	server := q.Router().Server()
	t.mu.RLock()
	c := t.by[server]
	t.mu.RUnlock()
	if c == nil {
		t.mu.Lock()
		if c = t.by[server]; c == nil {
			c = t.env.Traffic(server, "dropped", "")
			t.by[server] = c
		}
		t.mu.Unlock()
	}
	r := q.Report(chain.Failed, q.Now())
	q.Reply.Begin(&q.Request, q.Rcode, 0)
	r.Response = q.Reply.PlainLen()
	c.Count(q.Shard(), &r)
}
