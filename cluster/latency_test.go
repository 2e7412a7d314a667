package cluster

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestLatency holds how soon a change is served, at 1,000 changes a second to Services of 500 endpoints. The bound is
// loose: other tests run beside it. What it usually is stands in the log.
func TestLatency(t *testing.T) {
	c := newTestCluster(packing{})
	const services, changes = 20, 1000
	put := func(n, from int, addr string) {
		var o object
		slicesOf(&o, from, from+100)
		o.namespace = fmt.Appendf(nil, "ns%d", n)
		o.endpoints[0].address = []byte(addr)
		c.store.upsert(&o)
	}
	for n := range services {
		var o object
		o.reset(kindService)
		o.namespace, o.name, o.clusterIP = fmt.Appendf(nil, "ns%d", n), []byte("s"), []byte("None")
		c.store.upsert(&o)
		for from := 0; from < 500; from += 100 {
			put(n, from, fmt.Sprintf("10.3.0.%d", from/100))
		}
	}
	c.setSynced()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { c.store.publisher(ctx) })
	defer wg.Wait()
	defer cancel()
	rnd := rand.New(rand.NewPCG(1, 1))
	var took []time.Duration
	for i := range changes {
		n := rnd.IntN(services)
		want := []byte{10, 9, byte(i >> 8), byte(i)}
		begin := time.Now()
		put(n, 0, fmt.Sprintf("10.9.%d.%d", i>>8, i&255))
		for ns := fmt.Appendf(nil, "ns%d", n); ; {
			r := c.Service(ns, []byte("s"))
			if at := bytes.Index(r.v4, want); at >= 0 && at%4 == 0 {
				break
			}
			runtime.Gosched() // the publisher may have this processor only
			if time.Since(begin) > 5*time.Second {
				t.Fatal("a change is not served")
			}
		}
		took = append(took, time.Since(begin))
		time.Sleep(time.Until(begin.Add(time.Millisecond)))
	}
	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	t.Logf("p50 %v, p99 %v, longest %v", p50, p99, took[len(took)-1])
	if p99 > 250*time.Millisecond {
		t.Errorf("p99 is %v", p99)
	}
}

// TestPublishedIsObserved: each change that a watch brings is told of once, with the time since it was read; what a
// complete list brings is not.
func TestPublishedIsObserved(t *testing.T) {
	c, e := filled(5)
	var took []time.Duration
	now := time.Now()
	c.store.now = func() time.Time { return now }
	c.store.observe.Published = func(d time.Duration) { took = append(took, d) }
	c.store.live, c.store.news = true, true
	put := func(addr string, read time.Time) {
		var o object
		slicesOf(&o, 0, 5)
		o.endpoints[1].address, o.read = []byte(addr), read
		c.store.upsert(&o)
		c.store.publishAll()
	}
	put("10.7.0.1", now.Add(-3*time.Millisecond))
	put("10.7.0.1", now.Add(-4*time.Millisecond)) // the same again
	put("10.7.0.2", time.Time{})                  // read in a list
	var o object
	slicesOf(&o, 0, 5)
	o.read = now.Add(-5 * time.Millisecond)
	c.store.remove(&o)
	c.store.publishAll()
	if want := []time.Duration{3 * time.Millisecond, 5 * time.Millisecond}; !slices.Equal(took, want) {
		t.Errorf("told of %v, want %v", took, want)
	}
	if e.published.Ready() != 0 {
		t.Error("the removed slice is still served")
	}
}
