package kubernetes

import (
	"github.com/godwit-dns/godwit/cluster"
	"github.com/godwit-dns/godwit/wire"
)

// part says what the labels in front of the zone are about.
type part uint8

const (
	partNone part = iota // the zone itself, or svc or pod alone: names that exist without records
	partService
	partPod
)

// question is a name taken apart. Its slices refer to the name.
type question struct {
	part      part
	namespace []byte
	service   []byte        // a Service's name or a pod's label; empty for the namespace itself
	match     cluster.Match // which of the Service's records
	zoneText  [wire.MaxName]byte
}

const maxLabels = 128

// Labels of the zonal form: TOPOLOGY-ZONE.pin._zone.SERVICE.NAMESPACE.svc.ZONE.
const (
	labelZone   = "_zone"
	labelPin    = "pin"
	labelPrefer = "prefer"
)

// parse takes apart the labels of name in front of zone, which are, from the right: svc or pod, a namespace, a Service or
// pod, and then one of
//
//	nothing                 the Service
//	ENDPOINT                one endpoint
//	_PORT._PROTOCOL         one port; the underscores may be missing
//	ENDPOINT.CLUSTER        one endpoint of another cluster, in zones for ServiceImports
//	ZONE.pin|prefer._zone   endpoints in a topology zone, where zonal allows it
//
// False means that no such name can exist.
func (p *question) parse(name wire.Name, z *zone, zonal bool) bool {
	p.part, p.namespace, p.service, p.match = partNone, nil, nil, cluster.Match{}
	var at [maxLabels]uint8
	n := 0
	for off := 0; off < len(name)-len(z.name); off += 1 + int(name[off]) {
		at[n] = uint8(off)
		n++
	}
	if n == 0 {
		return true
	}
	label := func(i int) []byte { return name[at[i]+1 : int(at[i])+1+int(name[at[i]])] }
	what := partNone
	switch string(label(n - 1)) {
	case "svc":
		what = partService
	case "pod":
		what = partPod
	default:
		return false
	}
	if n == 1 {
		return true
	}
	p.part, p.namespace = what, label(n-2)
	if n == 2 {
		return true
	}
	p.service = label(n - 3)
	switch left := n - 3; {
	case left == 0:
	case left == 1:
		p.match.Endpoint = name[:at[1]]
	case left == 2 && z.imported && label(0)[0] != '_' && label(1)[0] != '_':
		p.match.Endpoint = name[:at[2]]
	case left == 2:
		p.match.Port, p.match.Protocol = plain(label(0)), plain(label(1))
	default:
		return p.parseZonal(left, label, zonal && !z.imported)
	}
	return true
}

// parseZonal reads the topology zone: every label left of the directive, since values of zone labels may have dots.
func (p *question) parseZonal(left int, label func(int) []byte, allowed bool) bool {
	if !allowed || p.part != partService || string(label(left-1)) != labelZone {
		return false
	}
	switch string(label(left - 2)) {
	case labelPin:
	case labelPrefer:
		p.match.Prefer = true
	default:
		return false
	}
	text := p.zoneText[:0]
	for i := range left - 2 {
		if i > 0 {
			text = append(text, '.')
		}
		text = append(text, label(i)...)
	}
	p.match.Zone = text
	return true
}

// plain takes one underscore off the front of a label.
func plain(label []byte) []byte {
	if label[0] == '_' {
		return label[1:]
	}
	return label
}
