package run

import (
	"context"
	"os"
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
