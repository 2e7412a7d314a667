package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// NodePod is one pod of a node that has an address: what decides how its stub resolver completes names. It never changes.
type NodePod struct {
	UID         string
	Namespace   string
	Name        string
	Addrs       []netip.Addr // both families; of the node where HostNetwork is set
	HostNetwork bool
	DNSPolicy   string      // spec.dnsPolicy
	Nameservers int         // how many servers spec.dnsConfig adds
	Searches    []string    // spec.dnsConfig.searches as they stand
	Options     []PodOption // spec.dnsConfig.options as they stand
	Since       time.Time   // when the pod began, or when it was seen to get its addresses, if that was later
}

// PodOption is an option of a pod's resolv.conf; Value is empty for one without a value.
type PodOption struct{ Name, Value string }

// nodePodSilence is how long the watch on a node's pods may bring nothing. The API server sends a bookmark each minute.
const nodePodSilence = 90 * time.Second

// NodePods follows the pods of one node.
type NodePods struct {
	c       *Cluster
	reader  *reader // nil with manifests
	node    string
	changed func(pods []*NodePod)

	mu         sync.Mutex
	pods       map[string]*nodePodEntry // by namespace/name
	generation uint32
	fresh      bool
	listed     bool

	forbidden atomic.Pointer[ForbiddenError]
	said      chan struct{} // closed with the first refusal
	once      sync.Once
}

type nodePodEntry struct {
	pod        *NodePod // nil: without an address yet
	version    uint64
	generation uint32
}

// ForbiddenError says that the API server does not let this process read a resource.
type ForbiddenError struct {
	User    string // as the API server knows the process: "system:serviceaccount:NAMESPACE:NAME"; empty when it does not say
	Message string // the API server's
}

// Error gives the API server's words.
func (e *ForbiddenError) Error() string { return e.Message }

// OpenNodePods checks a configuration, of which it takes what says where the cluster is, and prepares to read the pods of
// a node. With manifests an empty node stands for all nodes. It contacts nobody and starts nothing. changed is called with
// all pods that have an address, once they have all been read and after every change, from one goroutine at a time; the
// slice is its own.
func OpenNodePods(cfg Config, node string, changed func(pods []*NodePod)) (*NodePods, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Wall == nil {
		cfg.Wall = time.Now
	}
	c := &Cluster{cfg: cfg, log: cfg.Log, store: newStore(packing{}, Observer{}, cfg.Wall), sync: make(chan struct{})}
	n := &NodePods{c: c, node: node, changed: changed, pods: map[string]*nodePodEntry{}, said: make(chan struct{})}
	if cfg.Manifests != "" {
		c.take = n.install
		if _, err := manifestFiles(cfg.Manifests); err != nil {
			return nil, fmt.Errorf("manifests do not load: %w", err)
		}
		return n, nil
	}
	var err error
	if c.client, err = newClient(cfg); err != nil {
		return nil, fmt.Errorf("no way to the Kubernetes API server: %w", err)
	}
	n.reader = newReader(c, resource{kind: kindNodePod, path: "/api/v1/pods",
		fields: "spec.nodeName=" + node + ",status.phase!=Succeeded,status.phase!=Failed"})
	n.reader.into, n.reader.silence, n.reader.refused = n, nodePodSilence, n.refused
	n.reader.proto, n.reader.json = decodeNodePod, decodeNodePodJSON
	c.readers = []*reader{n.reader}
	return n, nil
}

// Run reads until ctx ends. It must be called once.
func (n *NodePods) Run(ctx context.Context) error { return n.c.Run(ctx) }

// WaitSynced waits until all pods have been read, or until ctx ends. A *ForbiddenError says that they may not be read; it
// is given at once.
func (n *NodePods) WaitSynced(ctx context.Context) error {
	select {
	case <-n.said:
		return n.forbidden.Load()
	default:
	}
	select {
	case <-n.said:
		return n.forbidden.Load()
	case <-n.c.sync:
		return nil
	case <-ctx.Done():
		return errNotSynced
	}
}

// Away is how long there has been no connection that would tell of changes: 0 while there is one. Before the first sync it
// means nothing.
func (n *NodePods) Away() time.Duration {
	if n.reader == nil {
		return 0
	}
	at := n.reader.away.Load()
	if at == 0 {
		return 0
	}
	return n.c.cfg.Wall().Sub(time.Unix(0, at))
}

