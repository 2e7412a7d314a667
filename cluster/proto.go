package cluster

import (
	"encoding/binary"
	"errors"
)

// Protobuf as Kubernetes serves it, read by field number (the generated.proto files of k8s.io/api and apimachinery). Only
// the twenty-odd fields that DNS needs are looked at; the rest is stepped over.

var errProto = errors.New("protobuf does not parse")

const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// fields is a walk over the fields of one message.
type fields struct {
	rest []byte
	num  int    // the current field
	data []byte // its content when it is length-delimited
	n    uint64 // its value when it is a varint
	err  error
}

// next steps to the next field; false at the end and on an error.
func (f *fields) next() bool {
	if len(f.rest) == 0 || f.err != nil {
		return false
	}
	// Nearly every field has a small number and a short text.
	if b := f.rest; len(b) >= 2 && b[0] < 0x80 && b[0]&7 == wireBytes && b[0] >= 8 && b[1] < 0x80 && int(b[1]) <= len(b)-2 {
		size := 2 + int(b[1])
		f.num, f.data, f.n, f.rest = int(b[0]>>3), b[2:size:size], 0, b[size:]
		return true
	}
	return f.nextLong()
}

// nextLong is next for any field.
func (f *fields) nextLong() bool {
	tag, n := binary.Uvarint(f.rest)
	if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29 {
		f.err = errProto
		return false
	}
	f.rest = f.rest[n:]
	f.num, f.data, f.n = int(tag>>3), nil, 0
	size := 0
	switch tag & 7 {
	case wireVarint:
		f.n, size = binary.Uvarint(f.rest)
		if size <= 0 {
			f.err = errProto
			return false
		}
	case wireBytes:
		length, m := binary.Uvarint(f.rest)
		if m <= 0 || length > uint64(len(f.rest)-m) {
			f.err = errProto
			return false
		}
		size = m + int(length)
		f.data = f.rest[m:size:size]
	case wireFixed64:
		size = 8
	case wireFixed32:
		size = 4
	default:
		f.err = errProto
		return false
	}
	if size > len(f.rest) {
		f.err = errProto
		return false
	}
	f.rest = f.rest[size:]
	return true
}

// decodeProto reads one object of the kind that o was reset to.
func decodeProto(o *object, b []byte) error {
	f := fields{rest: b}
	for f.next() {
		var err error
		switch {
		case f.num == 1:
			err = o.protoMeta(f.data)
		case (o.kind == kindService || o.kind == kindImport) && f.num == 2:
			err = o.protoServiceSpec(f.data)
		case o.kind == kindService && f.num == 3:
			err = o.protoServiceStatus(f.data)
		case o.kind == kindSlice && f.num == 2:
			err = o.protoEndpoint(f.data)
		case o.kind == kindSlice && f.num == 3:
			err = o.protoPort(f.data, false)
		case o.kind == kindSlice && f.num == 4:
			o.addressType = f.data
		case o.kind == kindPod && f.num == 3:
			err = o.protoPodStatus(f.data)
		}
		if err != nil {
			return err
		}
	}
	return f.err
}

func (o *object) protoMeta(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch f.num {
		case 1:
			o.name = f.data
		case 3:
			o.namespace = f.data
		case 6:
			o.rawVersion, o.version = f.data, parseVersion(f.data)
		case 9:
			o.deleting = true
		case 11, 12:
			k, v, err := mapEntry(f.data)
			if err != nil {
				return err
			}
			switch {
			case f.num == 11:
				o.labels = append(o.labels, pair{k, v})
			case string(k) == annotationTriggered:
				o.triggered = v
			case string(k) == annotationListEnd:
				o.listEnd = string(v) == "true"
			}
		}
	}
	return f.err
}

func mapEntry(b []byte) (key, value []byte, err error) {
	f := fields{rest: b}
	key, value = []byte{}, []byte{}
	for f.next() {
		switch f.num {
		case 1:
			key = f.data
		case 2:
			value = f.data
		}
	}
	return key, value, f.err
}

// parseVersion reads a resourceVersion; one that is no number counts as unknown.
func parseVersion(b []byte) uint64 {
	var v uint64
	for _, c := range b {
		if c < '0' || c > '9' || v > (1<<64-1)/10-1 {
			return 0
		}
		v = v*10 + uint64(c-'0')
	}
	return v
}

