package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/zone"
)

// errNoData is why a zone whose file was never read cannot be transferred.
var errNoData = errors.New("the zone is not loaded")

// openError is a file that can't be opened, which may pass.
type openError struct{ err error }

func (e *openError) Error() string { return "failed to open the zone file: " + e.err.Error() }
func (e *openError) Unwrap() error { return e.err }

// source is one line: a file, and the zones that are read from it. Its goroutine is the only one that loads.
type source struct {
	env      *chain.Env
	path     string
	reload   time.Duration
	byMtime  bool
	notifier chain.Notifier // nil without a transfer directive
	zones    []*served
	mtime    time.Time // of the file as last loaded
	failures *metrics.Counter
}

func newSource(env *chain.Env, path string, opt *options) *source {
	return &source{env: env, path: path, reload: opt.reload, byMtime: opt.byMtime,
		failures: env.Metrics.Counter("godwit_file_reload_failures_total",
			"Counter of zone files that could not be loaded again; the zone they were to replace goes on.", metrics.L("file", path)...)}
}

// add loads a zone for the first time and takes it in charge; an openError does not keep it from that.
func (s *source) add(z *served) error {
	data, mtime, err := s.load(z, nil)
	if err == nil {
		z.data.Store(data)
		s.mtime = mtime
	}
	s.zones = append(s.zones, z)
	return err
}

// load reads a zone. With known it gives zone.ErrUnchanged when the file has that serial.
func (s *source) load(z *served, known *uint32) (*zone.Zone, time.Time, error) {
	text, err := s.env.Files.Open(s.path)
	if err != nil {
		return nil, time.Time{}, &openError{err}
	}
	defer text.Close() // nothing was written: an error here loses nothing
	info, err := text.Stat()
	if err != nil {
		return nil, time.Time{}, &openError{err}
	}
	if info.IsDir() {
		return nil, time.Time{}, fmt.Errorf("%s is a folder, not a zone file", s.path)
	}
	data, err := zone.Parse(zone.Source{Text: text, Origin: z.origin, File: s.path, Files: s.env.Files, Known: known})
	return data, info.ModTime(), err
}

// run tells the secondaries that the zones are here, then loads what changes until ctx is done.
func (s *source) run(ctx context.Context) error {
	for _, z := range s.zones {
		s.notify(ctx, z)
	}
	if s.reload == 0 {
		return nil
	}
	ticks := s.env.Ticks(ctx, s.reload)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks:
			s.look(ctx)
		}
	}
}

// look loads the zones whose file has changed.
func (s *source) look(ctx context.Context) {
	last := s.mtime
	if s.byMtime {
		info, err := fs.Stat(s.env.Files, s.path)
		if err != nil {
			s.failed("cannot look at the zone file", err)
			return
		}
		if !info.ModTime().After(last) {
			return
		}
	}
	for _, z := range s.zones {
		var known *uint32
		if old := z.data.Load(); old != nil && !s.byMtime {
			serial := old.Serial()
			known = &serial
		}
		data, mtime, err := s.load(z, known)
		if errors.Is(err, zone.ErrUnchanged) {
			continue
		}
		if err != nil {
			s.failed("cannot load the zone "+z.origin.String(), err)
			continue
		}
		s.mtime = mtime
		z.data.Store(data)
		s.env.Log.Info("plugin/file: zone reloaded", "zone", z.origin.String(), "file", s.path, "serial", data.Serial())
		s.notify(ctx, z)
	}
}

func (s *source) failed(what string, err error) {
	s.failures.Inc(s.env.Metrics.Shared())
	s.env.Log.Error("plugin/file: "+what+"; what was loaded before goes on", "file", s.path, "error", err)
}

func (s *source) notify(ctx context.Context, z *served) {
	if s.notifier == nil || z.data.Load() == nil {
		return
	}
	if err := s.notifier.Notify(ctx, z.origin); err != nil && ctx.Err() == nil {
		s.env.Log.Warn("plugin/file: notifying the secondaries failed", "zone", z.origin.String(), "error", err)
	}
}
