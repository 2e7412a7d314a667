// Package timeouts says how long a client may take over streams (RFC 7766, 6.2.3).
//
//	timeouts {
//	    read DURATION
//	    write DURATION
//	    idle DURATION
//	    maxtcpqueries NUM
//	}
package timeouts

import (
	"math"
	"strconv"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
)

// Spec is the timeouts directive.
var Spec = chain.Spec{
	Name: "timeouts",
	Usage: `timeouts {
    read DURATION
    write DURATION
    idle DURATION
    maxtcpqueries NUM
}`,
	Options: func() corefile.Options { return options(&chain.Timeouts{}) },
	New:     setup,
}

// Bounds of a timeout.
const (
	shortest = time.Second
	longest  = 24 * time.Hour
)

func setup(s *chain.Setup) error {
	for i := range s.Lines {
		l := &s.Lines[i]
		if err := corefile.ArgCount(l, 0, 0, ""); err != nil {
			return err
		}
		if len(l.Block) == 0 {
			err := corefile.Errorf(l.Name.Pos, "timeouts sets no timeout")
			err.Hint = "write a block:\n" + s.Spec.Usage
			return err
		}
		warnings, err := options(&s.Block.Timeout).Read(l)
		s.Warn(warnings...)
		if err != nil {
			return err
		}
	}
	return nil
}

func options(t *chain.Timeouts) corefile.Options {
	return corefile.Options{
		row("read", &t.Read), row("write", &t.Write), row("idle", &t.Idle),
		{Name: "maxtcpqueries", Usage: "NUM", Min: 1, Max: 1, Read: func(l *corefile.Line) error {
			n, err := corefile.ParseInt(l.Args[0], -1, math.MaxInt)
			if err != nil {
				return err
			}
			if n == 0 {
				return corefile.Errorf(l.Args[0].Pos, "a connection without queries is of no use: write -1 for no bound")
			}
			t.Queries = max(n, 0)
			return nil
		}},
	}
}

// row is a duration; a bare number is seconds.
func row(name string, dst *time.Duration) corefile.Row {
	return corefile.Row{Name: name, Usage: "DURATION", Min: 1, Max: 1, Read: func(l *corefile.Line) (err error) {
		w := l.Args[0]
		if _, isNumber := strconv.Atoi(w.Text); isNumber == nil {
			w.Text += "s"
		}
		*dst, err = corefile.ParseDurationIn(w, shortest, longest)
		return err
	}}
}
