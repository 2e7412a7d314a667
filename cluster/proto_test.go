package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// marshaler is what every generated API type is.
type marshaler interface{ Marshal() ([]byte, error) }

func randomMeta(r *rand.Rand) metav1.ObjectMeta {
	m := metav1.ObjectMeta{
		Name: fmt.Sprintf("name-%d", r.IntN(99)), Namespace: fmt.Sprintf("ns-%d", r.IntN(9)), UID: "0-1-2", ResourceVersion: fmt.Sprint(r.Uint32()),
		Generation: 7, CreationTimestamp: metav1.NewTime(time.Unix(1700000000, 0)), Finalizers: []string{"x/y"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:x":{}}`)}}},
	}
	if r.IntN(2) == 0 {
		m.Labels = map[string]string{labelServiceName: "svc", "empty": ""}
	}
	if r.IntN(2) == 0 {
		m.Annotations = map[string]string{annotationTriggered: "2026-01-01T00:00:00Z", "other": "x"}
	}
	if r.IntN(4) == 0 {
		now := metav1.NewTime(time.Unix(1700000001, 0))
		m.DeletionTimestamp = &now
	}
	return m
}

func pointer[T any](r *rand.Rand, v T) *T {
	if r.IntN(3) == 0 {
		return nil
	}
	return &v
}

func randomObject(r *rand.Rand) (kind, marshaler) {
	switch r.IntN(4) {
	case 0:
		s := &corev1.Service{ObjectMeta: randomMeta(r)}
		s.Spec.Type = pick(r, []corev1.ServiceType{"ClusterIP", "NodePort", "ExternalName", ""})
		s.Spec.ClusterIP = pick(r, []string{"", "None", "10.96.0.1"})
		s.Spec.ClusterIPs = pick(r, [][]string{nil, {"None"}, {"10.96.0.1", "fd00::1"}})
		s.Spec.ExternalName = pick(r, []string{"", "www.example.org"})
		s.Spec.ExternalIPs = pick(r, [][]string{nil, {"192.0.2.1"}})
		s.Spec.Selector = map[string]string{"app": "x"}
		for range r.IntN(3) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: pick(r, []string{"", "http"}), Protocol: "TCP", Port: r.Int32N(65535), NodePort: 30000})
		}
		for range r.IntN(3) {
			in := corev1.LoadBalancerIngress{IP: pick(r, []string{"", "192.0.2.9"}), Hostname: "lb.example.org"}
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, in)
		}
		return kindService, s
	case 1:
		s := &discoveryv1.EndpointSlice{ObjectMeta: randomMeta(r), AddressType: "IPv4"}
		for range r.IntN(4) {
			e := discoveryv1.Endpoint{
				Addresses: pick(r, [][]string{{"10.0.0.1"}, {"10.0.0.2", "10.0.0.3"}}), Hostname: pointer(r, "pod-0"), Zone: pointer(r, "a"),
				NodeName: pointer(r, "node"), Conditions: discoveryv1.EndpointConditions{Ready: pointer(r, r.IntN(2) == 0), Serving: pointer(r, false)},
			}
			if r.IntN(2) == 0 {
				e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: "pod-x"}
			}
			s.Endpoints = append(s.Endpoints, e)
		}
		for range r.IntN(3) {
			tcp := corev1.ProtocolTCP
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: pointer(r, "http"), Protocol: pointer(r, tcp), Port: pointer(r, int32(80))})
		}
		return kindSlice, s
	case 2:
		p := &corev1.Pod{ObjectMeta: randomMeta(r)}
		p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
		p.Status = corev1.PodStatus{Phase: pick(r, []corev1.PodPhase{"Running", "Failed", "Pending"}), PodIP: "10.0.0.9", HostIP: "10.1.1.1"}
		return kindPod, p
	}
	return kindNamespace, &corev1.Namespace{ObjectMeta: randomMeta(r)}
}

// canonical makes objects that mean the same comparable: nil and empty are one, labels are sorted.
func canonical(o *object) string {
	slices.SortFunc(o.labels, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	v := reflect.ValueOf(*o)
	var b bytes.Buffer
	for i := range v.NumField() {
		fmt.Fprintf(&b, "%s=%q\n", v.Type().Field(i).Name, fmt.Sprintf("%s", v.Field(i)))
	}
	return b.String()
}

// TestProtoMeansJSON holds that both encodings of random objects decode to the same.
func TestProtoMeansJSON(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	var a, b object
	for range 5000 {
		k, obj := randomObject(r)
		wire, err := obj.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		a.reset(k)
		if err := decodeProto(&a, wire); err != nil {
			t.Fatal(err)
		}
		b.reset(k)
		if err := decodeJSON(&b, text); err != nil {
			t.Fatal(err)
		}
		if x, y := canonical(&a), canonical(&b); x != y {
			t.Fatalf("%s\nprotobuf %s\nJSON %s", text, x, y)
		}
	}
}

// TestSnapshotEncoding holds that what a snapshot writes reads back to the same facts.
func TestSnapshotEncoding(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	var o object
	p := packing{podNames: true, zones: true}
	from, to := newTestCluster(p), newTestCluster(p)
	for range 500 {
		k, obj := randomObject(r)
		b, err := obj.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		o.reset(k)
		if err := decodeProto(&o, b); err != nil {
			t.Fatal(err)
		}
		from.store.upsert(&o)
	}
	n := 0
	err := from.store.dump(func(k kind, b []byte) error {
		n++
		o.reset(k)
		if err := decodeProto(&o, b); err != nil {
			return err
		}
		to.store.upsert(&o)
		return nil
	})
	if err != nil || n < 100 {
		t.Fatalf("%d objects, %v", n, err)
	}
	a, b := from.store, to.store
	for key, e := range a.slices {
		if x := b.slices[key]; x == nil || !x.facts.sameAs(e.facts) {
			t.Errorf("slice %s: %+v, want %+v", key, x.facts, e.facts)
		}
	}
	for key, e := range a.services.byKey {
		if x := b.services.byKey[key]; e.facts != nil && (x == nil || !x.facts.equal(e.facts)) {
			t.Errorf("service %s: %+v, want %+v", key, x.facts, e.facts)
		}
	}
	if len(a.pods) != len(b.pods) || len(a.namespaces) != len(b.namespaces) {
		t.Errorf("%d pods and %d namespaces, want %d and %d", len(b.pods), len(b.namespaces), len(a.pods), len(a.namespaces))
	}
}

// sameAs is equal without the hashes, whose seeds differ.
func (s *Slice) sameAs(o *Slice) bool {
	x, y := *s, *o
	x.addrs, y.addrs = slices.Clone(x.addrs), slices.Clone(y.addrs)
	for _, l := range [][]packed{x.addrs, y.addrs} {
		for i := range l {
			l[i].hash = 0
		}
	}
	return x.equal(&y)
}

func FuzzDecodeProto(f *testing.F) {
	r := rand.New(rand.NewPCG(9, 9))
	for range 20 {
		k, obj := randomObject(r)
		b, err := obj.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(k), b)
	}
	f.Fuzz(func(t *testing.T, k byte, b []byte) {
		c := newTestCluster(packing{podNames: true, zones: true})
		var o object
		o.reset(kind(k % byte(kindCount)))
		if decodeProto(&o, b) != nil {
			return
		}
		c.store.upsert(&o)
		c.store.publishAll()
		if n := c.All(false); len(n) > 1 {
			t.Fatal("one object made two Services")
		}
		c.store.remove(&o)
		c.store.publishAll()
	})
}
