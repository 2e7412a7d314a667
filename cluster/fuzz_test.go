package cluster

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// FuzzStreams reads arbitrary bytes as each of the four forms that an API server answers in: whatever they are, reading
// ends, and takes no more memory than an object may have.
func FuzzStreams(f *testing.F) {
	list := &corev1.ServiceList{ListMeta: metav1.ListMeta{ResourceVersion: "5"}, Items: named("4", "a", "b")}
	f.Add(envelope(list))
	w := httptest.NewRecorder()
	frame(w, "ADDED", &named("4", "a")[0])
	frame(w, "BOOKMARK", bookmark("services", "9", true))
	f.Add(w.Body.Bytes())
	f.Add([]byte(`{"type":"ADDED","object":{"metadata":{"name":"a","namespace":"b"}}}`))
	f.Add([]byte(`{"metadata":{"resourceVersion":"1"},"items":[{"metadata":{"name":"a"}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newTestCluster(packing{})
		c.log, c.cfg.Wall = discard, time.Now
		for form := range 4 {
			r := newReader(c, resource{kind: kindService})
			body := bufio.NewReader(bytes.NewReader(b))
			next := r.protoEvents(body)
			switch form {
			case 1:
				next = r.jsonEvents(body)
			case 2:
				r.listProto(body)
				continue
			case 3:
				r.listJSON(body)
				continue
			}
			for range len(b) + 1 {
				e, err := next()
				if err != nil || r.handle(e) != nil {
					break
				}
			}
			if cap(r.frame) > maxFrame {
				t.Fatalf("a buffer of %d octets", cap(r.frame))
			}
		}
	})
}

// TestReadersDuringChanges holds that what stays is found at every moment under its right name, while all around it and
// its own slice change.
func TestReadersDuringChanges(t *testing.T) {
	c := newTestCluster(packing{})
	change := func(i int) {
		var o object
		o.reset(kindSlice)
		o.namespace, o.name = []byte("ns"), []byte("s-1")
		o.labels = append(o.labels, pair{[]byte(labelServiceName), []byte("s")})
		o.endpoints = append(o.endpoints, objectEndpoint{address: []byte("10.0.0.1"), hostname: []byte("stays")})
		for j := range i % 40 {
			a := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(0x0A000100+i*7+j))))
			o.endpoints = append(o.endpoints, objectEndpoint{address: []byte(a.String())})
		}
		c.store.upsert(&o)
		o.reset(kindService)
		o.namespace, o.name, o.clusterIP = []byte("ns"), []byte("s"), []byte("None")
		if i%2 == 0 {
			o.ports = append(o.ports, objectPort{[]byte("p"), nil, 1})
		}
		c.store.upsert(&o)
		if i%3 == 0 {
			c.store.publishAll()
		}
	}
	change(0)
	c.store.publishAll()
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			stays, ns, name := netip.MustParseAddr("10.0.0.1"), []byte("ns"), []byte("s")
			m := Match{Endpoint: []byte("\x05stays")}
			for {
				select {
				case <-done:
					return
				default:
				}
				w := c.ByEndpointIP(stays)
				sl, i := w.Next()
				if sl == nil || dotted(sl.AppendLabels(nil, i)) != "stays" {
					t.Error("an endpoint that stays was missed")
					return
				}
				s := c.Service(ns, name)
				if s == nil {
					t.Error("a Service that stays was missed")
					return
				}
				set, ok := s.Find(&m)
				if data, _ := set.Addresses(false, nil); !ok || !bytes.Equal(data, []byte{10, 0, 0, 1}) {
					t.Errorf("the endpoint's name gives %v", data)
					return
				}
			}
		})
	}
	for i := range 20000 {
		change(i)
	}
	close(done)
	wg.Wait()
}
