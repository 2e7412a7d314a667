package cluster

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
)

// TestMemory is the short form of the benchmark's memory: a tenth of 10,000 Services with 150,000 endpoints must stay below
// a tenth of what those may take, and asking for the same again must not make it grow.
func TestMemory(t *testing.T) {
	const services, each = 1000, 15
	before := liveHeap()
	c := newTestCluster(packing{})
	var o object
	fill := func() {
		for i := range services {
			namespace, name := fmt.Appendf(nil, "load-%d", i/100), fmt.Appendf(nil, "service-%d", i)
			o.reset(kindService)
			o.namespace, o.name, o.clusterIP = namespace, name, fmt.Appendf(nil, "10.96.%d.%d", i/250, i%250+1)
			o.ports = append(o.ports, objectPort{[]byte("http"), []byte("TCP"), 80})
			c.store.upsert(&o)
			o.reset(kindSlice)
			o.namespace, o.name = namespace, fmt.Appendf(nil, "service-%d-abcde", i)
			o.labels = append(o.labels, pair{[]byte(labelServiceName), name})
			o.ports = append(o.ports, objectPort{[]byte("http"), []byte("TCP"), 80})
			for k := range each {
				n := i*each + k
				o.endpoints = append(o.endpoints, objectEndpoint{address: fmt.Appendf(nil, "10.%d.%d.%d", 1+n/62500, n/250%250, n%250+1)})
			}
			c.store.upsert(&o)
		}
		c.store.publishAll()
	}
	fill()
	once := liveHeap() - before
	for range 3 {
		fill()
	}
	again := liveHeap() - before
	t.Logf("%d KiB once, %d KiB after the same three times more: %d octets an endpoint", once>>10, again>>10, again/(services*each))
	if limit := int64(2500 << 10); once > limit || again > limit {
		t.Errorf("%d and %d KiB, at most %d expected", once>>10, again>>10, limit>>10)
	}
	runtime.KeepAlive(c)
}

// TestPodsAgain: a list that brings the pods that are held already leaves nothing behind to collect.
func TestPodsAgain(t *testing.T) {
	c := newTestCluster(packing{})
	var o object
	o.reset(kindPod)
	o.namespace, o.name, o.podIP, o.phase = []byte("shop"), []byte("web-7d4b9c"), []byte("10.1.2.3"), []byte("Running")
	c.store.upsert(&o)
	if n := testing.AllocsPerRun(100, func() { c.store.upsert(&o) }); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
	o.podIP = []byte("10.1.2.4")
	c.store.upsert(&o)
	pods := c.ByPodIP(netip.MustParseAddr("10.1.2.4"))
	if p := pods.Next(); p == nil || p.Name != "web-7d4b9c" || p.Namespace != "shop" {
		t.Errorf("after another address: %+v", p)
	}
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
