package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// apiServer is as much of a Kubernetes API server as lists and watches need: objects from manifests, LIST and WATCH with
// label selectors, streaming lists, bookmarks, as JSON or protobuf.
type apiServer struct {
	listener net.Listener
	server   *http.Server

	mu      sync.Mutex
	version int
	objects []*object
	watches map[*watcher]bool
}

// object is one manifest.
type object struct {
	kind, namespace, name string
	labels                labels.Set
	json                  []byte
	proto                 []byte // in its envelope; nil for kinds that are JSON only
}

// watcher is one open watch.
type watcher struct {
	want   request
	frames chan []byte
}

// request is what a client wants to see.
type request struct {
	kind, namespace string
	selector        labels.Selector
	proto           bool
}

// resources are the paths' last words.
var resources = map[string]string{"services": "Service", "namespaces": "Namespace", "pods": "Pod", "endpointslices": "EndpointSlice",
	"serviceimports": "ServiceImport", "nodes": "Node"}

func startAPI() (*apiServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &apiServer{listener: l, version: 1000, watches: map[*watcher]bool{}}
	a.server = &http.Server{Handler: a}
	go a.server.Serve(l) // ended by close
	return a, nil
}

func (a *apiServer) port() string { return strconv.Itoa(a.listener.Addr().(*net.TCPAddr).Port) }

func (a *apiServer) close() { a.server.Close() }

// apply adds or replaces the objects of a manifest file.
func (a *apiServer) apply(manifest []byte) error { return a.each(manifest, false) }

// remove deletes them.
func (a *apiServer) remove(manifest []byte) error { return a.each(manifest, true) }

func (a *apiServer) each(manifest []byte, remove bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, doc := range strings.Split("\n"+string(manifest), "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		a.version++
		o, err := newObject([]byte(doc), a.version)
		if err != nil {
			return fmt.Errorf("%w in\n%s", err, doc)
		}
		at := slices.IndexFunc(a.objects, func(p *object) bool {
			return p.kind == o.kind && p.namespace == o.namespace && p.name == o.name
		})
		event := "ADDED"
		switch {
		case remove && at < 0:
			return fmt.Errorf("no %s %s/%s to remove", o.kind, o.namespace, o.name)
		case remove:
			event, a.objects = "DELETED", slices.Delete(a.objects, at, at+1)
		case at >= 0:
			event, a.objects[at] = "MODIFIED", o
		default:
			a.objects = append(a.objects, o)
		}
		for w := range a.watches {
			if w.want.has(o) {
				w.frames <- frame(event, o, w.want.proto)
			}
		}
	}
	return nil
}

func newObject(doc []byte, version int) (*object, error) {
	var tree map[string]any
	if err := yaml.Unmarshal(doc, &tree); err != nil {
		return nil, err
	}
	md, _ := tree["metadata"].(map[string]any)
	if md == nil {
		return nil, fmt.Errorf("no metadata")
	}
	md["resourceVersion"], md["uid"] = strconv.Itoa(version), fmt.Sprint(tree["kind"], md["namespace"], md["name"])
	o := &object{kind: fmt.Sprint(tree["kind"]), name: fmt.Sprint(md["name"])}
	if ns, ok := md["namespace"]; ok {
		o.namespace = fmt.Sprint(ns)
	}
	var err error
	if o.json, err = json.Marshal(tree); err != nil {
		return nil, err
	}
	o.labels = labels.Set{}
	if set, ok := md["labels"].(map[string]any); ok {
		for k, v := range set {
			o.labels[k] = fmt.Sprint(v)
		}
	}
	typed := map[string]protobuf{"Service": &core.Service{}, "Namespace": &core.Namespace{}, "Pod": &core.Pod{},
		"EndpointSlice": &discovery.EndpointSlice{}, "Node": &core.Node{}}[o.kind]
	if typed == nil {
		return o, nil
	}
	if err := yaml.UnmarshalStrict(doc, typed); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(o.json, typed); err != nil {
		return nil, err
	}
	o.proto, err = envelope(fmt.Sprint(tree["apiVersion"]), o.kind, typed)
	return o, err
}

// protobuf is what the API's types can do.
type protobuf interface {
	Marshal() ([]byte, error)
}