// Synced reports whether all pods have been read once.
func (n *NodePods) Synced() bool { return n.c.Synced() }

func (n *NodePods) refused(e *refusal) {
	f := &ForbiddenError{Message: e.Error()}
	if _, rest, ok := strings.Cut(e.message, `User "`); ok {
		f.User, _, _ = strings.Cut(rest, `"`)
	}
	n.forbidden.Store(f)
	n.once.Do(func() { close(n.said) })
}

func (n *NodePods) begin(_ kind, fresh bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.generation++
	n.fresh = fresh
}

func (n *NodePods) end(kind) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, e := range n.pods {
		if e.generation != n.generation {
			delete(n.pods, key)
		}
	}
	n.fresh, n.listed = false, true
	n.tell()
}

// older reports whether an object is older than the one held: an API server may lag behind the one that was read before.
func (n *NodePods) older(o *object, e *nodePodEntry) bool {
	return o.version != 0 && o.version < e.version && !n.fresh
}

func (n *NodePods) upsert(o *object) {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := o.key()
	e := n.pods[key]
	if e != nil {
		e.generation = n.generation
		if n.older(o, e) {
			return
		}
	}
	if ended(o.phase) {
		if e != nil {
			delete(n.pods, key)
			n.tell()
		}
		return
	}
	if e == nil {
		e = &nodePodEntry{generation: n.generation}
		n.pods[key] = e
	}
	e.version = o.version
	p := newNodePod(o)
	if p.same(e.pod) {
		return
	}
	e.pod = p
	n.tell()
}

func (n *NodePods) remove(o *object) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e := n.pods[o.key()]; e != nil && !n.older(o, e) {
		delete(n.pods, o.key())
		n.tell()
	}
}

// tell gives away what is held, once that is everything. The caller holds mu.
func (n *NodePods) tell() {
	if !n.listed {
		return
	}
	list := make([]*NodePod, 0, len(n.pods))
	for _, e := range n.pods {
		if e.pod != nil {
			list = append(list, e.pod)
		}
	}
	n.changed(list)
}

// install makes the pods of manifests those that are held. They have begun when their status says so.
func (n *NodePods) install(set *manifestSet) error {
	n.begin(kindNodePod, true)
	n.mu.Lock()
	n.listed = false // one word at the end
	n.mu.Unlock()
	var o object
	for _, m := range set.objects {
		if m.kind != kindPod {
			continue
		}
		o.reset(kindNodePod)
		if err := decodeNodePodJSON(&o, m.raw); err != nil {
			return err
		}
		if n.node == "" || n.node == string(o.node.nodeName) {
			o.namespace = []byte(m.json.Metadata.Namespace) // with its default
			n.upsert(&o)
		}
	}
	n.end(kindNodePod)
	return nil
}

// nodePodFields are an object's when it is a pod of NodePods. They refer to the frame, as the object's do.
type nodePodFields struct {
	uid, nodeName, dnsPolicy []byte
	hostNetwork              bool
	nameservers              int
	searches                 [][]byte
	options                  []pair
	ips                      [][]byte
	started                  time.Time
}

// newNodePod makes the record of a pod; nil when it has no address.
func newNodePod(o *object) *NodePod {
	f := &o.node
	p := &NodePod{UID: string(f.uid), Namespace: string(o.namespace), Name: string(o.name), HostNetwork: f.hostNetwork,
		DNSPolicy: string(f.dnsPolicy), Nameservers: f.nameservers, Since: f.started}
	for _, text := range append([][]byte{o.podIP}, f.ips...) {
		if a, ok := parseAddr(text); ok && !slices.Contains(p.Addrs, a) {
			p.Addrs = append(p.Addrs, a)
		}
	}
	if len(p.Addrs) == 0 {
		return nil
	}
	for _, s := range f.searches {
		p.Searches = append(p.Searches, string(s))
	}
	for _, x := range f.options {
		p.Options = append(p.Options, PodOption{string(x.key), string(x.value)})
	}
	// What a watch brings has only just got its addresses, however long its images took to arrive.
	if o.read.After(p.Since) {
		p.Since = o.read
	}
	return p
}

