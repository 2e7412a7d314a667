package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/godwit-dns/godwit/internal/watch"
)

const (
	// manifestsPoll is how often manifests are looked at where the kernel does not tell of changes, and as a safety net.
	manifestsPoll = 2 * time.Second
	// manifestsSettle is how long files must be left alone after a change, so that a copy in progress is read once.
	manifestsSettle = 20 * time.Millisecond
	// maxManifests bounds what is read.
	maxManifests = 1 << 30
)

// followManifests reads the manifests, and again whenever they change, until ctx ends. An error in them is logged and
// leaves what was read before.
func (c *Cluster) followManifests(ctx context.Context) error {
	changes, stop, err := watch.Folder(ctx, c.cfg.Manifests)
	if err != nil {
		c.log.Warn("changes to manifests are found by polling", "reason", err.Error())
	}
	defer stop()
	var stamp string
	tick := time.NewTicker(manifestsPoll)
	defer tick.Stop()
	for {
		if now := stampOf(c.cfg.Manifests); now != stamp {
			sum, err := c.loadManifests(c.loaded)
			if err != nil {
				c.log.Error("manifests do not load, what was read before stays", "path", c.cfg.Manifests, "reason", err.Error())
			} else {
				c.loaded = sum
				c.setSynced()
			}
			stamp = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-changes:
			stamp = "" // a link that leads to another file may show the same size and time
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(manifestsSettle):
			}
		}
	}
}

// manifestFiles gives the files of a path: itself, or those of a folder that look like manifests.
func manifestFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
			continue
		}
		full := filepath.Join(path, name)
		if info, err := os.Stat(full); err == nil && info.Mode().IsRegular() {
			files = append(files, full)
		}
	}
	return files, nil
}

// stampOf describes the manifests' files by name, size and time, to see whether something changed.
func stampOf(path string) string {
	files, err := manifestFiles(path)
	if err != nil {
		return "!" + err.Error()
	}
	var b strings.Builder
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			fmt.Fprintf(&b, "%s %d %d\n", f, info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String() + "."
}

// loadManifests reads all files and publishes what they say, unless their content is the one with sum last.
func (c *Cluster) loadManifests(last [sha256.Size]byte) (sum [sha256.Size]byte, err error) {
	files, err := manifestFiles(c.cfg.Manifests)
	if err != nil {
		return last, err
	}
	// Before anything is parsed: whatever else is written in the folder must cost no more than to read it.
	if sum, err = eachManifest(files, func(string, []byte) error { return nil }); err != nil || sum == last {
		return last, err
	}
	var set manifestSet
	if sum, err = eachManifest(files, set.read); err != nil {
		return last, err
	}
	if err := c.take(&set); err != nil {
		return last, err
	}
	c.store.publishAll() // what is logged as read is answered
	c.log.Info("manifests read", "path", c.cfg.Manifests, "files", len(files), "objects", len(set.objects))
	return sum, nil
}

// eachManifest calls f with each file's content, one at a time, and gives the sum of them all.
func eachManifest(files []string, f func(name string, b []byte) error) (sum [sha256.Size]byte, err error) {
	h, total := sha256.New(), 0
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return sum, err
		}
		if total += len(b); total > maxManifests {
			return sum, fmt.Errorf("more than %d octets of manifests", maxManifests)
		}
		h.Write(b)
		h.Write([]byte{0})
		if err := f(name, b); err != nil {
			return sum, err
		}
	}
	h.Sum(sum[:0])
	return sum, nil
}

// manifestSet is what manifests hold of the five resources.
type manifestSet struct{ objects []manifest }

type manifest struct {
	kind kind
	json *jsonObject
	raw  []byte // of pods, which are read in more than one way
}

