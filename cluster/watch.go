package cluster

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"strconv"
)

// annotationListEnd marks the bookmark behind the last object of a streaming list.
const annotationListEnd = "k8s.io/initial-events-end"

// watch follows the resource from r.version. With list it asks for everything first, as a stream.
func (r *reader) watch(ctx context.Context, list bool) error {
	q := url.Values{
		"watch":               {"1"},
		"allowWatchBookmarks": {"true"},
		"timeoutSeconds":      {strconv.Itoa(300 + rand.IntN(301))},
	}
	if list {
		q.Set("sendInitialEvents", "true")
		q.Set("resourceVersionMatch", "NotOlderThan")
	}
	if r.version != "" {
		q.Set("resourceVersion", r.version)
	}
	body, isJSON, stop, err := r.open(ctx, q)
	if err != nil {
		return err
	}
	defer stop()
	if list {
		r.into.begin(r.res.kind, r.version == "")
		r.streaming.Store(true)
	}
	next := r.protoEvents(body)
	if isJSON {
		next = r.jsonEvents(body)
	}
	for {
		event, err := next()
		if err != nil {
			return err
		}
		if err := r.handle(event); err != nil {
			return err
		}
	}
}

// event is one frame of a watch: its type, and the object in r.obj or a status.
type event struct {
	kind    string
	status  status
	version []byte // the object's, as text
	listEnd bool   // the bookmark that ends a streaming list
	skip    bool   // the object did not parse
}

func (r *reader) handle(e event) error {
	switch e.kind {
	case "ERROR":
		return &refusal{status: e.status, event: true}
	case "BOOKMARK":
		r.version = string(e.version)
		if e.listEnd && !r.listed {
			r.completed()
		}
		return nil
	case "ADDED", "MODIFIED", "DELETED":
		if !e.skip {
			r.apply(e.kind)
		}
		// Objects of a streaming list come in no order: only its end gives a version to go on from.
		if r.listed && string(e.version) != r.version {
			r.version = string(e.version)
		}
	}
	return nil
}

// readFrame reads n octets into the reader's buffer, which is valid until the next call.
func (r *reader) readFrame(body *bufio.Reader, n int) ([]byte, error) {
	if n > maxFrame {
		return nil, fmt.Errorf("an object of %d octets, more than the %d that are taken", n, maxFrame)
	}
	if cap(r.frame) < n || (cap(r.frame) > keepFrame && n <= keepFrame) {
		r.frame = make([]byte, max(n, readBuffer))
	}
	b := r.frame[:n]
	if _, err := io.ReadFull(body, b); err != nil {
		return nil, noEOF(err)
	}
	return b, nil
}

// noEOF makes an error of an end that comes in the middle of something.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// protoEvents reads frames of a length in 4 octets and a WatchEvent: type (1) and RawExtension (2), whose raw (1) is an
// enveloped object.
func (r *reader) protoEvents(body *bufio.Reader) func() (event, error) {
	return func() (e event, err error) {
		head, err := body.Peek(4)
		if err != nil {
			if len(head) > 0 {
				err = noEOF(err)
			}
			return e, err
		}
		n := binary.BigEndian.Uint32(head)
		body.Discard(4)
		b, err := r.readFrame(body, int(min(n, maxFrame+1)))
		if err != nil {
			return e, err
		}
		var raw []byte
		for f := (fields{rest: b}); f.next(); {
			switch f.num {
			case 1:
				e.kind = eventName(f.data)
			case 2:
				for x := (fields{rest: f.data}); x.next(); {
					if x.num == 1 {
						raw = x.data
					}
				}
			}
		}
		if raw, err = unwrap(raw); err != nil || e.kind == "" {
			return e, errProto
		}
		if e.kind == "ERROR" {
			e.status, err = decodeStatus(raw)
			return e, err
		}
		r.obj.reset(r.res.kind)
		if err := r.proto(&r.obj, raw); err != nil {
			r.unreadable(err)
			e.skip = true
		}
		e.version, e.listEnd = r.obj.rawVersion, r.obj.listEnd
		return e, nil
	}
}

// eventName gives the name of an event without allocating; empty for one that is not known.
func eventName(b []byte) string {
	for _, s := range [...]string{"MODIFIED", "ADDED", "DELETED", "BOOKMARK", "ERROR"} {
		if string(b) == s {
			return s
		}
	}
	return ""
}

// unreadable notes an object that does not parse: it is left out, the rest goes on.
func (r *reader) unreadable(err error) {
	r.c.log.Warn("an object of the API server does not parse, it is left out",
		"resource", r.res.kind.String(), "name", r.obj.key(), "reason", err.Error())
}

