package cluster

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fake is an API server of which a test writes every answer.
type fake struct {
	t       *testing.T
	mu      sync.Mutex
	asked   []string // resource?parameters
	answers func(resource string, n int, w http.ResponseWriter, r *http.Request)
	count   map[string]int
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	f.mu.Lock()
	f.asked = append(f.asked, resource+"?"+r.URL.RawQuery)
	n := f.count[resource]
	f.count[resource]++
	f.mu.Unlock()
	f.answers(resource, n, w, r)
}

// requests gives the queries that a resource was asked with.
func (f *fake) requests(resource string) (list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.asked {
		if rest, ok := strings.CutPrefix(a, resource+"?"); ok {
			list = append(list, rest)
		}
	}
	return list
}

func startFake(t *testing.T, answers func(resource string, n int, w http.ResponseWriter, r *http.Request)) (*fake, Config) {
	f := &fake{t: t, answers: answers, count: map[string]int{}}
	s := httptest.NewServer(f)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return f, Config{Endpoint: s.URL}
}

func envelope(obj marshaler) []byte {
	raw, err := obj.Marshal()
	if err != nil {
		panic(err)
	}
	b := binary.AppendUvarint([]byte(protoMagic+"\x12"), uint64(len(raw)))
	return append(b, raw...)
}

// frame writes one event of a watch.
func frame(w http.ResponseWriter, event string, obj marshaler) {
	inner := appendField(nil, 1, string(envelope(obj)))
	b := appendField(appendField(nil, 1, event), 2, string(inner))
	w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	w.(http.Flusher).Flush()
}

func bookmark(resource, version string, end bool) marshaler {
	m := metav1.ObjectMeta{ResourceVersion: version}
	if end {
		m.Annotations = map[string]string{annotationListEnd: "true"}
	}
	switch resource {
	case "services":
		return &corev1.Service{ObjectMeta: m}
	case "endpointslices":
		return &discoveryv1.EndpointSlice{ObjectMeta: m}
	}
	return &corev1.Namespace{ObjectMeta: m}
}

func named(version string, names ...string) (list []corev1.Service) {
	for _, n := range names {
		list = append(list, corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: n, Namespace: "default", ResourceVersion: version},
			Spec:       corev1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}},
		})
	}
	return list
}

func watching(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf;stream=watch")
	w.WriteHeader(http.StatusOK)
}

// stream answers a streaming list of services and keeps the watch open.
func stream(resource string, w http.ResponseWriter, r *http.Request, services ...corev1.Service) {
	watching(w)
	if resource == "services" {
		for i := range services {
			frame(w, "ADDED", &services[i])
		}
	}
	frame(w, "BOOKMARK", bookmark(resource, "100", true))
	<-r.Context().Done()
}

