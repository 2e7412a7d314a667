package hosts

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/metrics"
)

// source is the hosts file. Until run it belongs to the setup, then to run's goroutine.
type source struct {
	env     *chain.Env
	path    string
	reverse bool
	reload  time.Duration // 0 is never
	into    *Hosts

	read  bool // the file was read at least once
	mtime time.Time
	size  int64
}

// first reads the file while the configuration is built. A file that can't be read leaves the table empty.
func (s *source) first() {
	s.into.file.Store(&table{})
	s.look()
}

// run publishes the metrics of the first reading and then reads the file whenever it has changed, until ctx is done.
func (s *source) run(ctx context.Context) error {
	if s.read {
		s.publish()
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
			if s.look() {
				s.publish()
			}
		}
	}
}

// look reads the file when its size or time are not those of the last reading, and reports whether it did. A file that is
// gone leaves what was read.
func (s *source) look() bool {
	file, err := s.env.Files.Open(s.path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.env.Log.Warn("plugin/hosts: cannot open the hosts file", "file", s.path, "error", err)
		}
		return false
	}
	defer file.Close() // nothing was written: an error here loses nothing
	info, err := file.Stat()
	if err != nil || info.IsDir() || s.read && info.ModTime().Equal(s.mtime) && info.Size() == s.size {
		return false
	}
	t, err := parse(file, s.into.zones, s.reverse)
	if err != nil {
		s.env.Log.Warn("plugin/hosts: cannot read the hosts file; what was read before goes on", "file", s.path, "error", err)
		return false
	}
	s.into.file.Store(t)
	s.read, s.mtime, s.size = true, info.ModTime(), info.Size()
	return true
}

func (s *source) publish() {
	m := s.env.Metrics
	m.Gauge("coredns_hosts_entries", "The combined number of entries in hosts and Corefile.", metrics.L("hostsfile", s.path)...).
		Set(float64(s.into.inline.entries + s.into.file.Load().entries))
	m.Gauge("coredns_hosts_reload_timestamp_seconds", "The timestamp of the last reload of hosts file.").
		Set(float64(s.mtime.UnixNano()) / 1e9)
}
