// Package ready serves /ready over HTTP: 200 when every directive that has a say is ready, else 503.
//
//	ready [ADDRESS] {
//	    monitor until-ready|continuously
//	}
package ready

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
)

// Spec is the ready directive.
var Spec = chain.Spec{
	Name: "ready",
	Usage: `ready [ADDRESS] {
    monitor until-ready|continuously
}`,
	Options: func() corefile.Options { return options(new(string)) },
	New:     setup,
}

// defaultAddress is where /ready is served when the line names no address.
const defaultAddress = ":8181"

// continuously asks again and again; by default a part that was ready once is not asked any more.
const continuously = "continuously"

func setup(s *chain.Setup) error {
	if len(s.Lines) > 1 {
		return corefile.Errorf(s.Lines[1].Name.Pos, "ready can be used only once in a server block")
	}
	l := &s.Lines[0]
	if err := corefile.ArgCount(l, 0, 1, "[ADDRESS]"); err != nil {
		return err
	}
	address, pos := defaultAddress, l.Name.Pos
	if len(l.Args) == 1 {
		address, pos = l.Args[0].Text, l.Args[0].Pos
		if _, _, err := net.SplitHostPort(address); err != nil {
			return corefile.Errorf(pos, "%v", err)
		}
	}
	monitor := ""
	warnings, err := options(&monitor).Read(l)
	s.Warn(warnings...)
	if err != nil {
		return err
	}
	e := s.Shared("ready "+address, func() any {
		e := &endpoint{log: s.Env.Log}
		s.HTTP(chain.Endpoint{Addr: address, Path: "/ready", Handler: e, Pos: pos, Name: "ready"})
		s.OnShutdown(e.end)
		return e
	}).(*endpoint)
	s.OnBuilt(func() error {
		for _, r := range s.Block.Ready() {
			e.parts = append(e.parts, &part{Readiness: r, keep: monitor == continuously})
		}
		return nil
	})
	return nil
}

func options(monitor *string) corefile.Options {
	return corefile.Options{corefile.Enum("monitor", monitor, "until-ready", continuously)}
}

// part is one directive's say. The mutex of its endpoint guards it.
type part struct {
	chain.Readiness
	keep bool
	was  bool // it was ready
}

// endpoint answers for all blocks that name its address.
type endpoint struct {
	log   *slog.Logger
	mu    sync.Mutex
	parts []*part // complete before the endpoint serves
	over  bool    // the process is asked to end; guarded by mu
}

// end makes the process not ready, so that others stop sending queries while it still answers them.
func (e *endpoint) end(context.Context) {
	e.mu.Lock()
	e.over = true
	e.mu.Unlock()
}

// ServeHTTP names the directives that are not ready.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	waiting, over := e.waiting()
	switch {
	case over:
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "Shutting down")
	case len(waiting) > 0:
		names := strings.Join(waiting, ",")
		e.log.Info("plugin/ready: Plugins not ready: \"" + names + "\"")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, names)
	default:
		_, _ = io.WriteString(w, http.StatusText(http.StatusOK))
	}
}

func (e *endpoint) waiting() (names []string, over bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.parts {
		if p.was && !p.keep {
			continue
		}
		if p.was = p.Ready(); !p.was {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), e.over
}
