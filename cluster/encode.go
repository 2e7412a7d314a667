package cluster

import (
	"encoding/binary"
	"strconv"
)

// The snapshot is written in the same protobuf that is read from the API server, so that one decoder serves both.

func appendField(dst []byte, num int, data string) []byte {
	dst = binary.AppendUvarint(dst, uint64(num)<<3|wireBytes)
	dst = binary.AppendUvarint(dst, uint64(len(data)))
	return append(dst, data...)
}

func appendText(dst []byte, num int, data string) []byte {
	if data == "" {
		return dst
	}
	return appendField(dst, num, data)
}

func appendInt(dst []byte, num int, v uint64) []byte {
	dst = binary.AppendUvarint(dst, uint64(num)<<3|wireVarint)
	return binary.AppendUvarint(dst, v)
}

func appendMeta(dst []byte, namespace, name string, version uint64, labels ...string) []byte {
	m := appendText(appendText(nil, 1, name), 3, namespace)
	if version > 0 {
		m = appendText(m, 6, strconv.FormatUint(version, 10))
	}
	for i := 0; i+1 < len(labels); i += 2 {
		if labels[i+1] != "" {
			m = appendField(m, 11, string(appendField(appendField(nil, 1, labels[i]), 2, labels[i+1])))
		}
	}
	return appendField(dst, 1, string(m))
}

func appendPorts(dst []byte, num int, ports string) []byte {
	if ports == string(appendPort(nil, nil, nil, noPort)) {
		return dst // stands for no ports
	}
	for p := (portText{ports}); ; {
		number, protocol, name, ok := p.next()
		if !ok {
			return dst
		}
		b := appendText(appendText(nil, 1, name), 2, protocol)
		if number != noPort {
			b = appendInt(b, 3, uint64(number))
		}
		dst = appendField(dst, num, string(b))
	}
}

// encodeService writes a Service or ServiceImport. An import is written as a Service whose type is the import's.
func encodeService(dst []byte, e *entry) []byte {
	f := e.facts
	dst = appendMeta(dst, e.namespace, e.name, f.version)
	spec := appendPorts(nil, 1, f.ports)
	switch {
	case f.kind == ExternalName:
		spec = appendText(appendText(spec, 4, "ExternalName"), 10, f.targetText)
	case f.kind == Headless && e.imported:
		spec = appendText(spec, 4, "Headless")
	case f.kind == Headless:
		spec = appendText(spec, 18, "None")
	}
	for _, a := range f.ips {
		spec = appendText(spec, 18, a.String())
	}
	for _, x := range f.external {
		spec = appendText(spec, 5, x)
	}
	return appendField(dst, 2, string(spec))
}

func encodeSlice(dst []byte, name string, e *sliceEntry) []byte {
	s := e.facts
	dst = appendMeta(dst, s.Namespace, name, e.version,
		labelServiceName, s.Service, labelMultiService, s.imported, labelSourceCluster, s.cluster)
	for i := range s.addrs {
		b := appendText(nil, 1, s.address(i).String())
		if l := s.labels(i); l != nil {
			b = appendText(b, 3, dotted(l))
		}
		b = appendText(b, 7, s.zone(i))
		dst = appendField(dst, 2, string(b))
	}
	return appendPorts(dst, 3, s.ports)
}

// dotted is the text of wire labels.
func dotted(labels []byte) string {
	var b []byte
	for len(labels) > 0 {
		n := int(labels[0])
		if len(b) > 0 {
			b = append(b, '.')
		}
		b = append(b, labels[1:1+n]...)
		labels = labels[1+n:]
	}
	return string(b)
}

func encodePod(dst []byte, p *Pod, version uint64) []byte {
	dst = appendMeta(dst, p.Namespace, p.Name, version, p.Labels...)
	return appendField(dst, 3, string(appendText(nil, 6, p.Addr.String())))
}

func encodeNamespace(dst []byte, name string) []byte { return appendMeta(dst, "", name, 0) }
