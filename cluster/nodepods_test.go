package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// told keeps the last word of a NodePods.
type told struct {
	words int
	pods  []*NodePod
}

func (x *told) String() string {
	var list []string
	for _, p := range x.pods {
		list = append(list, fmt.Sprintf("%s/%s%v", p.Namespace, p.Name, p.Addrs))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func newToldPods(t *testing.T) (*NodePods, *told) {
	t.Helper()
	x := &told{}
	n, err := OpenNodePods(Config{Endpoint: "http://127.0.0.1:1"}, "n1", func(pods []*NodePod) { x.words, x.pods = x.words+1, pods })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.c.client.close)
	return n, x
}

// podObject is a pod as a reader hands it over.
func podObject(t *testing.T, name, version, phase, ip string, read time.Time) *object {
	t.Helper()
	o := &object{}
	o.reset(kindNodePod)
	text := fmt.Sprintf(`{"metadata": {"name": %q, "namespace": "a", "uid": "u-%[1]s", "resourceVersion": %q},
"status": {"phase": %q, "podIP": %q, "podIPs": [{"ip": %[4]q}, {"ip": "fd00::1"}], "startTime": "2026-01-01T00:00:00Z"}}`, name, version, phase, ip)
	if ip == "" {
		text = fmt.Sprintf(`{"metadata": {"name": %q, "namespace": "a", "uid": "u-%[1]s", "resourceVersion": %q}, "status": {"phase": "Pending"}}`, name, version)
	}
	if err := decodeNodePodJSON(o, []byte(text)); err != nil {
		t.Fatal(err)
	}
	o.read = read
	return o
}

func TestNodePods(t *testing.T) {
	n, x := newToldPods(t)
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	live := began.Add(time.Hour)
	n.begin(kindNodePod, true)
	n.upsert(podObject(t, "one", "5", "Running", "10.0.0.1", time.Time{}))
	n.upsert(podObject(t, "two", "6", "Running", "10.0.0.2", time.Time{}))
	if x.words != 0 {
		t.Fatal("told of a part")
	}
	n.end(kindNodePod)
	if got, want := x.String(), "a/one[10.0.0.1 fd00::1] a/two[10.0.0.2 fd00::1]"; got != want || x.words != 1 {
		t.Fatalf("%d words, %s", x.words, got)
	}
	if since := x.pods[0].Since; !since.Equal(began) {
		t.Errorf("a pod that was there began at %v", since)
	}

	n.upsert(podObject(t, "one", "7", "Running", "10.0.0.1", live)) // a condition changed
	n.upsert(podObject(t, "three", "8", "Pending", "", live))
	if x.words != 1 {
		t.Errorf("told of nothing new: %s", x)
	}
	n.upsert(podObject(t, "three", "9", "Running", "10.0.0.3", live))
	n.upsert(podObject(t, "three", "4", "Running", "10.0.0.9", live)) // of an API server that lags behind
	if got, want := x.String(), "a/one[10.0.0.1 fd00::1] a/three[10.0.0.3 fd00::1] a/two[10.0.0.2 fd00::1]"; got != want {
		t.Errorf("%s", got)
	}
	for _, p := range x.pods {
		if p.Name == "three" && !p.Since.Equal(live) {
			t.Errorf("a pod that got its address at %v counts from %v", live, p.Since)
		}
	}
	n.upsert(podObject(t, "two", "10", "Succeeded", "10.0.0.2", live))
	n.remove(podObject(t, "three", "3", "Running", "10.0.0.3", live))
	n.remove(podObject(t, "one", "11", "Running", "10.0.0.1", live))
	if got := x.String(); got != "a/three[10.0.0.3 fd00::1]" {
		t.Errorf("%s", got)
	}
	n.begin(kindNodePod, false)
	n.end(kindNodePod)
	if got := x.String(); got != "" {
		t.Errorf("a complete list without it leaves %s", got)
	}
}

// FuzzNodePod: whatever stands where a pod should, it is read or refused.
func FuzzNodePod(f *testing.F) {
	f.Add([]byte("\x0a\x05\x0a\x03web\x12\x0d\x32\x0cClusterFirst\x1a\x0a\x32\x0810.0.0.1"))
	f.Add([]byte("\x12\x0b\xd2\x01\x08\x12\x01a\x1a\x03\x0a\x01n\x1a\x04\x3a\x02\x08\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var o object
		o.reset(kindNodePod)
		if decodeNodePod(&o, b) == nil {
			if p := newNodePod(&o); p != nil && (len(p.Addrs) == 0 || len(p.Searches) != len(o.node.searches)) {
				t.Errorf("%+v", p)
			}
		}
	})
}
