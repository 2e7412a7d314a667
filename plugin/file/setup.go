package file

import (
	"errors"
	"path"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/wire"
	"github.com/godwit-dns/godwit/zone"
)

const name = "file"

// Spec is the file directive.
var Spec = chain.Spec{
	Name:    name,
	Usage:   "file DBFILE [ZONES...]",
	Options: func() corefile.Options { return new(options).rows() },
	New:     setup,
}

// options are those of all lines of a block together, as in CoreDNS: a value stays for the lines that follow.
type options struct {
	reload  time.Duration // how often the file is looked at; 0 is never
	byMtime bool          // the file's time decides, not the serial
	fall    []string
}

func (o *options) rows() corefile.Options {
	return corefile.Options{
		{Name: "reload", Usage: "DURATION", Min: 1, Max: -1, Read: func(l *corefile.Line) (err error) {
			o.reload, err = corefile.ParseDurationIn(l.Args[0], 0, 1<<63-1)
			return err
		}},
		corefile.Flag("reload_by_mtime", &o.byMtime),
		{Name: "fallthrough", Usage: "[ZONES...]", Max: -1, Read: func(l *corefile.Line) error {
			o.fall, _ = corefile.Zones(l.Args, []string{"."})
			return nil
		}},
		{Name: "upstream", Max: -1, Obsolete: "upstream is obsolete and ignored: external targets are always asked for"},
	}
}

func setup(s *chain.Setup) error {
	f := &File{state: chain.NewSlot[state](s), last: chain.NewLast[zone.Zone](s.Env)}
	opt := options{reload: time.Minute}
	var sources []*source
	for i := range s.Lines {
		src, err := read(s, f, &s.Lines[i], &opt)
		if err != nil {
			return err
		}
		sources = append(sources, src)
	}
	var err error
	if f.fall, err = zone.ParseList(opt.fall); err != nil {
		return err
	}
	s.Handler(f)
	s.Provide("zone/wildcard", f.wildcard)
	var notifier chain.Notifier
	s.OnBuilt(func() error {
		s.Block.Chain().Handlers(func(_ string, h chain.Handler) bool {
			n, ok := h.(chain.Notifier)
			if ok {
				notifier = n
			}
			return !ok
		})
		for _, src := range sources {
			src.notifier = notifier
		}
		return nil
	})
	for _, src := range sources {
		s.Go(src.run)
	}
	return nil
}

// read sets up one line: its zones are loaded, or left empty when the file can't be opened yet.
func read(s *chain.Setup, f *File, l *corefile.Line, opt *options) (*source, error) {
	if err := corefile.ArgCount(l, 1, -1, "DBFILE [ZONES...]"); err != nil {
		return nil, err
	}
	warnings, err := opt.rows().Read(l)
	s.Warn(warnings...)
	if err != nil {
		return nil, err
	}
	zones, skipped := corefile.Zones(l.Args[1:], s.Block.Zones)
	s.Warn(skipped...)
	src := newSource(s.Env, file(s.Block.Root, l.Args[0].Text), opt)
	for _, text := range zones {
		origin, err := wire.ParseName(text)
		if err != nil {
			return nil, corefile.Errorf(l.Name.Pos, "file: %q is no zone: %v", text, err)
		}
		wire.ToLower(origin)
		z := &served{origin: origin}
		if err := src.add(z); err != nil {
			var cannotOpen *openError
			if !errors.As(err, &cannotOpen) {
				return nil, corefile.Errorf(l.Args[0].Pos, "file: %v", err)
			}
			if opt.reload == 0 {
				e := corefile.Errorf(l.Args[0].Pos, "file: %v", err)
				e.Hint = "with \"reload 0\" it is never tried again"
				return nil, e
			}
			s.Warn(corefile.Warning{Pos: l.Args[0].Pos, Text: err.Error() + "; trying again in " + opt.reload.String()})
		}
		f.zones.Set(origin, z)
	}
	return src, nil
}

// file gives a path relative to the root directive's folder.
func file(root, name string) string {
	if !path.IsAbs(name) && root != "" {
		name = path.Join(root, name)
	}
	return path.Clean(name)
}
