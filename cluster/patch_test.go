package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// written is all that a record answers from, as text.
func written(s *Service) []string {
	list := []string{fmt.Sprintf("A %x AAAA %x", s.v4, s.v6)}
	for i := range s.eps.len() {
		e := s.eps.at(i)
		zone := ""
		if e.zone > 0 {
			zone = s.zones[e.zone-1]
		}
		list = append(list, fmt.Sprintf("%08x %s %q %s %q", e.hash, dotted(s.appendLabels(nil, e)), s.groups[e.group&^groupV6].ports, s.address(e), zone))
	}
	var groups []string
	for _, g := range s.groups {
		groups = append(groups, fmt.Sprintf("%d of %q", g.count, g.ports))
	}
	slices.Sort(groups)
	return append(list, groups...)
}

// randomSlice fills a slice of a Service with numbered endpoints from a range that is the slice's own, except now and then.
func randomSlice(o *object, rnd *rand.Rand, number int) {
	o.reset(kindSlice)
	o.namespace, o.name = []byte("ns"), fmt.Appendf(nil, "s-%d", number)
	o.labels = append(o.labels, pair{[]byte(labelServiceName), []byte("s")})
	o.ports = append(o.ports, objectPort{[]byte("http"), []byte("TCP"), int32(80 + rnd.IntN(20)/19)})
	for i := range 60 {
		if rnd.IntN(8) == 0 {
			continue
		}
		n := number*60 + i
		if rnd.IntN(2000) == 0 {
			n = rnd.IntN(300)
		}
		e := objectEndpoint{address: fmt.Appendf(nil, "10.1.%d.%d", n/250, n%250), zone: []byte(testZones[n%3])}
		if number == 3 {
			e.address = fmt.Appendf(nil, "fd00::%x", n+1)
		}
		if n%2 == 0 {
			e.hostname = fmt.Appendf(nil, "pod-%d", n+rnd.IntN(50)/49)
		}
		o.endpoints = append(o.endpoints, e)
	}
}

// TestPatchedIsBuilt: a record made of the one before and what changed is the one that would be built, and the one before
// stays as it was.
func TestPatchedIsBuilt(t *testing.T) {
	for _, address := range []string{"None", "10.96.0.1"} {
		rnd := rand.New(rand.NewPCG(7, 7))
		c := newTestCluster(packing{zones: true})
		var o object
		o.reset(kindService)
		o.namespace, o.name, o.clusterIP = []byte("ns"), []byte("s"), []byte(address)
		c.store.upsert(&o)
		e := c.store.services.byKey["ns/s"]
		patched := 0
		var before *Service
		var text []string
		for range 2000 {
			for range 1 + rnd.IntN(2) {
				number := rnd.IntN(5)
				if randomSlice(&o, rnd, number); rnd.IntN(30) == 0 {
					c.store.remove(&o)
				} else {
					c.store.upsert(&o)
				}
			}
			if e.pending == nil {
				continue
			}
			if c.store.patch(e, e.pending) != nil {
				patched++
			}
			c.store.publishAll()
			if before != nil && !slices.Equal(written(before), text) {
				t.Fatal("a published record changed")
			}
			before, text = e.published, written(e.published)
			if want := written(c.store.record.build(e)); !slices.Equal(text, want) {
				t.Fatalf("the record has\n%q\nand would be built as\n%q", text, want)
			}
		}
		if patched < 500 {
			t.Errorf("%s: only %d records were patched", address, patched)
		}
		t.Logf("%s: %d records were patched", address, patched)
	}
}