// same reports whether nothing changed that matters. The rest of what is kept cannot be changed in a pod.
func (p *NodePod) same(old *NodePod) bool {
	if p == nil || old == nil {
		return p == old
	}
	return p.UID == old.UID && slices.Equal(p.Addrs, old.Addrs)
}

// decodeNodePod reads a pod from protobuf.
func decodeNodePod(o *object, b []byte) error {
	if err := decodeProto(o, b); err != nil { // the kind is none that it knows more of than metadata
		return err
	}
	return walk(b, func(f *fields) error {
		switch f.num {
		case 1:
			return walk(f.data, func(f *fields) error {
				if f.num == 5 {
					o.node.uid = f.data
				}
				return nil
			})
		case 2:
			return walk(f.data, o.node.protoSpec)
		case 3:
			return walk(f.data, o.protoNodePodStatus)
		}
		return nil
	})
}

// walk calls f for every field of a message.
func walk(b []byte, f func(f *fields) error) error {
	all := fields{rest: b}
	for all.next() {
		if err := f(&all); err != nil {
			return err
		}
	}
	return all.err
}

func (n *nodePodFields) protoSpec(f *fields) error {
	switch f.num {
	case 6:
		n.dnsPolicy = f.data
	case 10:
		n.nodeName = f.data
	case 11:
		n.hostNetwork = f.n != 0
	case 26:
		return walk(f.data, n.protoConfig)
	}
	return nil
}

func (n *nodePodFields) protoConfig(f *fields) error {
	switch f.num {
	case 1:
		n.nameservers++
	case 2:
		n.searches = append(n.searches, f.data)
	case 3:
		name, value, err := mapEntry(f.data) // the same two fields
		n.options = append(n.options, pair{name, value})
		return err
	}
	return nil
}

func (o *object) protoNodePodStatus(f *fields) error {
	switch f.num {
	case 1:
		o.phase = f.data
	case 6:
		o.podIP = f.data
	case 7:
		return walk(f.data, func(f *fields) error {
			if f.num == 1 {
				o.node.started = time.Unix(int64(f.n), 0)
			}
			return nil
		})
	case 12:
		return walk(f.data, func(f *fields) error {
			if f.num == 1 {
				o.node.ips = append(o.node.ips, f.data)
			}
			return nil
		})
	}
	return nil
}

// jsonNodePod has a pod's fields as in the API's JSON.
type jsonNodePod struct {
	Metadata struct {
		UID string `json:"uid"`
	} `json:"metadata"`
	Spec struct {
		NodeName    string `json:"nodeName"`
		HostNetwork bool   `json:"hostNetwork"`
		DNSPolicy   string `json:"dnsPolicy"`
		DNSConfig   struct {
			Nameservers []string `json:"nameservers"`
			Searches    []string `json:"searches"`
			Options     []struct {
				Name  string `json:"name"`
				Value string `json:"value"`
			} `json:"options"`
		} `json:"dnsConfig"`
	} `json:"spec"`
	Status struct {
		PodIPs []struct {
			IP string `json:"ip"`
		} `json:"podIPs"`
		StartTime *time.Time `json:"startTime"`
	} `json:"status"`
}

// decodeNodePodJSON reads a pod from JSON.
func decodeNodePodJSON(o *object, b []byte) error {
	if err := decodeJSON(o, b); err != nil {
		return err
	}
	var j jsonNodePod
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("Pod: %w", wrongField(err))
	}
	f := &o.node
	f.uid, f.nodeName, f.dnsPolicy = []byte(j.Metadata.UID), []byte(j.Spec.NodeName), []byte(j.Spec.DNSPolicy)
	f.hostNetwork, f.nameservers = j.Spec.HostNetwork, len(j.Spec.DNSConfig.Nameservers)
	for _, s := range j.Spec.DNSConfig.Searches {
		f.searches = append(f.searches, []byte(s))
	}
	for _, x := range j.Spec.DNSConfig.Options {
		f.options = append(f.options, pair{[]byte(x.Name), []byte(x.Value)})
	}
	for _, ip := range j.Status.PodIPs {
		f.ips = append(f.ips, []byte(ip.IP))
	}
	if j.Status.StartTime != nil {
		f.started = *j.Status.StartTime
	}
	return nil
}