// jsonEvents reads documents one behind the other.
func (r *reader) jsonEvents(body *bufio.Reader) func() (event, error) {
	d := json.NewDecoder(body)
	return func() (e event, err error) {
		var doc struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := d.Decode(&doc); err != nil {
			return e, err
		}
		e.kind = eventName([]byte(doc.Type))
		switch {
		case e.kind == "":
			return e, fmt.Errorf("a watch event of unknown type %q", doc.Type)
		case len(doc.Object) > maxFrame:
			return e, fmt.Errorf("an object of %d octets, more than the %d that are taken", len(doc.Object), maxFrame)
		case e.kind == "ERROR":
			e.status, err = statusJSON(doc.Object)
			return e, err
		}
		r.obj.reset(r.res.kind)
		if err := r.json(&r.obj, doc.Object); err != nil {
			r.unreadable(err)
			e.skip = true
		}
		e.version, e.listEnd = r.obj.rawVersion, r.obj.listEnd
		return e, nil
	}
}

// list reads the resource whole, item by item as it arrives; nothing holds all of it.
func (r *reader) list(ctx context.Context) error {
	q := url.Values{}
	if r.version != "" {
		q.Set("resourceVersion", r.version)
		q.Set("resourceVersionMatch", "NotOlderThan")
	}
	body, isJSON, stop, err := r.open(ctx, q)
	if err != nil {
		return err
	}
	defer stop()
	r.into.begin(r.res.kind, r.version == "")
	r.streaming.Store(false)
	var version string
	if isJSON {
		version, err = r.listJSON(body)
	} else {
		version, err = r.listProto(body)
	}
	if err != nil {
		return noEOF(err)
	}
	r.version = version
	r.completed()
	return nil
}

// listProto reads an enveloped list: metadata (1), whose resourceVersion is 2, and items (2).
func (r *reader) listProto(body *bufio.Reader) (version string, err error) {
	magic, err := r.readFrame(body, len(protoMagic))
	if err != nil {
		return "", err
	}
	if string(magic) != protoMagic {
		return "", errProto
	}
	left := int64(1) << 62
	for {
		num, n, err := readTag(body, &left)
		if err != nil {
			return "", err
		}
		if num != 2 { // the envelope's type comes first
			if _, err := io.CopyN(io.Discard, body, n); err != nil {
				return "", err
			}
			continue
		}
		return r.listItems(body, n)
	}
}

func (r *reader) listItems(body *bufio.Reader, left int64) (version string, err error) {
	for left > 0 {
		num, n, err := readTag(body, &left)
		if err != nil {
			return "", err
		}
		if n > left {
			return "", errProto
		}
		left -= n
		b, err := r.readFrame(body, int(min(n, maxFrame+1)))
		if err != nil {
			return "", err
		}
		switch num {
		case 1:
			for f := (fields{rest: b}); f.next(); {
				if f.num == 2 {
					version = string(f.data)
				}
			}
		case 2:
			r.obj.reset(r.res.kind)
			if err := r.proto(&r.obj, b); err != nil {
				r.unreadable(err)
				continue
			}
			r.apply("ADDED")
		}
	}
	if version == "" {
		return "", errors.New("a list without a version")
	}
	return version, nil
}

// readTag reads the head of a length-delimited field; left is lowered by what it took.
func readTag(body *bufio.Reader, left *int64) (num int, n int64, err error) {
	tag, size, err := readUvarint(body)
	if err != nil {
		return 0, 0, err
	}
	if tag&7 != wireBytes {
		return 0, 0, errProto
	}
	length, m, err := readUvarint(body)
	if err != nil {
		return 0, 0, noEOF(err)
	}
	*left -= int64(size + m)
	if length > 1<<40 || *left < 0 {
		return 0, 0, errProto
	}
	return int(tag >> 3), int64(length), nil
}

func readUvarint(body *bufio.Reader) (v uint64, size int, err error) {
	for shift := 0; shift < 64; shift += 7 {
		c, err := body.ReadByte()
		if err != nil {
			return 0, 0, err
		}
		v |= uint64(c&0x7F) << shift
		if size++; c < 0x80 {
			return v, size, nil
		}
	}
	return 0, 0, errProto
}

// listJSON reads a list token by token down to its items.
func (r *reader) listJSON(body *bufio.Reader) (version string, err error) {
	d := json.NewDecoder(body)
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return "", cmpErr(err, "a list that is no object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return "", err
		}
		switch key {
		case "metadata":
			var meta struct {
				ResourceVersion string `json:"resourceVersion"`
			}
			if err := d.Decode(&meta); err != nil {
				return "", err
			}
			version = meta.ResourceVersion
		case "items":
			if err := r.itemsJSON(d); err != nil {
				return "", err
			}
		default:
			var skip json.RawMessage
			if err := d.Decode(&skip); err != nil {
				return "", err
			}
		}
	}
	if version == "" {
		return "", errors.New("a list without a version")
	}
	return version, nil
}

func cmpErr(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}

func (r *reader) itemsJSON(d *json.Decoder) error {
	t, err := d.Token()
	if err != nil || t == nil { // null: an empty list
		return err
	}
	for d.More() {
		var item json.RawMessage
		if err := d.Decode(&item); err != nil {
			return err
		}
		r.obj.reset(r.res.kind)
		if err := r.json(&r.obj, item); err != nil {
			r.unreadable(err)
			continue
		}
		r.apply("ADDED")
	}
	_, err = d.Token()
	return err
}
