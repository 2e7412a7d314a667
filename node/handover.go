package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/handover"
	"github.com/godwit-dns/godwit/hostnet"
	"github.com/godwit-dns/godwit/server"
)

// readyFor is how long this agent waits for its own first answer, which comes after the configuration was loaded: a
// predecessor waits 15 seconds for both. rulesFor is the same for its rules.
const (
	readyFor = 8 * time.Second
	rulesFor = 4 * time.Second
)

// predecessor is what an agent finds when it starts.
type predecessor struct {
	taken     *handover.Taken    // nil: there is none
	listeners []server.Inherited // for run
	metrics   int                // the socket of the agent's metrics; -1: none
	handed    chan struct{}      // closed when this agent is a predecessor in its turn
	host      *hostnet.Host      // what proofs are written with; nil: there is no predecessor
}

// web gives the inherited socket of the agent's metrics to its new owner.
func (p *predecessor) web() int {
	fd := p.metrics
	p.metrics = -1
	return fd
}

// close gives back what nobody has taken.
func (p *predecessor) close() {
	if p.taken != nil {
		p.taken.Close()
	}
	if fd := p.web(); fd >= 0 {
		unix.Close(fd)
	}
	if p.host != nil {
		_ = p.host.Leave() // it has only a socket to close
	}
}

// sort keeps what belongs to the agent itself, and gives the rest to run.
func (p *predecessor) sort(all []handover.Listener) {
	for _, l := range all {
		switch {
		case l.Key == webKey && p.metrics < 0:
			p.metrics = l.FD
		case l.Key == webKey:
			unix.Close(l.FD)
		default:
			p.listeners = append(p.listeners, server.Inherited{Key: l.Key, Network: l.Network, Addr: l.Addr, FD: l.FD})
		}
	}
}

// oldSide is this agent in the hands of a successor.
type oldSide struct{ a *agent }

var _ handover.Side = oldSide{}

// Alias and SetAlias are the interface's.
func (s oldSide) Alias() (string, error) { return s.a.net.Alias() }

// SetAlias writes it.
func (s oldSide) SetAlias(text string) error { return s.a.net.SetAlias(text) }

// Listeners gives duplicates of all of the process's listening sockets.
func (s oldSide) Listeners() ([]handover.Listener, error) {
	s.a.sockets.Hold() // the successor makes its own of what the Corefile says now
	all, err := s.a.sockets.Export()
	if err == nil && s.a.web != nil {
		var own server.Inherited
		if own, err = s.a.web.export(); err == nil {
			all = append(all, own)
		}
	}
	list := make([]handover.Listener, 0, len(all))
	for _, in := range all {
		if !in.Addr.IsValid() { // HTTP endpoints go by what the Corefile says
			var e error
			if in.Addr, e = boundTo(in.FD); e != nil {
				err = errors.Join(err, e)
			}
		}
		list = append(list, handover.Listener{Key: in.Key, Network: in.Network, Addr: in.Addr, FD: in.FD})
	}
	if err != nil {
		return list, fmt.Errorf("passing the listeners on: %w", err)
	}
	return list, nil
}

// StopReading leaves all new queries to the successor.
func (s oldSide) StopReading() { s.a.sockets.Pause() }

// GoOn has the Corefile looked at again.
func (s oldSide) GoOn() {
	s.a.sockets.Release()
	s.a.source.tell()
}

// ReadOn takes them again.
func (s oldSide) ReadOn() { s.a.sockets.Continue() }

// SaveCache writes what the caches hold.
func (s oldSide) SaveCache(ctx context.Context, w io.Writer) error {
	return saveCaches(ctx, w, s.a.sockets.Kept())
}

// takeOver makes this agent the owner in its predecessor's place. Alone says that the predecessor has died meanwhile and
// that the host remains to be set up. On an error the predecessor goes on, and this agent has to end.
func (a *agent) takeOver(ctx context.Context) (alone bool, err error) {
	t := a.taken
	a.taken = nil
	defer t.Close()
	a.startProbing()
	answering, cancel := context.WithTimeout(ctx, readyFor)
	err = a.probe.wait(answering, false) // the predecessor reads the same sockets, and answers some
	cancel()
	if err != nil {
		return false, err
	}
	err = t.Ready(ctx, func(r io.Reader) {
		n, err := loadCaches(r, a.sockets.Kept())
		a.log.Info("the predecessor's caches are read", "entries", n, "reason", complete(err))
	})
	if errors.Is(err, handover.ErrGone) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if err = a.ruleIn(ctx); err != nil {
		return false, err
	}
	old, err := handover.Listen(a.id, a.log)
	if err != nil {
		return false, err
	}
	if err = t.Own(ctx, old.Alias()); err != nil && !errors.Is(err, handover.ErrGone) {
		old.Close()
		return false, err
	}
	if err != nil { // it may have died before the alias was written
		err = a.net.SetAlias(old.Alias())
	}
	if err != nil {
		a.log.Warn("no successor will find this agent", "reason", err.Error())
	}
	a.counters.handover("successor")
	a.is(true, "owns the sockets, taken over")
	a.keep()
	a.awaitSuccessor(old)
	return false, nil
}

func complete(err error) string {
	if err == nil {
		return "complete"
	}
	return err.Error()
}

// ruleIn sets this agent's rules up beside its predecessor's, and waits for their lease to begin.
func (a *agent) ruleIn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, rulesFor)
	defer cancel()
	if err := a.setUpOnce(ctx); err != nil {
		return err
	}
	every, enough := context.WithTimeout(ctx, leaseFor)
	defer enough()
	if a.probe.wait(every, true) == nil {
		return nil
	}
	return a.probe.wait(ctx, false) // an address that the Corefile does not bind is no reason to end
}
