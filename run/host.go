package run

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/server"
)

// Host is what a node agent does around the process that serves. All of its methods but Changed are called by the one
// goroutine that loads and ends configurations.
type Host interface {
	// Corefile gives the text to serve and what to call it, at start and at each look for a reload.
	Corefile() (name string, text []byte, err error)
	// Changed tells that Corefile would give something else now; it is reloaded with or without the reload directive.
	Changed() <-chan struct{}
	// Listening is called once, when the first configuration is bound and answers. An error ends the process.
	Listening(ctx context.Context, s Sockets) error
	// Leaving is called when a signal asks the process to end, before the lameduck: queries are still answered.
	Leaving(sig os.Signal)
	// Left is called when the last query has been answered and every socket is closed.
	Left()
}

// Sockets is a serving process as its host sees it. Safe for use by any goroutine.
type Sockets interface {
	// Export gives duplicates of all listening descriptors, for a successor; the caller closes them.
	Export() ([]server.Inherited, error)
	// Pause stops taking queries and connections, Continue takes them again. What is in flight is answered.
	Pause()
	Continue()
	// Quiet is the time since the last packet.
	Quiet() time.Duration
	// Hold keeps the configuration from being reloaded, when a reload that is under way has ended: what Export gives is all
	// that a successor gets. Release has it reloaded again, at once where a signal or an endpoint asked for it meanwhile.
	Hold()
	Release()
	// Kept are the parts of the serving configuration that a successor may have: caches.
	Kept() []chain.Kept
}

// sockets joins the server's and the HTTP endpoints' listeners.
type sockets struct{ p *process }

var _ Sockets = sockets{}

func (s sockets) Export() ([]server.Inherited, error) {
	all, err := s.p.server.Export()
	if err != nil {
		return nil, err
	}
	more, err := s.p.endpoints.export()
	return append(all, more...), err
}

func (s sockets) Pause()               { s.p.server.Pause() }
func (s sockets) Continue()            { s.p.server.Continue() }
func (s sockets) Quiet() time.Duration { return s.p.server.Quiet() }

// Hold waits for a reload under way.
func (s sockets) Hold() {
	s.p.steady.mu.Lock()
	defer s.p.steady.mu.Unlock()
	s.p.steady.held = true
}

// Release makes up for what was asked for meanwhile.
func (s sockets) Release() {
	s.p.steady.mu.Lock()
	defer s.p.steady.mu.Unlock()
	asked := s.p.steady.asked
	s.p.steady.held, s.p.steady.asked = false, false
	if !asked {
		return
	}
	select {
	case s.p.reloads <- struct{}{}:
	default: // one is asked for already
	}
}

// steady keeps reloads and handovers apart.
type steady struct {
	mu    sync.Mutex // of a reload, from its beginning to its end
	held  bool       // by a handover; guarded by mu
	asked bool       // a reload in any case has been put off; guarded by mu
}

// begin reports whether there may be a reload now, after which end must be called. What finds the Corefile changed does
// so again; what asks for a reload in any case is remembered.
func (s *steady) begin(force bool) bool {
	s.mu.Lock()
	if !s.held {
		return true
	}
	s.asked = s.asked || force
	s.mu.Unlock()
	return false
}

func (s *steady) end() { s.mu.Unlock() }

func (s sockets) Kept() []chain.Kept {
	if i := s.p.serves.Load(); i != nil {
		return i.Config.Kept
	}
	return nil
}

// noHost is a process without an agent around it: the Corefile is a file.
type noHost struct{ p *process }

var _ Host = noHost{}

func (h noHost) Corefile() (string, []byte, error) {
	in, err := h.p.readFile()
	return in.name, in.text, err
}
func (noHost) Changed() <-chan struct{}                 { return nil }
func (noHost) Listening(context.Context, Sockets) error { return nil }
func (noHost) Leaving(os.Signal)                        {}
func (noHost) Left()                                    {}
