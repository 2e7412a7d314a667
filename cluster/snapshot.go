package cluster

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A snapshot is one file: snapshotMagic, the SHA-256 of the configuration that chose what is kept, then for each object
// its kind (1 octet), its length (varint) and the object as in encode.go, then an octet 0xFF and the SHA-256 of all
// that precedes it.
const (
	snapshotMagic = "godwit-cluster-1\n"
	snapshotName  = "cluster.snapshot"
	snapshotEnd   = 0xFF

	// snapshotEvery is the shortest time between two snapshots; one that took t is followed by snapshotRest t of rest.
	snapshotEvery = 5 * time.Second
	snapshotRest  = 50
	// snapshotWait is how long the API server has to answer before the snapshot counts.
	snapshotWait = 3 * time.Second
)

// startSnapshot loads the snapshot and keeps it up to date while ctx lasts.
func (c *Cluster) startSnapshot(ctx context.Context, wg *sync.WaitGroup) {
	path := filepath.Join(c.cfg.Snapshot, snapshotName)
	n, err := c.loadSnapshot(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.log.Info("no snapshot of the cluster yet", "path", path)
	case err != nil:
		c.log.Warn("the snapshot of the cluster is not used", "path", path, "reason", err.Error())
	}
	wg.Go(func() {
		if err == nil {
			c.serveSnapshot(ctx, n)
		}
		c.keepSnapshot(ctx, path)
	})
}

// serveSnapshot makes what the snapshot holds count as everything when the API server does not answer soon.
func (c *Cluster) serveSnapshot(ctx context.Context, objects int) {
	select {
	case <-ctx.Done():
	case <-c.sync:
	case <-time.After(snapshotWait):
		c.log.Warn("the API server does not answer, serving what the snapshot holds", "objects", objects)
		c.stale.Store(true)
		c.setSynced()
	}
}

// keepSnapshot writes a snapshot after changes, but never of what only came from one.
func (c *Cluster) keepSnapshot(ctx context.Context, path string) {
	wait := snapshotEvery
	var written uint64
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = snapshotEvery
		if now := c.store.changes.Load(); !c.complete() || now == written {
			continue
		} else {
			begin := time.Now()
			if err := c.writeSnapshot(path); err != nil {
				if !failed {
					c.log.Error("the snapshot of the cluster cannot be written", "path", path, "reason", err.Error())
				}
				failed = true
				continue
			}
			failed, written = false, now
			wait = max(wait, snapshotRest*time.Since(begin))
		}
	}
}

// complete reports whether every reader has read a complete list from the API server.
func (c *Cluster) complete() bool {
	for _, r := range c.readers {
		if !r.synced.Load() {
			return false
		}
	}
	return true
}

// fingerprint tells configurations apart that keep different things.
func (c *Cluster) fingerprint() [sha256.Size]byte {
	g := c.cfg
	return sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %v %v %v %v %v %v", g.Kubeconfig, g.Context, g.Endpoint, g.Selector,
		g.NamespaceSelector, g.Pods, g.PodLabels, g.NoEndpoints, g.Multicluster, g.PodNames, g.Zones))
}

// writeSnapshot writes beside the old snapshot, then takes its place.
func (c *Cluster) writeSnapshot(path string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), snapshotName+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	sum := sha256.New()
	w := bufio.NewWriterSize(io.MultiWriter(f, sum), 64<<10)
	w.WriteString(snapshotMagic)
	print := c.fingerprint()
	w.Write(print[:])
	if err := c.store.dump(func(k kind, b []byte) error {
		w.WriteByte(byte(k))
		w.Write(binary.AppendUvarint(nil, uint64(len(b))))
		_, err := w.Write(b)
		return err
	}); err != nil {
		return err
	}
	w.WriteByte(snapshotEnd)
	if err := w.Flush(); err != nil {
		return err
	}
	if _, err := f.Write(sum.Sum(nil)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// dump encodes every object. Only pointers are collected under the lock; the facts behind them never change.
func (s *store) dump(f func(k kind, b []byte) error) error {
	all := s.collect()
	var b []byte
	for _, name := range all.namespaces {
		if err := f(kindNamespace, encodeNamespace(b[:0], name)); err != nil {
			return err
		}
	}
	for i := range all.services {
		k := kindService
		if all.services[i].imported {
			k = kindImport
		}
		b = encodeService(b[:0], &all.services[i])
		if err := f(k, b); err != nil {
			return err
		}
	}
	for i := range all.slices {
		b = encodeSlice(b[:0], all.slices[i].name, &all.slices[i].e)
		if err := f(kindSlice, b); err != nil {
			return err
		}
	}
	for _, p := range all.pods {
		b = encodePod(b[:0], p.p, p.version)
		if err := f(kindPod, b); err != nil {
			return err
		}
	}
	return nil
}

// collected is what dump encodes.
type collected struct {
	namespaces []string
	services   []entry
	slices     []struct {
		name string
		e    sliceEntry
	}
	pods []struct {
		p       *Pod
		version uint64
	}
}

func (s *store) collect() (all collected) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.namespaces {
		all.namespaces = append(all.namespaces, name)
	}
	for _, m := range []*entries{&s.services, &s.imports} {
		for _, e := range m.byKey {
			if e.facts != nil {
				all.services = append(all.services, entry{name: e.name, namespace: e.namespace, imported: e.imported, facts: e.facts})
			}
		}
	}
	for key, e := range s.slices {
		all.slices = append(all.slices, struct {
			name string
			e    sliceEntry
		}{key[len(e.facts.Namespace)+1:], sliceEntry{facts: e.facts, version: e.version}})
	}
	for _, e := range s.pods {
		all.pods = append(all.pods, struct {
			p       *Pod
			version uint64
		}{s.podTable.get(e.id), e.version})
	}
	return all
}

var errSnapshot = errors.New("the file is damaged")

// loadSnapshot reads a snapshot into the store, after the whole of it has been checked. Its objects count as older than
// whatever the API server says.
func (c *Cluster) loadSnapshot(path string) (objects int, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	head := len(snapshotMagic) + sha256.Size
	if len(b) < head+1+sha256.Size || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return 0, errors.New("the file is no snapshot of this version")
	}
	body := b[:len(b)-sha256.Size]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], b[len(body):]) {
		return 0, errSnapshot
	}
	if print := c.fingerprint(); !bytes.Equal(print[:], b[len(snapshotMagic):head]) {
		return 0, errors.New("it was written with another configuration")
	}
	var o object
	for rest := body[head:]; ; objects++ {
		if len(rest) == 1 && rest[0] == snapshotEnd {
			return objects, nil
		}
		if len(rest) < 2 || rest[0] >= byte(kindCount) {
			return objects, errSnapshot
		}
		n, size := binary.Uvarint(rest[1:])
		if size <= 0 || n > uint64(len(rest)-1-size) {
			return objects, errSnapshot
		}
		o.reset(kind(rest[0]))
		data := rest[1+size : 1+size+int(n)]
		if err := decodeProto(&o, data); err != nil {
			return objects, err
		}
		o.version = 0
		c.store.upsert(&o)
		rest = rest[1+size+int(n):]
	}
}