func (o *object) protoServiceSpec(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch f.num {
		case 1:
			if err := o.protoPort(f.data, true); err != nil {
				return err
			}
		case 3:
			o.clusterIP = f.data
		case 4:
			o.serviceType = f.data
		case 5:
			o.external = append(o.external, f.data)
		case 10:
			o.externalName = f.data
		case 18:
			o.clusterIPs = append(o.clusterIPs, f.data)
		}
	}
	return f.err
}

// protoServiceStatus reads status.loadBalancer.ingress: an address, or else a name.
func (o *object) protoServiceStatus(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		if f.num != 1 {
			continue
		}
		l := fields{rest: f.data}
		for l.next() {
			if l.num != 1 {
				continue
			}
			in := fields{rest: l.data}
			var ip, host []byte
			for in.next() {
				switch in.num {
				case 1:
					ip = in.data
				case 2:
					host = in.data
				}
			}
			if len(ip) == 0 {
				ip = host
			}
			if len(ip) > 0 {
				o.external = append(o.external, ip)
			}
			if in.err != nil {
				return in.err
			}
		}
		if l.err != nil {
			return l.err
		}
	}
	return f.err
}

// protoPort reads a port of a Service or a slice. A port without a number is 0 in a Service and none in a slice.
func (o *object) protoPort(b []byte, service bool) error {
	f := fields{rest: b}
	p := objectPort{port: noPort}
	if service {
		p.port = 0
	}
	for f.next() {
		switch f.num {
		case 1:
			p.name = f.data
		case 2:
			p.protocol = f.data
		case 3:
			p.port = int32(f.n)
		}
	}
	o.ports = append(o.ports, p)
	return f.err
}

// protoEndpoint reads the addresses of one endpoint, and takes them back when it is not ready. Whether it is serving or
// terminating is not looked at.
func (o *object) protoEndpoint(b []byte) error {
	start := len(o.endpoints)
	var e objectEndpoint
	ready := true
	f := fields{rest: b}
	for f.next() {
		switch f.num {
		case 1:
			o.endpoints = append(o.endpoints, objectEndpoint{address: f.data})
		case 2:
			c := fields{rest: f.data}
			for c.next() {
				if c.num == 1 {
					ready = c.n != 0
				}
			}
			if c.err != nil {
				return c.err
			}
		case 3:
			e.hostname = f.data
		case 4:
			t := fields{rest: f.data}
			for t.next() {
				if t.num == 3 {
					e.target = t.data
				}
			}
			if t.err != nil {
				return t.err
			}
		case 7:
			e.zone = f.data
		}
	}
	if !ready {
		o.endpoints = o.endpoints[:start]
	}
	for i := start; i < len(o.endpoints); i++ {
		e.address = o.endpoints[i].address
		o.endpoints[i] = e
	}
	return f.err
}

func (o *object) protoPodStatus(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch f.num {
		case 1:
			o.phase = f.data
		case 6:
			o.podIP = f.data
		}
	}
	return f.err
}

// protoMagic begins every Kubernetes object in protobuf; a runtime.Unknown follows, whose field 2 is the object.
const protoMagic = "k8s\x00"

// unwrap takes the object out of its envelope.
func unwrap(b []byte) ([]byte, error) {
	if len(b) < len(protoMagic) || string(b[:len(protoMagic)]) != protoMagic {
		return nil, errProto
	}
	f := fields{rest: b[len(protoMagic):]}
	var raw []byte
	for f.next() {
		if f.num == 2 {
			raw = f.data
		}
	}
	return raw, f.err
}

// status is a metav1.Status: what the API server says when it does not do as asked.
type status struct {
	message, reason string
	code            int
	retryAfter      int // seconds, 0 for none
	tooLarge        bool
}

func decodeStatus(b []byte) (st status, err error) {
	f := fields{rest: b}
	for f.next() {
		switch f.num {
		case 3:
			st.message = string(f.data)
		case 4:
			st.reason = string(f.data)
		case 5:
			if err := st.details(f.data); err != nil {
				return st, err
			}
		case 6:
			st.code = int(int32(f.n))
		}
	}
	return st, f.err
}

func (st *status) details(b []byte) error {
	d := fields{rest: b}
	for d.next() {
		switch d.num {
		case 4:
			c := fields{rest: d.data}
			for c.next() {
				if c.num == 1 && string(c.data) == causeTooLarge {
					st.tooLarge = true
				}
			}
			if c.err != nil {
				return c.err
			}
		case 5:
			st.retryAfter = int(int32(d.n))
		}
	}
	return d.err
}

// causeTooLarge is the cause of a Status for a version that the API server has not reached yet.
const causeTooLarge = "ResourceVersionTooLarge"
