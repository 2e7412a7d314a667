package cluster

import (
	"fmt"
	"testing"
)

// filled gives a store with one Headless Service of n endpoints in slices of 100, and an object to change one with.
func filled(n int) (*Cluster, *entry) {
	c := newTestCluster(packing{})
	var o object
	o.reset(kindService)
	o.namespace, o.name, o.clusterIP = []byte("ns"), []byte("s"), []byte("None")
	c.store.upsert(&o)
	for at := 0; at < n; at += 100 {
		slicesOf(&o, at, min(at+100, n))
		c.store.upsert(&o)
	}
	c.store.publishAll()
	return c, c.store.services.byKey["ns/s"]
}

func slicesOf(o *object, from, to int) {
	o.reset(kindSlice)
	o.namespace, o.name = []byte("ns"), fmt.Appendf(nil, "s-%d", from)
	o.labels = append(o.labels, pair{[]byte(labelServiceName), []byte("s")})
	o.ports = append(o.ports, objectPort{[]byte("http"), []byte("TCP"), 80})
	for i := from; i < to; i++ {
		o.endpoints = append(o.endpoints, objectEndpoint{address: fmt.Appendf(nil, "10.1.%d.%d", i/250, i%250)})
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{1, 15, 50, 500, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c, e := filled(n)
			b.ReportAllocs()
			for b.Loop() {
				c.store.record.build(e)
			}
		})
	}
}

// BenchmarkSliceUpdate changes one of 100 addresses of a slice back and forth, until it is served.
func BenchmarkSliceUpdate(b *testing.B) {
	for _, n := range []int{100, 500, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c, _ := filled(n)
			var x, y object
			slicesOf(&x, 0, 100)
			slicesOf(&y, 0, 100)
			y.endpoints[7].address = []byte("10.2.0.1")
			b.ReportAllocs()
			for b.Loop() {
				c.store.upsert(&y)
				c.store.publishAll()
				x, y = y, x
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	c, _ := filled(500)
	ns, name := []byte("ns"), []byte("s")
	b.ReportAllocs()
	for b.Loop() {
		if c.Service(ns, name) == nil {
			b.Fatal("not found")
		}
	}
}

// BenchmarkSliceSame applies a slice that is as it was: what a complete list brings that is read again.
func BenchmarkSliceSame(b *testing.B) {
	c, _ := filled(500)
	var x object
	slicesOf(&x, 0, 100)
	b.ReportAllocs()
	for b.Loop() {
		c.store.upsert(&x)
	}
}
