// Package cluster is the program's only Kubernetes client: it reads Services, EndpointSlices, namespaces, pods and
// ServiceImports from an API server, from manifests or from a snapshot on disk, and publishes immutable records that
// answers are copied from.
//
// # Who owns what
//
// A reader goroutine per resource decodes what arrives into one object that it uses again, and hands it to the store,
// which packs it into facts under a mutex. The publisher goroutine builds the record of every Service that changed and
// publishes it with one atomic store. Lookups take no lock and allocate nothing; what they give never changes and may be
// kept as long as wanted: the garbage collector is the reclamation.
package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Config says where a Cluster reads and what it keeps. Of Manifests, Kubeconfig and Endpoint at most one is set; with
// none of them the process is taken to run in a pod of the cluster.
type Config struct {
	Kubeconfig string // a kubeconfig file
	Context    string // the context in it, empty for its current one
	Endpoint   string // URL of the API server
	CertFile   string // client certificate for Endpoint
	KeyFile    string // its key
	CAFile     string // certificates that Endpoint's certificate is checked against
	Manifests  string // a file or folder of manifests instead of an API server

	// Snapshot is a folder to keep a copy of what was read in, for a start while the API server is away; empty for none.
	Snapshot string

	Selector          string // label selector for Services, EndpointSlices and pods
	NamespaceSelector string // label selector for namespaces and ServiceImports
	Pods              bool   // pods are read
	PodLabels         bool   // their labels are kept
	NoEndpoints       bool   // EndpointSlices are not read, except those of ServiceImports
	Multicluster      bool   // ServiceImports are read
	PodNames          bool   // an endpoint without a hostname is called by its pod's name
	Zones             bool   // the zones of endpoints are kept

	QPS         float32 // requests a second to the API server; with neither QPS nor Burst there is no limit
	Burst       int     // requests at once above QPS; 0 for client-go's default when QPS is set
	MaxInFlight int     // requests waiting for their response's head, 0 for no limit

	UserAgent string
	Log       *slog.Logger // nil discards
	Observe   Observer
	Wall      func() time.Time // nil is time.Now
}

// Observer is told of what is measured. Its functions may be nil; they are called from the Cluster's goroutines.
type Observer struct {
	// Request is told of each request to the API server: its method, the response's code ("<error>" without one), the
	// server's host and port, how long the limiter held it back and how long the response's head took.
	Request func(method, code, host string, waited, took time.Duration)
	// Programming is told how long a change to the endpoints of a Service took until it was served, by the kind that
	// coredns_kubernetes_dns_programming_duration_seconds has as its label.
	Programming func(serviceKind string, took time.Duration)
	// Published is told how long a change of a Service or of its endpoints took from its being read to its being served.
	Published func(took time.Duration)
}

// Cluster holds the records of one cluster.
type Cluster struct {
	cfg     Config
	log     *slog.Logger
	store   *store
	client  *client                      // nil with manifests
	readers []*reader                    // none with manifests
	loaded  [sha256.Size]byte            // of the manifests that the store holds; the reader's once Run runs
	take    func(set *manifestSet) error // takes the manifests' objects in: install

	synced atomic.Bool
	sync   chan struct{} // closed with synced
	once   sync.Once
	stale  atomic.Bool // what is served comes from a snapshot
}

// Open checks a configuration and prepares to read. It reads credentials and manifests, so that a mistake in them is one
// of the configuration, but contacts nobody and starts nothing.
func Open(cfg Config) (*Cluster, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Wall == nil {
		cfg.Wall = time.Now
	}
	p := packing{podNames: cfg.PodNames, zones: cfg.Zones, podLabels: cfg.PodLabels}
	c := &Cluster{cfg: cfg, log: cfg.Log, store: newStore(p, cfg.Observe, cfg.Wall), sync: make(chan struct{})}
	c.take = c.install
	if err := checkSelectors(cfg); err != nil {
		return nil, err
	}
	var err error
	if cfg.Manifests != "" {
		if c.loaded, err = c.loadManifests(c.loaded); err != nil {
			return nil, fmt.Errorf("manifests do not load: %w", err)
		}
		return c, nil
	}
	if cfg.Snapshot != "" {
		if info, err := os.Stat(cfg.Snapshot); err != nil {
			return nil, fmt.Errorf("snapshot: %w; make the folder, writable for this process", err)
		} else if !info.IsDir() {
			return nil, fmt.Errorf("snapshot: %s is no folder", cfg.Snapshot)
		}
	}
	if c.client, err = newClient(cfg); err != nil {
		return nil, fmt.Errorf("no way to the Kubernetes API server: %w", err)
	}
	for _, r := range resourcesFor(cfg) {
		c.readers = append(c.readers, newReader(c, r))
	}
	return c, nil
}

