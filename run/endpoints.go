package run

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/server"
)

// endpoints are the HTTP servers of the process by address: those of health, ready, prometheus and pprof. One whose
// address stays is kept across a reload; only what it answers changes.
type endpoints struct {
	log       *slog.Logger
	freebind  bool
	wait      sync.WaitGroup
	mu        sync.Mutex           // guards the rest against export
	live      map[string]*endpoint // changed by the goroutine that loads configurations alone
	inherited []server.Inherited   // a predecessor's, until the first configuration serves
}

func newEndpoints(log *slog.Logger, opt Options) *endpoints {
	e := &endpoints{log: log, freebind: opt.Freebind, live: map[string]*endpoint{}}
	for _, in := range opt.Inherited {
		if strings.HasPrefix(in.Key, keyHTTP) {
			e.inherited = append(e.inherited, in)
		}
	}
	return e
}

// keyHTTP begins the key of an endpoint's inherited socket; the endpoint's address as written follows.
const keyHTTP = "http://"

// listen gives the endpoint's listener: a predecessor's, else a new one.
func (e *endpoints) listen(addr string) (net.Listener, error) {
	for i, in := range e.inherited {
		if in.Key == keyHTTP+addr {
			e.inherited = slices.Delete(e.inherited, i, i+1)
			return server.InheritListener(in.FD)
		}
	}
	return listenShared(addr, e.freebind)
}

// export gives duplicates of the listeners.
func (e *endpoints) export() (all []server.Inherited, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for addr, f := range e.live {
		err := server.WithFD(f.ln, func(fd int) error {
			dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			all = append(all, server.Inherited{Key: keyHTTP + addr, Network: "tcp", FD: dup})
			return err
		})
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

type endpoint struct {
	addr string
	ln   net.Listener
	srv  *http.Server
	mux  atomic.Pointer[http.ServeMux]
	tls  atomic.Pointer[tls.Config] // nil: plain HTTP
}

// Accept takes a connection and wraps it in the TLS that the serving configuration wants; the handshake is the server's.
func (f *endpoint) Accept() (net.Conn, error) {
	conn, err := f.ln.Accept()
	if t := f.tls.Load(); err == nil && t != nil {
		return tls.Server(conn, t), nil
	}
	return conn, err
}

// Close and Addr make the endpoint the listener of its server.
func (f *endpoint) Close() error { return f.ln.Close() }

// Addr is the address listened on.
func (f *endpoint) Addr() net.Addr { return f.ln.Addr() }

// listenShared lets two processes, or ":9153" and "localhost:9153", have the same port (SO_REUSEPORT), as CoreDNS does: an old
// and a new process overlap when they are replaced.
func listenShared(addr string, freebind bool) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(network, _ string, raw syscall.RawConn) error {
		return server.Share(network, raw, freebind)
	}}
	return lc.Listen(context.Background(), "tcp", addr)
}

// openedEndpoints are the endpoints of a configuration that does not serve yet.
type openedEndpoints struct {
	fresh map[string]*endpoint
	muxes map[string]*http.ServeMux
	tls   map[string]*tls.Config
}

// open listens on the addresses that are new.
func (e *endpoints) open(want []chain.Endpoint) (*openedEndpoints, error) {
	o := &openedEndpoints{fresh: map[string]*endpoint{}, muxes: map[string]*http.ServeMux{}, tls: map[string]*tls.Config{}}
	for _, w := range want {
		mux := o.muxes[w.Addr]
		if mux == nil {
			mux = http.NewServeMux()
			o.muxes[w.Addr] = mux
		}
		if err := register(mux, w); err != nil {
			e.discard(o)
			return nil, err
		}
		if w.TLS != nil {
			o.tls[w.Addr] = w.TLS
		}
		if e.live[w.Addr] != nil || o.fresh[w.Addr] != nil {
			continue
		}
		ln, err := e.listen(w.Addr)
		if err != nil {
			e.discard(o)
			return nil, corefile.Errorf(w.Pos, "%s: %v", w.Name, err)
		}
		o.fresh[w.Addr] = &endpoint{addr: w.Addr, ln: ln}
	}
	return o, nil
}

// register enters a handler; two directives that want the same path of one address are a mistake in the Corefile.
func register(mux *http.ServeMux, w chain.Endpoint) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = corefile.Errorf(w.Pos, "%s: %s%s is already taken by another directive", w.Name, w.Addr, w.Path)
		}
	}()
	mux.Handle(w.Path, w.Handler)
	return nil
}

func (e *endpoints) discard(o *openedEndpoints) {
	if o == nil {
		return
	}
	for _, f := range o.fresh {
		f.ln.Close()
	}
}

// publish makes the opened endpoints the ones that answer, and closes those that nobody wants any more.
func (e *endpoints) publish(o *openedEndpoints) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for addr, f := range o.fresh {
		f.mux.Store(o.muxes[addr])
		f.tls.Store(o.tls[addr])
		e.live[addr] = f
		e.serve(f)
	}
	for addr, l := range e.live {
		if mux := o.muxes[addr]; mux != nil {
			l.mux.Store(mux)
			l.tls.Store(o.tls[addr])
			continue
		}
		l.close()
		delete(e.live, addr)
	}
	for _, in := range e.inherited { // addresses that are not wanted any more
		unix.Close(in.FD)
	}
	e.inherited = nil
}

func (e *endpoints) serve(f *endpoint) {
	f.srv = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.mux.Load().ServeHTTP(w, r) }),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a CPU profile takes half a minute
		IdleTimeout:       time.Minute,
		ErrorLog:          slog.NewLogLogger(e.log.Handler(), slog.LevelDebug),
	}
	e.wait.Go(func() {
		if err := f.srv.Serve(f); !errors.Is(err, http.ErrServerClosed) {
			e.log.Error("an HTTP endpoint ended", "address", f.addr, "error", err)
		}
	})
}

func (f *endpoint) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if f.srv.Shutdown(ctx) != nil {
		f.srv.Close()
	}
}

// closeAll ends every endpoint.
func (e *endpoints) closeAll() {
	for addr, l := range e.live {
		l.close()
		delete(e.live, addr)
	}
	e.wait.Wait()
}
