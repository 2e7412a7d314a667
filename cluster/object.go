package cluster

import (
	"net/netip"
	"strings"
	"time"
)

// kind is one of the five Kubernetes resources that are read, of pods in two ways.
type kind uint8

const (
	kindNamespace kind = iota
	kindService
	kindSlice
	kindPod
	kindImport
	kindNodePod // a pod, with what NodePods needs of it
	kindCount
)

func (k kind) String() string {
	return [...]string{"namespaces", "services", "endpointslices", "pods", "serviceimports", "pods"}[k]
}

// Labels and annotations that are looked at (Kubernetes API reference; KEP-1645 for the multicluster ones).
const (
	labelServiceName    = "kubernetes.io/service-name"
	labelMultiService   = "multicluster.kubernetes.io/service-name"
	labelSourceCluster  = "multicluster.kubernetes.io/source-cluster"
	annotationTriggered = "endpoints.kubernetes.io/last-change-trigger-time"
)

type pair struct{ key, value []byte }

type objectPort struct {
	name, protocol []byte
	port           int32 // -1 when there is none
}

// objectEndpoint is one address of an endpoint that is served.
type objectEndpoint struct{ address, hostname, target, zone []byte }

// object is what is read of any resource, from protobuf, JSON, manifests or a snapshot. It is reused from one to the
// next; its slices refer to the frame that was read and are valid until the next one.
type object struct {
	kind       kind
	read       time.Time // when a watch brought it; zero for what comes otherwise
	namespace  []byte
	name       []byte
	version    uint64 // resourceVersion, 0 when unknown
	rawVersion []byte // the same as it came
	listEnd    bool   // annotationListEnd is "true"
	deleting   bool   // metadata.deletionTimestamp is set
	labels     []pair
	triggered  []byte // annotationTriggered

	serviceType  []byte // spec.type, for imports too
	clusterIP    []byte
	clusterIPs   [][]byte // spec.clusterIPs; spec.ips of imports
	externalName []byte
	external     [][]byte // spec.externalIPs, then the load balancer's addresses and names
	ports        []objectPort

	addressType []byte
	endpoints   []objectEndpoint

	podIP []byte
	phase []byte
	node  nodePodFields
}

func (o *object) reset(k kind) {
	*o = object{
		kind: k, labels: o.labels[:0], clusterIPs: o.clusterIPs[:0], external: o.external[:0],
		ports: o.ports[:0], endpoints: o.endpoints[:0],
	}
}

// label gives a label's value, nil when the object does not carry it.
func (o *object) label(key string) []byte {
	for _, p := range o.labels {
		if string(p.key) == key {
			return p.value
		}
	}
	return nil
}

// key is the object's key in the store's maps.
func (o *object) key() string { return string(o.namespace) + "/" + string(o.name) }

func (o *object) appendKey(dst []byte) []byte {
	return append(append(append(dst, o.namespace...), '/'), o.name...)
}

// Has and Get make an object's labels usable by a label selector (labels.Labels).

func (o *object) Has(label string) bool { return o.label(label) != nil }

// Get gives a label's value, empty when there is none.
func (o *object) Get(label string) string { return string(o.label(label)) }

// Lookup gives a label's value and whether there is one.
func (o *object) Lookup(label string) (string, bool) {
	v := o.label(label)
	return string(v), v != nil
}

// parseAddr reads a textual address; addresses with a zone and text that is no address are refused. IPv4-mapped
// addresses become IPv4, as an A record would be made of them.
func parseAddr(b []byte) (netip.Addr, bool) {
	if a, ok := parseV4(b, '.'); ok {
		return a, true
	}
	a, err := netip.ParseAddr(string(b))
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

// parseV4 reads four decimal numbers without leading zeros, joined by sep.
func parseV4(b []byte, sep byte) (netip.Addr, bool) {
	var a [4]byte
	n, digits, v := 0, 0, 0
	for i := 0; i <= len(b); i++ {
		if i == len(b) || b[i] == sep {
			if digits == 0 || n == 4 {
				return netip.Addr{}, false
			}
			a[n] = byte(v)
			n, digits, v = n+1, 0, 0
			continue
		}
		if b[i] < '0' || b[i] > '9' || (digits > 0 && v == 0) {
			return netip.Addr{}, false
		}
		v = v*10 + int(b[i]-'0')
		digits++
		if v > 255 {
			return netip.Addr{}, false
		}
	}
	return netip.AddrFrom4(a), n == 4
}

// appendDashed appends the dashed form of an address: the name of an endpoint that has no other. One that would end in a
// dash gets a zero, since a label must not.
func appendDashed(dst []byte, a netip.Addr) []byte {
	start := len(dst)
	dst = a.AppendTo(dst)
	for i := start; i < len(dst); i++ {
		if dst[i] == '.' || dst[i] == ':' {
			dst[i] = '-'
		}
	}
	if a.Is6() && dst[len(dst)-1] == '-' {
		dst = append(dst, '0')
	}
	return dst
}

// appendLabels appends a dotted name as wire labels in lower case, without the root; ok is false when a label is empty
// or too long (RFC 1035, 2.3.4).
func appendLabels(dst []byte, s string) (out []byte, ok bool) {
	start := len(dst)
	for part := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if len(part) == 0 || len(part) > 63 {
			return dst[:start], false
		}
		dst = append(dst, byte(len(part)))
		for i := range len(part) {
			dst = append(dst, lower(part[i]))
		}
	}
	return dst, true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