// resourcesFor gives the resources that a configuration needs.
func resourcesFor(cfg Config) []resource {
	list := []resource{
		{kind: kindNamespace, path: "/api/v1/namespaces", labels: cfg.NamespaceSelector},
		{kind: kindService, path: "/api/v1/services", labels: cfg.Selector},
	}
	slice := resource{kind: kindSlice, path: "/apis/discovery.k8s.io/v1/endpointslices", labels: cfg.Selector}
	switch {
	case !cfg.NoEndpoints:
		list = append(list, slice)
	case cfg.Multicluster:
		slice.labels = both(cfg.Selector, labelMultiService)
		list = append(list, slice)
	}
	if cfg.Pods {
		list = append(list, resource{
			kind: kindPod, path: "/api/v1/pods", labels: cfg.Selector,
			fields: "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown",
		})
	}
	if cfg.Multicluster {
		list = append(list, resource{
			kind: kindImport, path: "/apis/multicluster.x-k8s.io/v1alpha1/serviceimports", labels: cfg.NamespaceSelector, json: true,
		})
	}
	return list
}

func both(a, b string) string {
	if a == "" {
		return b
	}
	return a + "," + b
}

// Run reads until ctx ends. It must be called once.
func (c *Cluster) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer func() {
		wg.Wait()
		if c.client != nil {
			c.client.close()
		}
	}()
	wg.Go(func() { c.store.publisher(ctx) })
	if c.cfg.Manifests != "" {
		return c.followManifests(ctx)
	}
	if c.cfg.Snapshot != "" {
		c.startSnapshot(ctx, &wg)
	}
	for _, r := range c.readers {
		wg.Go(func() { r.run(ctx) })
	}
	select {
	case <-c.sync:
		// A complete list leaves much garbage behind; give it back once instead of waiting for the scavenger.
		debug.FreeOSMemory()
	case <-ctx.Done():
	}
	<-ctx.Done()
	return nil
}

// readerSynced is called by a reader that has read a complete list for the first time.
func (c *Cluster) readerSynced() {
	for _, r := range c.readers {
		if !r.synced.Load() {
			return
		}
	}
	c.stale.Store(false)
	c.setSynced()
	c.store.mu.Lock()
	c.store.news = true
	c.store.mu.Unlock()
}

func (c *Cluster) setSynced() {
	c.once.Do(func() {
		c.store.publishAll()
		c.store.mu.Lock()
		c.store.live = true
		c.store.mu.Unlock()
		c.synced.Store(true)
		close(c.sync)
	})
}

// Synced reports whether everything has been read once: only then does a name that is not found not exist.
func (c *Cluster) Synced() bool { return c.synced.Load() }

// errNotSynced is what WaitSynced gives when its context ends.
var errNotSynced = errors.New("the cluster's objects have not all been read")

// WaitSynced waits until Synced or until ctx ends.
func (c *Cluster) WaitSynced(ctx context.Context) error {
	select {
	case <-c.sync:
		return nil
	case <-ctx.Done():
		return errNotSynced
	}
}

// Serial is the Unix time of the last change to what the cluster's own names answer; 0 before the first.
func (c *Cluster) Serial() uint32 { return uint32(c.store.serial.Load()) }

// ImportSerial is Serial for the names of ServiceImports.
func (c *Cluster) ImportSerial() uint32 { return uint32(c.store.importSerial.Load()) }

// Version moves after each change that a lookup could give another result for. Who reads it before a lookup finds it moved
// when that result may no longer hold.
func (c *Cluster) Version() *atomic.Uint64 { return &c.store.version }

// Stats is what can be measured of a Cluster at any time.
type Stats struct {
	FromSnapshot bool   // what is served comes from the snapshot, the API server has not been reached yet
	Published    uint64 // records built since the start
	Resources    []ResourceStats
}

// ResourceStats is the state of one resource's reader.
type ResourceStats struct {
	Name      string        // the resource's plural, "services"
	Synced    bool          // a complete list has been read
	Streaming bool          // lists come as streams
	Staleness time.Duration // since the last sign of life, 0 before the first
	Events    uint64        // objects read
	Relists   uint64        // complete lists begun
	Restarts  uint64        // connections that ended
	Forbidden uint64        // times the API server refused for want of permission
}

// Stats reads the counters.
func (c *Cluster) Stats() Stats {
	s := Stats{FromSnapshot: c.stale.Load(), Published: c.store.publishes.Load()}
	for _, r := range c.readers {
		s.Resources = append(s.Resources, r.stats())
	}
	return s
}
