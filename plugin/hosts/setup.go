package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/wire"
	"github.com/godwit-dns/godwit/zone"
)

// Spec is the hosts directive.
var Spec = chain.Spec{
	Name:    "hosts",
	Usage:   "hosts [FILE [ZONES...]]",
	Options: func() corefile.Options { return new(options).rows() },
	New:     setup,
}

// options are what stands in the block.
type options struct {
	ttl        int // seconds
	noReverse  bool
	reload     time.Duration // 0 is never
	fall       []string
	fallOthers bool
	fallLine   *corefile.Line // the last fallthrough; nil without one
	inline     []string
}

func (o *options) rows() corefile.Options {
	return corefile.Options{
		{Name: "ttl", Usage: "SECONDS", Min: 1, Max: -1, Read: func(l *corefile.Line) (err error) {
			o.ttl, err = corefile.ParseInt(l.Args[0], 1, 65535)
			return err
		}},
		{Name: "no_reverse", Max: -1, Read: func(*corefile.Line) error {
			o.noReverse = true
			return nil
		}},
		corefile.Duration("reload", "DURATION", &o.reload, 0, 1<<63-1),
		{Name: "fallthrough", Usage: "[ZONES...]", Max: -1, Read: func(l *corefile.Line) error {
			o.fall, _ = corefile.Zones(l.Args, []string{"."})
			o.fallLine = l
			return nil
		}},
		corefile.Flag("fallthrough_unsupported", &o.fallOthers),
	}
}

func setup(s *chain.Setup) error {
	if len(s.Lines) > 1 {
		return corefile.Errorf(s.Lines[1].Name.Pos, "hosts stands twice in this block; write all names in one")
	}
	l := &s.Lines[0]
	opt := options{ttl: 3600, reload: 5 * time.Second}
	if err := opt.read(s, l); err != nil {
		return err
	}
	h := &Hosts{ttl: uint32(opt.ttl), fallOthers: opt.fallOthers, last: chain.NewLast[table](s.Env)}
	var zones []corefile.Word
	src := &source{env: s.Env, path: "/etc/hosts", reverse: !opt.noReverse, reload: opt.reload, into: h}
	if len(l.Args) > 0 {
		src.path, zones = l.Args[0].Text, l.Args[1:]
		if !path.IsAbs(src.path) && s.Block.Root != "" {
			src.path = path.Join(s.Block.Root, src.path)
		}
		if err := check(s, l.Args[0], src.path); err != nil {
			return err
		}
	}
	texts, skipped := corefile.Zones(zones, s.Block.Zones)
	s.Warn(skipped...)
	var err error
	if h.zones, err = zone.ParseList(texts); err != nil {
		return err
	}
	if h.fall, err = zone.ParseList(opt.fall); err != nil {
		return err
	}
	h.inline, err = parse(strings.NewReader(strings.Join(opt.inline, "\n")), h.zones, src.reverse)
	if err != nil {
		return err
	}
	src.first()
	s.Handler(h)
	s.OnBuilt(func() error {
		warnOfTrap(s, h, &opt)
		return nil
	})
	s.Go(src.run)
	return nil
}

// read reads the block. A line that begins with none of the options' words is a line of a hosts file, until fallthrough
// has been seen.
func (o *options) read(s *chain.Setup, l *corefile.Line) error {
	rows := o.rows()
	for _, line := range l.Block {
		known := slices.ContainsFunc(rows, func(r corefile.Row) bool { return r.Name == line.Name.Text })
		if !known && len(o.fall) == 0 {
			if _, ok := address(line.Name.Text); !ok {
				s.Warn(corefile.Warning{Pos: line.Name.Pos,
					Text: fmt.Sprintf("%q is neither an option of hosts nor an address; the line is passed over", line.Name.Text)})
			}
			o.inline = append(o.inline, text(line))
			continue
		}
		warnings, err := rows.Read(&corefile.Line{Name: l.Name, Block: []corefile.Line{line}})
		s.Warn(warnings...)
		if err == nil {
			continue
		}
		var e *corefile.Error
		if _, ok := address(line.Name.Text); ok && errors.As(err, &e) {
			e.Text, e.Hint = "an address of hosts stands behind fallthrough", "write all addresses before it"
		}
		return err
	}
	if o.fallOthers && len(o.fall) == 0 {
		return corefile.Errorf(l.Name.Pos, "fallthrough_unsupported needs fallthrough beside it")
	}
	return nil
}

func text(l corefile.Line) string {
	words := []string{l.Name.Text}
	for _, a := range l.Args {
		words = append(words, a.Text)
	}
	return strings.Join(words, " ")
}

// check says what is wrong with the file's path.
func check(s *chain.Setup, word corefile.Word, file string) error {
	info, err := fs.Stat(s.Env.Files, file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.Warn(corefile.Warning{Pos: word.Pos, Text: fmt.Sprintf("the hosts file %s does not exist; it is looked for again", file)})
	case err != nil:
		return corefile.Errorf(word.Pos, "hosts: %v", err)
	case info.IsDir():
		s.Warn(corefile.Warning{Pos: word.Pos, Text: fmt.Sprintf("the hosts file %s is a folder", file)})
	}
	return nil
}

// warnOfTrap looks for the mistake that costs a cluster its names: hosts comes before kubernetes whatever the Corefile's
// order, so a hosts that owns the block's zone and falls through for other zones only answers SERVFAIL for every name
// that it does not list.
func warnOfTrap(s *chain.Setup, h *Hosts, opt *options) {
	cluster := false
	s.Block.Chain().Handlers(func(name string, _ chain.Handler) bool {
		cluster = cluster || name == "kubernetes"
		return !cluster
	})
	if !cluster {
		return
	}
	for _, owned := range h.zones {
		whole := slices.ContainsFunc(s.Block.Names, func(n wire.Name) bool { return n.Under(owned) })
		if !whole || h.fall.Has(owned) {
			continue
		}
		w := corefile.Warning{Pos: s.Pos(), Text: fmt.Sprintf("hosts comes before kubernetes, whatever the order of lines, owns %q "+
			"and has no fallthrough: every other name, the cluster's too, is SERVFAIL; add \"fallthrough\"", owned)}
		if opt.fallLine != nil {
			w.Pos = opt.fallLine.Name.Pos
			w.Text = fmt.Sprintf("hosts comes before kubernetes, whatever the order of lines, owns %q and falls through for %s only: "+
				"every other name that it does not list, the cluster's too, is SERVFAIL; write \"fallthrough\" without zones",
				owned, strings.Join(opt.fall, " "))
		}
		s.Warn(w)
		return
	}
}
