package loadbalance

import (
	"math"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
)

// Spec is the loadbalance directive.
var Spec = chain.Spec{
	Name: "loadbalance",
	Usage: `loadbalance [round_robin] {
    prefer CIDR...
}
loadbalance weighted WEIGHTFILE {
    reload DURATION
}`,
	Options: func() corefile.Options { return append(preferRow(&LoadBalance{}), reloadRow(new(time.Duration))...) },
	New:     setup,
}

// defaultReload is how often the weights are read again.
const defaultReload = 30 * time.Second

func setup(s *chain.Setup) error {
	lb := &LoadBalance{scratch: make([]scratch, s.Env.Loops)}
	for i := range s.Lines { // the last line's policy counts
		if err := lb.read(s, &s.Lines[i]); err != nil {
			return err
		}
	}
	if w := lb.weights; w != nil {
		w.table.Store(&table{})
		s.OnStart(w.start)
		if w.reload > 0 {
			s.Go(w.run)
		}
	}
	s.Handler(lb)
	return nil
}

func (lb *LoadBalance) read(s *chain.Setup, l *corefile.Line) error {
	policy := "round_robin"
	if len(l.Args) > 0 {
		policy = l.Args[0].Text
	}
	rows := preferRow(lb)
	switch policy {
	case "round_robin":
		if err := corefile.ArgCount(l, 0, 1, "[round_robin]"); err != nil {
			return err
		}
		lb.weights = nil
	case "weighted":
		if err := corefile.ArgCount(l, 2, 2, "weighted WEIGHTFILE"); err != nil {
			return err
		}
		file := l.Args[1].Text
		if !filepath.IsAbs(file) && s.Block.Root != "" {
			file = filepath.Join(s.Block.Root, file)
		}
		lb.weights, lb.prefer = &weights{env: s.Env, file: file, reload: defaultReload}, nil
		rows = reloadRow(&lb.weights.reload)
	default:
		err := corefile.Errorf(l.Args[0].Pos, "unknown policy %q", policy)
		err.Hint = "the policies are round_robin and weighted"
		return err
	}
	warnings, err := rows.Read(l)
	s.Warn(warnings...)
	return err
}

func preferRow(lb *LoadBalance) corefile.Options {
	return corefile.Options{{Name: "prefer", Usage: "CIDR...", Max: -1, Read: func(l *corefile.Line) error {
		for _, w := range l.Args {
			p, err := netip.ParsePrefix(w.Text)
			if err != nil {
				return corefile.Errorf(w.Pos, "%q is no network in CIDR notation", w.Text)
			}
			if p.Addr().Is4In6() {
				p = netip.PrefixFrom(p.Addr().Unmap(), max(p.Bits()-96, 0))
			}
			lb.prefer = append(lb.prefer, p)
		}
		return nil
	}}}
}

func reloadRow(dst *time.Duration) corefile.Options {
	return corefile.Options{corefile.Duration("reload", "DURATION", dst, 0, math.MaxInt64)}
}
