// Package errors logs the errors that handlers failed with.
//
//	errors [stdout] {
//	    stacktrace
//	    consolidate DURATION REGEXP [LEVEL] [show_first]
//	}
package errors

import (
	"context"
	stderrors "errors"
	"log/slog"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/godwit-dns/godwit/chain"
)

// Errors is the handler.
type Errors struct {
	env      *chain.Env
	patterns []*pattern
	scratch  [][]byte // one buffer for each loop
	last     string   // the directive at the end of the chain
}

var (
	_ chain.Handler  = (*Errors)(nil)
	_ chain.Replier  = (*Errors)(nil)
	_ chain.Repeater = (*Errors)(nil)
)

// Serve lets every query pass.
func (*Errors) Serve(*chain.Query) chain.Outcome { return chain.Next }

// Reply logs the error, if there is one, unless a pattern counts it instead.
func (e *Errors) Reply(q *chain.Query, below chain.Outcome) chain.Outcome {
	if q.Err != nil {
		e.report(q, below)
	}
	return below
}

// Repeat has nothing to do where there is no error.
func (*Errors) Repeat(q *chain.Query, _ *chain.Repeat) bool { return q.Err == nil }

func (e *Errors) report(q *chain.Query, below chain.Outcome) {
	text := q.Err.Error()
	if stderrors.Is(q.Err, chain.ErrNoNext) {
		text = "plugin/" + e.last + ": " + text // CoreDNS's text, which patterns may match
	}
	level := slog.LevelError
	for _, p := range e.patterns {
		if !p.regexp.MatchString(text) {
			continue
		}
		if first := p.add(); !first || !p.showFirst {
			return
		}
		level = p.level
		break
	}
	if level < slog.LevelInfo && !e.env.Log.Enabled(context.Background(), level) {
		return
	}
	e.print(q, below, level, text)
}

// print writes "[ERROR] plugin/errors: CODE NAME TYPE: TEXT". The code is the failure's; a reply that was written in spite
// of the error counts as 0.
func (e *Errors) print(q *chain.Query, below chain.Outcome, level slog.Level, text string) {
	code := 0
	if below == chain.Failed {
		code = int(q.Rcode)
	}
	b := append(e.scratch[q.Shard()][:0], prefix(level)...)
	b = strconv.AppendInt(b, int64(code), 10)
	b = q.Name().AppendText(append(b, ' '))
	b = append(append(b, ' '), q.Type.String()...)
	b = append(append(b, ": "...), text...)
	b = append(b, '\n')
	e.scratch[q.Shard()] = b
	e.env.Print(q.Shard(), b)
}

func prefix(level slog.Level) string {
	switch level {
	case slog.LevelDebug:
		return "[DEBUG] plugin/errors: "
	case slog.LevelInfo:
		return "[INFO] plugin/errors: "
	case slog.LevelWarn:
		return "[WARNING] plugin/errors: "
	}
	return "[ERROR] plugin/errors: "
}

// pattern counts the errors that match it and says so when its period is over.
type pattern struct {
	regexp    *regexp.Regexp
	period    time.Duration
	level     slog.Level
	showFirst bool

	count   atomic.Int64
	started chan struct{} // a period has begun
}

// add counts one error and reports whether it is the first of a period.
func (p *pattern) add() (first bool) {
	if p.count.Add(1) > 1 {
		return false
	}
	select {
	case p.started <- struct{}{}:
	default: // the last period is just being closed, and sees this one too
	}
	return true
}

// run closes periods until ctx is done, and then the one that has begun.
func (p *pattern) run(ctx context.Context, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			p.close(log)
			return
		case <-p.started:
		}
		timer := time.NewTimer(p.period)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		p.close(log)
	}
}

// close logs what was counted. One error that was shown when it came needs no second line.
func (p *pattern) close(log *slog.Logger) {
	n := p.count.Swap(0)
	if n > 1 || n == 1 && !p.showFirst {
		log.Log(context.Background(), p.level, "plugin/errors: "+strconv.FormatInt(n, 10)+" errors like '"+p.regexp.String()+
			"' occurred in last "+p.period.String())
	}
}

// lastName gives the name of the last handler of a chain.
func lastName(c *chain.Chain) (last string) {
	for name := range c.Handlers {
		last = name
	}
	return last
}
