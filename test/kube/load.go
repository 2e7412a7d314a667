package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
)

// LoadSpec describes objects in bulk. Names are counted from 0.
type LoadSpec struct {
	// Prefix begins the names of the namespaces, so that one load does not
	// meet another's. Empty means "load".
	Prefix string
	// Namespaces to spread the Services over: PREFIX-0 and so on. 0 means 1
	// for every 100 Services, rounded up.
	Namespaces int
	// Services to make: service-0 is in PREFIX-0, service-1 in PREFIX-1, ...
	Services int
	// Headless of them have no address; their endpoints have hostnames.
	Headless int
	// Endpoints in all, spread evenly, in slices of at most 100 as a cluster's
	// controller makes them.
	Endpoints int
	// FirstAddress is the first endpoint's; each next one has the next. The
	// zero value is 10.128.0.1.
	FirstAddress netip.Addr
	// Workers write at once. 0 means 32.
	Workers int
}

const sliceSize = 100

func (s LoadSpec) withDefaults() LoadSpec {
	if s.Prefix == "" {
		s.Prefix = "load"
	}
	if s.Namespaces == 0 {
		s.Namespaces = (s.Services + 99) / 100
	}
	if s.Workers == 0 {
		s.Workers = 32
	}
	if !s.FirstAddress.IsValid() {
		s.FirstAddress = netip.AddrFrom4([4]byte{10, 128, 0, 1})
	}
	return s
}

// write is one object to create: through the API server when there is a path,
// else a Service with an address, which goes to etcd.
type write struct {
	path            string
	namespace, name string
	body            map[string]any
}

// Load creates the objects of spec. Those that exist already are left as they
// are. It returns the first error, after every worker has ended.
//
// Services with an address and their IPAddress objects are written into etcd
// as the API server would have done it, which sees them like any other write.
// It counts all addresses of the cluster twice for each one that it gives out,
// so that ten thousand of them take it minutes; this way they take seconds.
func (p *Plane) Load(ctx context.Context, spec LoadSpec) error {
	spec = spec.withDefaults()
	if spec.Endpoints > 0 && spec.Services == 0 {
		return fmt.Errorf("%d endpoints need a Service", spec.Endpoints)
	}
	for i := range spec.Namespaces {
		err := p.create(ctx, write{path: "/api/v1/namespaces", body: map[string]any{"metadata": map[string]any{"name": spec.namespace(i)}}})
		if err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan write, spec.Workers) // closed here, when all has been sent
	var workers sync.WaitGroup
	for range spec.Workers {
		workers.Go(func() {
			for w := range work {
				if ctx.Err() != nil {
					continue // drained, so that the sender never hangs
				}
				if err := p.create(ctx, w); err != nil {
					cancel(err)
				}
			}
		})
	}
	spec.each(func(w write) { work <- w })
	close(work)
	workers.Wait()
	return context.Cause(ctx)
}

func (p *Plane) create(ctx context.Context, w write) error {
	if w.path == "" {
		return p.storeService(ctx, w)
	}
	body, err := json.Marshal(w.body)
	if err != nil {
		return err
	}
	_, err = p.Do(ctx, http.MethodPost, w.path, body)
	if isCode(err, http.StatusConflict) {
		return nil
	}
	return err
}

func (s LoadSpec) namespace(i int) string { return fmt.Sprintf("%s-%d", s.Prefix, i%s.Namespaces) }

// each calls emit with every Service and slice, in an order of the spec alone.
func (s LoadSpec) each(emit func(write)) {
	addr := s.FirstAddress
	for i := range s.Services {
		emit(s.service(i))
		// The remainder goes to the first ones, an endpoint each.
		count := s.Endpoints / s.Services
		if i < s.Endpoints%s.Services {
			count++
		}
		for first := 0; first < count; first += sliceSize {
			n := min(sliceSize, count-first)
			emit(s.slice(i, first, n, addr))
			for range n {
				addr = addr.Next()
			}
		}
	}
}

func (s LoadSpec) service(i int) write {
	namespace, name := s.namespace(i), fmt.Sprintf("service-%d", i)
	spec := map[string]any{
		"ports":    []any{map[string]any{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}},
		"selector": map[string]any{"app": name},
	}
	w := write{namespace: namespace, name: name, body: map[string]any{
		"metadata": map[string]any{"name": name, "namespace": namespace},
		"spec":     spec,
	}}
	if i < s.Headless {
		spec["clusterIP"] = "None"
		w.path = "/api/v1/namespaces/" + namespace + "/services"
	}
	return w
}

// slice holds the endpoints first to first+n-1 of Service i.
func (s LoadSpec) slice(i, first, n int, addr netip.Addr) write {
	namespace, service := s.namespace(i), fmt.Sprintf("service-%d", i)
	family := "IPv4"
	if addr.Is6() {
		family = "IPv6"
	}
	endpoints := make([]any, 0, n)
	for k := first; k < first+n; k++ {
		pod := fmt.Sprintf("%s-%d", service, k)
		endpoint := map[string]any{
			"addresses":  []string{addr.String()},
			"conditions": map[string]any{"ready": true, "serving": true, "terminating": false},
			"nodeName":   fmt.Sprintf("node-%d", k%1000),
			"targetRef":  map[string]any{"kind": "Pod", "namespace": namespace, "name": pod},
		}
		if i < s.Headless {
			endpoint["hostname"] = pod
		}
		endpoints = append(endpoints, endpoint)
		addr = addr.Next()
	}
	return write{
		path: "/apis/discovery.k8s.io/v1/namespaces/" + namespace + "/endpointslices",
		body: map[string]any{
			"metadata": map[string]any{
				"name": fmt.Sprintf("%s-%d", service, first/sliceSize),
				"labels": map[string]any{
					"kubernetes.io/service-name":             service,
					"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
				},
			},
			"addressType": family,
			"ports":       []any{map[string]any{"name": "http", "port": 8080, "protocol": "TCP"}},
			"endpoints":   endpoints,
		},
	}
}