func refuse(w http.ResponseWriter, code int, reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"kind":"Status","status":"Failure","reason":%q,"message":%q,"code":%d}`, reason, message, code)
}

// TestErrorEventFallsBack: servers on an old etcd refuse a streaming list by an event inside a stream that began well.
func TestErrorEventFallsBack(t *testing.T) {
	f, cfg := startFake(t, func(resource string, n int, w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Query().Get("sendInitialEvents") == "true":
			watching(w)
			frame(w, "ERROR", &metav1.Status{Status: "Failure", Code: 400, Reason: "BadRequest", Message: "sendInitialEvents is forbidden"})
		case r.URL.Query().Get("watch") == "":
			w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf")
			switch resource {
			case "services":
				w.Write(envelope(&corev1.ServiceList{ListMeta: metav1.ListMeta{ResourceVersion: "55"}, Items: named("50", "a", "b")}))
			case "endpointslices":
				w.Write(envelope(&discoveryv1.EndpointSliceList{ListMeta: metav1.ListMeta{ResourceVersion: "55"}}))
			default:
				w.Write(envelope(&corev1.NamespaceList{ListMeta: metav1.ListMeta{ResourceVersion: "55"}}))
			}
		default:
			watching(w)
			if resource == "services" {
				frame(w, "DELETED", &named("56", "a")[0])
			}
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	})
	c, _ := runCluster(t, cfg)
	eventually(t, 5*time.Second, "the list", c.Synced)
	eventually(t, 5*time.Second, "the deletion", func() bool { return c.has("b") && !c.has("a") })
	asked := f.requests("services")
	if len(asked) != 3 || !strings.Contains(asked[2], "resourceVersion=55") || strings.Contains(asked[2], "sendInitialEvents") {
		t.Errorf("asked %q", asked)
	}
}

// TestExpired: after 410 everything is read from the most recent version, and what it does not name is gone.
func TestExpired(t *testing.T) {
	f, cfg := startFake(t, func(resource string, n int, w http.ResponseWriter, r *http.Request) {
		switch {
		case resource != "services" || n > 1:
			stream(resource, w, r, named("20", "b")...)
		case n == 0:
			watching(w)
			for _, s := range named("10", "a", "b") {
				frame(w, "ADDED", &s)
			}
			frame(w, "BOOKMARK", bookmark(resource, "11", true))
			frame(w, "ERROR", &metav1.Status{Status: "Failure", Code: 410, Reason: "Expired", Message: "too old resource version"})
		case n == 1:
			refuse(w, http.StatusGone, "Expired", "too old")
		}
	})
	c, _ := runCluster(t, cfg)
	eventually(t, 10*time.Second, "the second list", func() bool { return c.has("b") && !c.has("a") })
	for _, q := range f.requests("services") {
		if strings.Contains(q, "resourceVersion=1") {
			t.Errorf("an expired version was asked for again: %s", q)
		}
	}
}

// TestRetryAfter: a server that is starting says 429 until its caches are filled.
func TestRetryAfter(t *testing.T) {
	var first time.Time
	var mu sync.Mutex
	_, cfg := startFake(t, func(resource string, n int, w http.ResponseWriter, r *http.Request) {
		if resource == "services" && n == 0 {
			mu.Lock()
			first = time.Now()
			mu.Unlock()
			w.Header().Set("Retry-After", "1")
			refuse(w, http.StatusTooManyRequests, "TooManyRequests", "storage is initializing")
			return
		}
		stream(resource, w, r, named("20", "b")...)
	})
	c, _ := runCluster(t, cfg)
	eventually(t, 5*time.Second, "the second try", c.Synced)
	mu.Lock()
	defer mu.Unlock()
	if took := time.Since(first); took < time.Second || took > 2*time.Second {
		t.Errorf("tried again after %v", took)
	}
}

// TestBrokenFrames: a stream that breaks off in the middle is begun again, and an object that does not parse is left out.
func TestBrokenFrames(t *testing.T) {
	_, cfg := startFake(t, func(resource string, n int, w http.ResponseWriter, r *http.Request) {
		broken := [][]byte{
			{0, 0, 0, 99, 10},        // breaks off in a frame
			{255, 255, 255, 255, 10}, // claims more than is taken
			{0, 0, 0, 2, 255, 255},   // is no protobuf
		}
		if resource == "services" && n < len(broken) {
			watching(w)
			w.Write(broken[n])
			return
		}
		stream(resource, w, r, named("20", "b")...)
	})
	c, _ := runCluster(t, cfg)
	eventually(t, 10*time.Second, "the fourth stream", func() bool { return c.Synced() && c.has("b") })
}

// TestOlderEventIsIgnored: two API servers may differ.
func TestOlderEventIsIgnored(t *testing.T) {
	_, cfg := startFake(t, func(resource string, n int, w http.ResponseWriter, r *http.Request) {
		watching(w)
		frame(w, "BOOKMARK", bookmark(resource, "100", true))
		if resource == "services" {
			s := named("120", "a")[0]
			frame(w, "ADDED", &s)
			old := named("110", "a")[0]
			frame(w, "DELETED", &old)
			marker := named("130", "marker")[0]
			frame(w, "ADDED", &marker)
		}
		<-r.Context().Done()
	})
	c, _ := runCluster(t, cfg)
	eventually(t, 5*time.Second, "the last event", func() bool { return c.has("marker") })
	if !c.has("a") {
		t.Error("an older deletion took a newer object away")
	}
}

// TestJSON: a server without protobuf.
func TestJSON(t *testing.T) {
	_, cfg := startFake(t, func(resource string, n int, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") == "" {
			fmt.Fprint(w, `{"kind":"List","metadata":{"resourceVersion":"7"},"items":[`)
			if resource == "services" {
				fmt.Fprint(w, `{"metadata":{"name":"a","namespace":"default"},"spec":{"clusterIP":"None"}}`)
			}
			fmt.Fprint(w, `]}`)
			return
		}
		if r.URL.Query().Get("sendInitialEvents") != "" {
			refuse(w, http.StatusUnprocessableEntity, "Invalid", "unknown parameter")
			return
		}
		if resource == "services" {
			fmt.Fprintln(w, `{"type":"ADDED","object":{"metadata":{"name":"b","namespace":"default","resourceVersion":"8"},"spec":{"clusterIP":"None"}}}`)
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	c, _ := runCluster(t, cfg)
	eventually(t, 5*time.Second, "both", func() bool { return c.Synced() && c.has("a") && c.has("b") })
}

func TestBackoff(t *testing.T) {
	var b backoff
	low := backoffBase
	for range 12 {
		d := b.next()
		if d < min(low, backoffMax) || d > min(2*low, backoffMax) {
			t.Errorf("step of %v gave %v", low, d)
		}
		low *= 2
	}
}

// TestProgrammingLatency: changes are measured, what was there at the start is not, nor what belongs to no Service.
func TestProgrammingLatency(t *testing.T) {
	trigger := func(name, service string, at time.Time) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Name: name, Namespace: "default", ResourceVersion: "101", Labels: map[string]string{labelServiceName: service},
				Annotations: map[string]string{annotationTriggered: at.UTC().Format(time.RFC3339Nano)},
			},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}},
		}
	}
	synced := make(chan struct{})
	_, cfg := startFake(t, func(resource string, n int, w http.ResponseWriter, r *http.Request) {
		if resource != "endpointslices" {
			stream(resource, w, r, named("20", "a")...)
			return
		}
		watching(w)
		frame(w, "ADDED", trigger("a-1", "a", time.Now().Add(-time.Hour)))
		frame(w, "BOOKMARK", bookmark(resource, "100", true))
		select {
		case <-synced:
		case <-r.Context().Done():
			return
		}
		frame(w, "ADDED", trigger("none-1", "none", time.Now()))
		frame(w, "ADDED", trigger("a-2", "a", time.Now().Add(-time.Minute)))
		<-r.Context().Done()
	})
	type observed struct {
		kind string
		took time.Duration
	}
	got := make(chan observed, 10)
	requests := make(chan string, 100)
	cfg.Observe = Observer{
		Programming: func(kind string, took time.Duration) { got <- observed{kind, took} },
		Request:     func(method, code, host string, _, _ time.Duration) { requests <- method + " " + code },
	}
	c, _ := runCluster(t, cfg)
	eventually(t, 5*time.Second, "sync", c.Synced)
	close(synced)
	select {
	case o := <-got:
		if o.kind != "headless_with_selector" || o.took < time.Minute || o.took > 2*time.Minute {
			t.Errorf("observed %+v", o)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("nothing was observed")
	}
	select {
	case o := <-got:
		t.Errorf("observed %+v too", o)
	case <-time.After(50 * time.Millisecond):
	}
	if r := <-requests; r != "GET 200" {
		t.Errorf("request %q", r)
	}
}
