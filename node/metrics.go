package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/metrics/exposition"
	"github.com/godwit-dns/godwit/server"
)

// What can go wrong with the set-up, by the names that node-cache's metric has for it.
const (
	errorRules          = "iptables"
	errorRulesLock      = "iptables_lock"
	errorInterfaceAdd   = "interface_add"
	errorInterfaceCheck = "interface_check"
	errorConfigMap      = "configmap"
)

// counters are the agent's own metrics.
type counters struct {
	shard     int
	setup     map[string]*metrics.Counter // by error type
	handovers map[string]*metrics.Counter // by role
}

func newCounters(r *metrics.Registry) *counters {
	c := &counters{shard: r.Shared(), setup: map[string]*metrics.Counter{}, handovers: map[string]*metrics.Counter{}}
	for _, kind := range []string{errorRules, errorRulesLock, errorInterfaceAdd, errorInterfaceCheck, errorConfigMap} {
		c.setup[kind] = r.Counter("coredns_nodecache_setup_errors_total",
			"Errors in setting up the node's network and the Corefile.", metrics.L("errortype", kind)...)
	}
	for _, role := range []string{"predecessor", "successor"} {
		c.handovers[role] = r.Counter("godwit_node_handovers_total",
			"Handovers between two agents that this one took part in to the end.", metrics.L("role", role)...)
	}
	return c
}

func (c *counters) setupError(kind string) { c.setup[kind].Inc(c.shard) }

func (c *counters) handover(role string) { c.handovers[role].Inc(c.shard) }

// webKey names the socket of the agent's metrics in a handover.
const webKey = "agent-metrics"

// web serves the metrics of the process at the agent's own address, besides those of the prometheus directive.
type web struct {
	ln  net.Listener
	srv *http.Server
	log *slog.Logger
}

// newWeb listens; inherited, unless negative, is a predecessor's socket. Two agents can have the address at a time.
func newWeb(addr string, inherited int, version string, registry *metrics.Registry, log *slog.Logger) (*web, error) {
	w := &web{log: log}
	var err error
	if inherited >= 0 {
		w.ln, err = server.InheritListener(inherited)
	} else {
		lc := net.ListenConfig{Control: func(network, _ string, raw syscall.RawConn) error { return server.Share(network, raw, true) }}
		w.ln, err = lc.Listen(context.Background(), "tcp", addr)
	}
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", exposition.Handler(registry, version))
	w.srv = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: time.Minute, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	return w, nil
}

// run serves until ctx is done.
func (w *web) run(ctx context.Context) {
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := w.srv.Serve(w.ln); !errors.Is(err, http.ErrServerClosed) {
			w.log.Error("the agent's metrics are not served any more", "error", err)
		}
	})
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if w.srv.Shutdown(end) != nil {
		w.srv.Close()
	}
	serving.Wait()
}

// export gives a duplicate of the socket.
func (w *web) export() (in server.Inherited, err error) {
	err = server.WithFD(w.ln, func(fd int) error {
		in = server.Inherited{Key: webKey, Network: "tcp"}
		in.FD, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		return err
	})
	return in, err
}

// boundTo asks the kernel what a socket is bound to.
func boundTo(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)), nil
	}
	return netip.AddrPort{}, errors.New("not a socket of IP")
}