// read takes one file: YAML or JSON, several documents, lists.
func (m *manifestSet) read(name string, b []byte) error {
	if strings.HasSuffix(name, ".json") {
		d := json.NewDecoder(bytes.NewReader(b))
		for {
			var doc json.RawMessage
			if err := d.Decode(&doc); err == io.EOF {
				return nil
			} else if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := m.document(doc); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	line := 1
	for doc := range documents(b) {
		j, err := yaml.YAMLToJSON(doc)
		if err == nil {
			err = m.document(j)
		}
		if err != nil {
			return fmt.Errorf("%s: in the document that begins in line %d: %w", name, line, err)
		}
		line += bytes.Count(doc, []byte("\n")) + 1
	}
	return nil
}

// documents splits YAML at lines that begin with "---" (YAML 1.2, 9.2).
func documents(b []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		start := 0
		for at := 0; at < len(b); {
			end := len(b)
			if n := bytes.IndexByte(b[at:], '\n'); n >= 0 {
				end = at + n + 1
			}
			if l := b[at:end]; bytes.HasPrefix(l, []byte("---")) && (len(bytes.TrimSpace(l)) == 3 || l[3] == ' ') {
				if !yield(b[start:at]) {
					return
				}
				start = end
				if rest := bytes.TrimSpace(l[3:]); len(rest) > 0 && rest[0] != '#' {
					start = at + 3 // the document begins on the marker's own line
				}
			}
			at = end
		}
		yield(b[start:])
	}
}

// document takes one object, or a list of them. Other kinds are passed over.
func (m *manifestSet) document(b []byte) error {
	var head struct {
		Kind  string            `json:"kind"`
		Items []json.RawMessage `json:"items"`
	}
	switch text := bytes.TrimSpace(b); {
	case bytes.Equal(text, []byte("null")):
		return nil
	case !bytes.HasPrefix(text, []byte("{")):
		return errors.New("this is no Kubernetes object; write what kubectl get -o yaml prints")
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return wrongField(err)
	}
	if strings.HasSuffix(head.Kind, "List") {
		item := strings.TrimSuffix(head.Kind, "List")
		for _, i := range head.Items {
			if err := m.one(i, item); err != nil {
				return err
			}
		}
		return nil
	}
	return m.one(b, "")
}

// one takes an object; of is what the list it stands in says it is, which may be nothing.
func (m *manifestSet) one(b []byte, of string) error {
	j := new(jsonObject)
	var head struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return wrongField(err)
	}
	if head.Kind == "" {
		head.Kind = of
	}
	if head.Kind == "" {
		return errors.New("this object has no kind; write what kubectl get -o yaml prints")
	}
	k, ok := map[string]kind{
		"Namespace": kindNamespace, "Service": kindService, "EndpointSlice": kindSlice, "Pod": kindPod, "ServiceImport": kindImport,
	}[head.Kind]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(b, j); err != nil {
		return fmt.Errorf("%s: %w", head.Kind, wrongField(err))
	}
	if j.Metadata.Name == "" {
		return errors.New(head.Kind + " without metadata.name")
	}
	if j.Metadata.Namespace == "" && k != kindNamespace {
		j.Metadata.Namespace = "default" // as kubectl apply would
	}
	o := manifest{kind: k, json: j}
	if k == kindPod {
		o.raw = b
	}
	m.objects = append(m.objects, o)
	return nil
}

// wrongField says which field of an object does not hold what it should, in the words of a manifest.
func wrongField(err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) || wrong.Field == "" {
		return err
	}
	return fmt.Errorf("the field %s cannot be a %s", wrong.Field, wrong.Value)
}

// install makes the store hold the set and nothing else. A namespace exists when it is listed, or, where no namespace is
// listed or selected by label, when something is in it.
func (c *Cluster) install(set *manifestSet) error {
	all, err := labels.Parse(c.cfg.Selector)
	if err != nil {
		return err
	}
	spaces, err := labels.Parse(c.cfg.NamespaceSelector)
	if err != nil {
		return err
	}
	wanted := [kindCount]bool{kindNamespace: true, kindService: true, kindSlice: true, kindPod: c.cfg.Pods, kindImport: c.cfg.Multicluster}
	for k := range kindCount {
		c.store.begin(k, true)
	}
	var o object
	put := func(k kind, j *jsonObject) {
		o.reset(k)
		j.into(&o)
		selector := all
		if k == kindNamespace || k == kindImport {
			selector = spaces
		}
		if k == kindSlice && c.cfg.NoEndpoints && !(c.cfg.Multicluster && o.Has(labelMultiService)) {
			return
		}
		if selector.Matches(&o) {
			c.store.upsert(&o)
		}
	}
	for _, m := range set.objects {
		if wanted[m.kind] {
			put(m.kind, m.json)
		}
		if m.kind != kindNamespace && spaces.Empty() {
			implied := new(jsonObject)
			implied.Metadata.Name = m.json.Metadata.Namespace
			put(kindNamespace, implied)
		}
	}
	for k := range kindCount {
		c.store.end(k)
	}
	return nil
}