// envelope puts an object into the form in which the API server sends protobuf.
func envelope(version, kind string, m protobuf) ([]byte, error) {
	raw, err := m.Marshal()
	if err != nil {
		return nil, err
	}
	u := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: version, Kind: kind}, Raw: raw}
	b, err := u.Marshal()
	return append([]byte("k8s\x00"), b...), err
}

func (w *request) has(o *object) bool {
	return o.kind == w.kind && (w.namespace == "" || w.namespace == o.namespace) && w.selector.Matches(o.labels)
}

// frame is one event of a watch on the wire.
func frame(event string, o *object, proto bool) []byte {
	if !proto || o.proto == nil {
		b, err := json.Marshal(map[string]any{"type": event, "object": json.RawMessage(o.json)})
		if err != nil {
			panic(err) // o.json was made by json.Marshal
		}
		return append(b, '\n')
	}
	e := meta.WatchEvent{Type: event, Object: runtime.RawExtension{Raw: o.proto}}
	b, err := e.Marshal()
	if err != nil {
		panic(err) // into memory, of octets
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

// ServeHTTP answers lists and watches.
func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	want := request{kind: resources[path[len(path)-1]], selector: labels.Everything()}
	if len(path) >= 3 && path[len(path)-3] == "namespaces" {
		want.namespace = path[len(path)-2]
	}
	if want.kind == "" {
		http.NotFound(w, r)
		return
	}
	query := r.URL.Query()
	if s := query.Get("labelSelector"); s != "" {
		var err error
		if want.selector, err = labels.Parse(s); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	want.proto = strings.Contains(r.Header.Get("Accept"), "protobuf") && want.kind != "ServiceImport"
	if query.Get("watch") == "1" || query.Get("watch") == "true" {
		a.watch(w, r, want)
		return
	}
	a.list(w, want)
}

var versions = map[string]string{"EndpointSlice": "discovery.k8s.io/v1", "ServiceImport": "multicluster.x-k8s.io/v1alpha1"}

func versionOf(kind string) string {
	if v, ok := versions[kind]; ok {
		return v
	}
	return "v1"
}

func (a *apiServer) list(w http.ResponseWriter, want request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	items := []json.RawMessage{}
	for _, o := range a.objects {
		if want.has(o) {
			items = append(items, o.json)
		}
	}
	body, err := json.Marshal(map[string]any{"apiVersion": versionOf(want.kind), "kind": want.kind + "List",
		"metadata": map[string]any{"resourceVersion": strconv.Itoa(a.version)}, "items": items})
	typed := map[string]protobuf{"Service": &core.ServiceList{}, "Namespace": &core.NamespaceList{}, "Pod": &core.PodList{},
		"EndpointSlice": &discovery.EndpointSliceList{}, "Node": &core.NodeList{}}[want.kind]
	w.Header().Set("Content-Type", "application/json")
	if err == nil && want.proto {
		if err = json.Unmarshal(body, typed); err == nil {
			body, err = envelope(versionOf(want.kind), want.kind+"List", typed)
		}
		w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Write(body)
}

// watch streams changes, after all there is when a streaming list is asked for.
func (a *apiServer) watch(w http.ResponseWriter, r *http.Request, want request) {
	me := &watcher{want: want, frames: make(chan []byte, 4096)}
	a.mu.Lock()
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		for _, o := range a.objects {
			if want.has(o) {
				me.frames <- frame("ADDED", o, want.proto)
			}
		}
		mark, err := newObject([]byte(fmt.Sprintf("{apiVersion: %s, kind: %s, metadata: {name: mark, annotations: {k8s.io/initial-events-end: 'true'}}}",
			versionOf(want.kind), want.kind)), a.version)
		if err == nil {
			mark.name = ""
			me.frames <- frame("BOOKMARK", mark, want.proto)
		}
	}
	a.watches[me] = true
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.watches, me)
		a.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "application/json")
	if want.proto {
		w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf;stream=watch")
	}
	flush := w.(http.Flusher)
	flush.Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case f := <-me.frames:
			if _, err := w.Write(f); err != nil {
				return
			}
			flush.Flush()
		}
	}
}
