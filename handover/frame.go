package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// kind is what a frame says.
type kind uint8

const (
	kindHello kind = iota + 1
	kindProof
	kindListener
	kindListeners
	kindReady
	kindCache
	kindCacheEnd
	kindOwned
	kindLeft
	kindRefused
	kindsEnd // not a kind: those from here on are unknown
)

// String gives the name that errors use.
func (k kind) String() string {
	names := [...]string{"", "hello", "proof", "listener", "listeners", "ready", "cache", "cache end", "owned", "left", "refused"}
	if k > 0 && k < kindsEnd {
		return names[k]
	}
	return fmt.Sprintf("frame of kind %d", uint8(k))
}

// Tags of fields.
const (
	tagVersion = iota + 1
	tagID
	tagNonce
	tagKey
	tagNetwork
	tagAddress
	tagCount
	tagData
	tagText
	tagsEnd // not a tag: those from here on are unknown
)

const (
	maxFrame  = 32 << 10
	fieldHead = 3 // tag and length
	maxData   = maxFrame - 1 - fieldHead
	nonceSize = 16
	version   = 1
	maxText   = 512 // of a refusal
)

var errFrame = errors.New("malformed frame")

// frame is one packet, taken apart. A field that is not in the frame is nil.
type frame struct {
	kind   kind
	fields [tagsEnd][]byte
}

// parse takes a packet apart. The fields are parts of it.
func parse(b []byte) (f frame, err error) {
	if len(b) == 0 {
		return f, errFrame
	}
	f.kind, b = kind(b[0]), b[1:]
	for len(b) > 0 {
		if len(b) < fieldHead {
			return f, errFrame
		}
		tag, size := b[0], int(binary.BigEndian.Uint16(b[1:]))
		if b = b[fieldHead:]; len(b) < size {
			return f, errFrame
		}
		if tag > 0 && tag < tagsEnd {
			if f.fields[tag] != nil {
				return f, errFrame
			}
			f.fields[tag] = b[:size:size]
		}
		b = b[size:]
	}
	return f, nil
}

// text gives a field as text.
func (f *frame) text(tag int) string { return string(f.fields[tag]) }

// appendField appends a field whose value has at most maxData octets.
func appendField[T []byte | string](b []byte, tag byte, value T) []byte {
	b = append(b, tag)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

// appendHello appends the hello of an agent.
func appendHello(b []byte, id string, nonce []byte) []byte {
	b = append(b, byte(kindHello))
	b = appendField(b, tagVersion, []byte{version})
	b = appendField(b, tagID, id)
	return appendField(b, tagNonce, nonce)
}

// hello reads the peer's.
func (f *frame) hello() (id string, nonce []byte, err error) {
	v := f.fields[tagVersion]
	if len(v) != 1 || v[0] < version {
		return "", nil, fmt.Errorf("hello: version %d is unknown", v)
	}
	if len(f.fields[tagNonce]) != nonceSize {
		return "", nil, fmt.Errorf("hello: a nonce of %d octets, not %d", len(f.fields[tagNonce]), nonceSize)
	}
	id = f.text(tagID)
	if !validID(id) {
		return "", nil, fmt.Errorf("hello: %q is no id of 8 hex digits", id)
	}
	return id, append([]byte(nil), f.fields[tagNonce]...), nil
}
