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
	base      []byte        // the wire labels from there to svc or pod
	match     cluster.Match // which of the Service's records
	zoneText  [wire.MaxName]byte
}

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
	n, end := 0, len(name)-len(z.name)
	var service, namespace, what int // where the last three labels begin
	for off := 0; off < end; off += 1 + int(name[off]) {
		service, namespace, what = namespace, what, off
		n++
	}
	if n == 0 {
		return true
	}
	part := partNone
	switch string(name[what+1 : end]) {
	case "svc":
		part = partService
	case "pod":
		part = partPod
	default:
		return false
	}
	if n == 1 {
		return true
	}
	p.part, p.namespace = part, name[namespace+1:what]
	if n == 2 {
		return true
	}
	p.service, p.base = name[service+1:namespace], name[service:end]
	left := name[:service]
	switch n - 3 {
	case 0:
	case 1:
		p.match.Endpoint = left
	case 2:
		first := 1 + int(left[0])
		if z.imported && left[1] != '_' && left[first+1] != '_' {
			p.match.Endpoint = left
		} else {
			p.match.Port, p.match.Protocol = plain(left[1:first]), plain(left[first+1:])
		}
	default:
		return zonal && !z.imported && p.part == partService && p.parseZonal(left)
	}
	return true
}

// parseZonal reads the topology zone: every label left of the directive, since values of zone labels may have dots.
func (p *question) parseZonal(left []byte) bool {
	text := p.zoneText[:0]
	for {
		label := left[1 : 1+left[0]]
		left = left[1+len(label):]
		switch string(left) {
		case "\x03" + labelPin + "\x05" + labelZone:
		case "\x06" + labelPrefer + "\x05" + labelZone:
			p.match.Prefer = true
		default:
			if len(left) == 0 {
				return false
			}
			text = append(append(text, label...), '.')
			continue
		}
		p.match.Zone = append(text, label...)
		return true
	}
}

// plain takes one underscore off the front of a label.
func plain(label []byte) []byte {
	if label[0] == '_' {
		return label[1:]
	}
	return label
}
