package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/handover"
	"github.com/godwit-dns/godwit/hostnet"
)

var _ network = (*hostnet.Host)(nil)

// openHost prepares the host's network; nothing is changed yet.
func openHost(o *options, a *agent, env *chain.Env) (network, error) {
	cfg := hostnet.Config{Interface: o.interfaceName, ID: a.id, Mode: hostnet.Addresses, Addresses: o.localIPs, Port: o.port,
		HealthPort: o.healthPort, Alone: o.alone, ManageInterface: o.setupInterface, ManageRules: o.setupRules,
		Check: o.syncInterval, Failed: a.checkFailed, Log: env.Log, Metrics: env.Metrics}
	cfg.ProbePort4, cfg.ProbePort6 = a.probe.ports()
	switch {
	case o.setupRules && o.rules == rulesIPTables:
		cfg.Mode = hostnet.IPTables
	case o.setupRules:
		cfg.Mode = hostnet.NFTables
	}
	switch {
	case o.fallbackName != "": // looked up when there is somebody to ask
	case o.fallback != nil:
		cfg.Fallback = o.fallback
	case a.values.clusterErr == nil && !slices.Contains(o.localIPs, a.values.cluster):
		cfg.Fallback = []netip.Addr{a.values.cluster}
	}
	return hostnet.Open(cfg)
}

// findPredecessor takes over from the agent that the interface's alias names, as far as the sockets: it goes on until this
// one answers.
func findPredecessor(o *options, id string, log *slog.Logger) (*predecessor, error) {
	p := &predecessor{metrics: -1, handed: make(chan struct{})}
	if !o.setupInterface {
		return p, nil
	}
	host, err := hostnet.Open(hostnet.Config{Interface: o.interfaceName, ID: id, Mode: hostnet.Addresses, Addresses: o.localIPs,
		ManageInterface: true, Log: log})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), takeFor)
	defer cancel()
	taken, err := handover.Take(ctx, id, host, log)
	switch {
	case errors.Is(err, handover.ErrNobody):
		log.Info("starting without a predecessor", "reason", oneLine(err))
		return p, host.Leave()
	case err != nil:
		return nil, errors.Join(fmt.Errorf("taking over from the agent that serves: %w", err), host.Leave())
	}
	p.taken, p.host = taken, host
	p.sort(taken.Listeners)
	return p, nil
}

// takeFor bounds the first half of taking over.
const takeFor = 10 * time.Second

const (
	// fallbackEvery is how often the name of the fallback's servers is looked up.
	fallbackEvery = 10 * time.Second
	// mostFallback is how many servers the fallback spreads queries over.
	mostFallback = 8
)

// fallbacker is the part of the host's network that leads queries to the cluster's servers while the agent is silent.
type fallbacker interface {
	SetFallback(ctx context.Context, targets []netip.Addr) error
}

// resolver asks the cluster's servers themselves, where their address is known: they are there before this agent's own
// addresses are.
func (a *agent) resolver() *net.Resolver {
	server := a.o.localIPs[0]
	port := strconv.Itoa(int(a.o.port))
	if a.values.clusterErr == nil {
		server, port = a.values.cluster, "53"
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(server.String(), port))
	}}
}

// firstFallback looks the fallback's servers up before the host is set up, so that what a predecessor set up stays right.
func (a *agent) firstFallback(ctx context.Context) {
	to, ok := a.net.(fallbacker)
	if !ok || a.o.fallbackName == "" || a.fallback != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	found, err := lookUp(ctx, a.resolver(), a.o.fallbackName, a.o.localIPs)
	if err == nil {
		err = to.SetFallback(ctx, found)
	}
	if err != nil {
		a.log.Info("the servers of the fallback are not known yet", "name", a.o.fallbackName, "reason", err.Error())
		return
	}
	a.fallback = found
}

// followFallback keeps the fallback's servers those that a name has. When it is not answered they stay what they were: that
// is when they are needed.
func (a *agent) followFallback(ctx context.Context, to fallbacker) {
	resolver := a.resolver()
	var complaint string
	tick := time.NewTicker(fallbackEvery)
	defer tick.Stop()
	for {
		found, err := lookUp(ctx, resolver, a.o.fallbackName, a.o.localIPs)
		if err == nil && !slices.Equal(found, a.fallback) {
			if err = to.SetFallback(ctx, found); err == nil {
				a.log.Info("the fallback for addresses that no Service has", "servers", strings.ReplaceAll(join(found), " ", ","))
				a.fallback = found
			}
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			complaint = ""
		case err.Error() != complaint:
			complaint = err.Error()
			a.log.Warn("the servers of the fallback are not known; those known before stay", "name", a.o.fallbackName, "reason", complaint)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// lookUp gives a name's addresses, sorted, few, and none of the agent's own.
func lookUp(ctx context.Context, r *net.Resolver, name string, without []netip.Addr) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	all, err := r.LookupNetIP(ctx, "ip", strings.TrimSuffix(name, ".")+".")
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i] = all[i].Unmap()
	}
	slices.SortFunc(all, netip.Addr.Compare)
	all = slices.DeleteFunc(slices.Compact(all), func(a netip.Addr) bool { return slices.Contains(without, a) })
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no address but this agent's", name)
	}
	return all[:min(len(all), mostFallback)], nil
}
