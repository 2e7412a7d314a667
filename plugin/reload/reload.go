// Package reload makes the process load the Corefile again when it has changed.
//
//	reload [INTERVAL [JITTER]]
package reload

import (
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
)

// Spec is the reload directive.
var Spec = chain.Spec{Name: "reload", Usage: "reload [INTERVAL [JITTER]]", New: setup}

// Defaults and the least that is accepted; a jitter of 0 is, too.
const (
	defaultInterval = 30 * time.Second
	defaultJitter   = 15 * time.Second
	minInterval     = 2 * time.Second
	minJitter       = time.Second
)

// setup tells the process; like CoreDNS it reads the first line of a block only, and of several blocks the last counts.
func setup(s *chain.Setup) error {
	l := &s.Lines[0]
	if err := corefile.ArgCount(l, 0, 2, "[INTERVAL [JITTER]]"); err != nil {
		return err
	}
	if l.Block != nil {
		s.Warn(corefile.Warning{Pos: l.Name.Pos, Text: "reload has no options: its block is left out"})
	}
	interval, jitter := defaultInterval, defaultJitter
	var err error
	if len(l.Args) > 0 {
		if interval, err = corefile.ParseDuration(l.Args[0]); err != nil {
			return err
		}
		if interval < minInterval {
			return corefile.Errorf(l.Args[0].Pos, "the interval is at least %v", minInterval)
		}
	}
	if len(l.Args) > 1 {
		if jitter, err = corefile.ParseDuration(l.Args[1]); err != nil {
			return err
		}
		if jitter != 0 && jitter < minJitter {
			return corefile.Errorf(l.Args[1].Pos, "the jitter is 0, or at least %v", minJitter)
		}
	}
	s.Block.Config.ReloadEvery = interval
	s.Block.Config.ReloadJitter = min(jitter, interval/2)
	return nil
}
