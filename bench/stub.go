package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godwit-dns/godwit/test/kube"
)

// The stub plays back what a real API server sent: the frames of its streaming lists, and then frames of changed
// EndpointSlices, each with the time at which it is written in the place of the time of the change, and one address
// exchanged. Both are as long as what they replace, so nothing else of the frame changes.

// stampLayout is the form of a time of change in the recorded frames: always as many octets.
const stampLayout = "2006-01-02T15:04:05.000000000Z"

// recordedStamp is what the harness wrote into the slices before it recorded them.
const recordedStamp = "2026-01-01T00:00:00.000000000Z"

const stampAnnotation = "endpoints.kubernetes.io/last-change-trigger-time"

// frame is one event of a watch with the length in front.
type frame []byte

// recordList reads the frames of a streaming list up to and including the bookmark that ends it.
func recordList(ctx context.Context, p *kube.Plane, path string) ([]frame, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL()+path+
		"?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/vnd.kubernetes.protobuf")
	resp, err := p.HTTPClient().Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, resp.Status)
	}
	body := bufio.NewReader(resp.Body)
	var all []frame
	for {
		var head [4]byte
		if _, err := io.ReadFull(body, head[:]); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		f := make(frame, 4+binary.BigEndian.Uint32(head[:]))
		copy(f, head[:])
		if _, err := io.ReadFull(body, f[4:]); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, f)
		if bytes.Contains(f, []byte("k8s.io/initial-events-end")) {
			return all, nil
		}
	}
}

// stampSlices gives every slice of a namespace a time of change, so that the frames have room for one.
func stampSlices(ctx context.Context, p *kube.Plane, namespace string) error {
	base := "/apis/discovery.k8s.io/v1/namespaces/" + namespace + "/endpointslices"
	text, err := p.Do(ctx, http.MethodGet, base, nil)
	if err != nil {
		return err
	}
	var list struct{ Items []map[string]any }
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	for _, slice := range list.Items {
		meta, ok := slice["metadata"].(map[string]any)
		if !ok {
			return fmt.Errorf("%s: a slice without metadata", base)
		}
		meta["annotations"] = map[string]any{stampAnnotation: recordedStamp}
		body, err := json.Marshal(slice)
		if err != nil {
			return err
		}
		if _, err := p.Do(ctx, http.MethodPut, base+"/"+fmt.Sprint(meta["name"]), body); err != nil {
			return err
		}
	}
	return nil
}

// change is a recorded frame that can be sent again and again.
type change struct {
	f       frame
	stamp   []byte // in f
	address []byte // in f: the first digit of the first endpoint's address
	other   bool
}

func changeOf(f frame) (*change, error) {
	at := bytes.Index(f, []byte(recordedStamp))
	// An endpoint (field 2 of a slice) begins with its addresses (field 1): tag, length, text.
	addr := bytes.Index(f, []byte("10.1"))
	if at < 0 || addr < 0 {
		return nil, fmt.Errorf("a recorded slice without a stamp or an address")
	}
	f = bytes.Clone(f)
	return &change{f: f, stamp: f[at : at+len(recordedStamp)], address: f[addr : addr+2]}, nil
}

// next makes the frame say that it happened now, and that an endpoint moved to 11.… or back.
func (c *change) next(now time.Time) frame {
	copy(c.stamp, now.UTC().Format(stampLayout))
	c.other = !c.other
	copy(c.address, map[bool]string{false: "10", true: "11"}[c.other])
	return c.f
}

// stub is the server.
type stub struct {
	lists   map[string][]frame // by path
	server  *http.Server
	url     string
	changes chan frame // for whoever watches EndpointSlices
	listed  atomic.Int64
	mu      sync.Mutex
	ends    chan struct{} // closed to end the watches there are; guarded by mu
	wait    sync.WaitGroup
}

const slicePath = "/apis/discovery.k8s.io/v1/endpointslices"

func startStub(ctx context.Context, lists map[string][]frame) (*stub, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &stub{lists: lists, url: "http://" + l.Addr().String(), changes: make(chan frame), ends: make(chan struct{})}
	s.server = &http.Server{Handler: http.HandlerFunc(s.watch), BaseContext: func(net.Listener) context.Context { return ctx }}
	s.wait.Go(func() { _ = s.server.Serve(l) }) // ends with close
	return s, nil
}

func (s *stub) close() {
	_ = s.server.Close() // nobody is served any more
	s.wait.Wait()
}

// expired is an event that says that the version to go on from is too old: a Status (its reason is field 4, its code field
// 6) in the envelope of the API server.
func expired() frame {
	status := append([]byte{0x22, 7}, "Expired"...)
	status = append(status, 0x30, 0x9a, 0x03) // 410
	unknown := append([]byte{0x12, byte(len(status))}, status...)
	raw := append([]byte("k8s\x00"), unknown...)
	extension := append([]byte{0x0a, byte(len(raw))}, raw...)
	event := append([]byte{0x0a, 5}, "ERROR"...)
	event = append(append(event, 0x12, byte(len(extension))), extension...)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(event))), event...)
}

// expire ends all watches in a way that makes clients read complete lists.
func (s *stub) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.ends)
	s.ends = make(chan struct{})
}

func (s *stub) end() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ends
}

func (s *stub) watch(w http.ResponseWriter, req *http.Request) {
	frames, ok := s.lists[strings.TrimSuffix(req.URL.Path, "/")]
	if !ok || req.URL.Query().Get("watch") == "" {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf;stream=watch")
	flush, end := http.NewResponseController(w), s.end()
	if req.URL.Query().Get("sendInitialEvents") == "true" {
		for _, f := range frames {
			if _, err := w.Write(f); err != nil {
				return
			}
		}
	}
	_ = flush.Flush() // an error shows at the next write
	s.listed.Add(1)
	changes := s.changes
	if !strings.HasSuffix(req.URL.Path, "endpointslices") {
		changes = nil
	}
	for {
		select {
		case <-req.Context().Done():
			return
		case <-end:
			_, _ = w.Write(expired()) // the client is gone otherwise
			return
		case f := <-changes:
			if _, err := w.Write(f); err != nil {
				return
			}
			_ = flush.Flush()
		}
	}
}

// play sends changes at a rate for a time, one slice after the other, and gives the number sent.
func (s *stub) play(ctx context.Context, list []*change, rate int, length time.Duration) (int, error) {
	start := time.Now()
	sent := 0
	for time.Since(start) < length {
		if due := int(time.Since(start).Seconds() * float64(rate)); sent >= due {
			if err := sleep(ctx, 200*time.Microsecond); err != nil {
				return sent, err
			}
			continue
		}
		select {
		case s.changes <- list[sent%len(list)].next(time.Now()):
			sent++
		case <-time.After(5 * time.Second):
			return sent, fmt.Errorf("nobody watches EndpointSlices, or a frame is not taken within 5 s")
		case <-ctx.Done():
			return sent, ctx.Err()
		}
	}
	return sent, nil
}
