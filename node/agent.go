package node

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/handover"
	"github.com/godwit-dns/godwit/run"
)

// network is the state of the host that the agent keeps; hostnet.Host is it.
type network interface {
	Adopt(ctx context.Context) error
	Up(ctx context.Context) error
	Run(ctx context.Context)
	GiveUp(ctx context.Context) error
	Down(ctx context.Context, keep bool) error
	Leave() error
	Alias() (string, error)
	SetAlias(text string) error
}

const (
	// quietFor and drainFor end a planned exit: nobody has asked for so long, or it has taken so long.
	quietFor = 300 * time.Millisecond
	drainFor = 5 * time.Second
	// stepFor bounds each step that changes the host. iptables may wait for its lock.
	stepFor = 10 * time.Second
	// againFirst is the pause before setting the host up once more after it failed; it doubles up to the sync interval.
	againFirst = time.Second
	// leaseFor is how long the agent waits to see its first probe answered before it goes on without.
	leaseFor = 2 * time.Second
)

// agent keeps the host's state in step with the process that serves. It is run's Host: those methods are called by one
// goroutine.
type agent struct {
	*source
	o        *options
	id       string
	log      *slog.Logger
	counters *counters
	probe    *prober
	net      network // nil: nothing of the host is this agent's to set up
	web      *web    // nil: not served
	admin    *handover.Admin
	taken    *handover.Taken // a predecessor's side, until this agent owns the sockets
	handed   chan struct{}   // closed when a successor owns the sockets
	sockets  run.Sockets
	signals  chan os.Signal

	state     atomic.Pointer[state]
	ctx       context.Context // of everything that goes on until the end
	stop      context.CancelFunc
	group     sync.WaitGroup
	upkeep    task // setting the host up, which starts the other three
	probing   task
	repairing task
	serving   task // waiting for a successor

	fallback []netip.Addr // the servers that fallbackName has had last; of whichever task sets the host up or keeps it

	up    bool // the host has been set up, or partly; set by upkeep, read when that has ended
	given bool // the lease has been given up
	down  bool // and the host cleared up again
}

var _ run.Host = (*agent)(nil)

// state is what a probe is told.
type state struct {
	owns bool
	text string
}

// task is a goroutine that can be ended before the others.
type task struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// start runs f until the task or ctx ends.
func (t *task) start(ctx context.Context, group *sync.WaitGroup, f func(ctx context.Context)) {
	var running context.Context
	running, t.cancel = context.WithCancel(ctx)
	t.done = make(chan struct{})
	done := t.done
	group.Go(func() {
		defer close(done)
		f(running)
	})
}

// end ends it and waits; one that was never started has ended.
func (t *task) end() {
	if t.done != nil {
		t.cancel()
		<-t.done
	}
}

func (a *agent) is(owns bool, text string) {
	a.state.Store(&state{owns, "agent " + a.id + " " + text})
}

// begin starts what does not depend on the host's state.
func (a *agent) begin() {
	a.group.Go(func() { a.source.run(a.ctx) })
	if a.web != nil {
		a.group.Go(func() { a.web.run(a.ctx) })
	}
	if a.admin != nil {
		a.group.Go(func() {
			a.admin.Run(a.ctx, func() (bool, string) {
				s := a.state.Load()
				return s.owns, s.text
			})
		})
	}
}

// Listening sets the host up, or takes it over: DNS is answered now. Without a predecessor it does not wait, and what fails
// is tried again; the cluster's servers answer meanwhile.
func (a *agent) Listening(ctx context.Context, s run.Sockets) error {
	a.sockets = s
	signal.Notify(a.signals, syscall.SIGTERM, syscall.SIGINT) // run has its own: this one is for after it
	a.is(false, "is setting up the host")
	a.begin()
	if a.taken != nil {
		alone, err := a.takeOver(ctx)
		if err != nil {
			a.up = false // what stands there is the predecessor's
			a.is(false, "could not take over")
			return fmt.Errorf("taking over from the agent that serves: %w", err)
		}
		if !alone {
			return nil
		}
	}
	a.upkeep.start(a.ctx, &a.group, a.setUp)
	return nil
}

// setUp makes the host as it should be, however often that takes, and then keeps it so.
func (a *agent) setUp(ctx context.Context) {
	if a.net == nil {
		a.is(true, "serves; the host is not its to set up")
		return
	}
	for pause := againFirst; ; pause = min(2*pause, a.o.syncInterval) {
		err := a.setUpOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			break
		}
		a.is(false, "can't set up the host: "+oneLine(err))
		a.log.Error("the host is not set up; the cluster's servers answer meanwhile", "reason", err.Error(), "again_in", pause.String())
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
	a.settle(ctx)
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func (a *agent) setUpOnce(ctx context.Context) error {
	a.firstFallback(ctx)
	step, cancel := context.WithTimeout(ctx, stepFor)
	defer cancel()
	a.up = true
	err := a.net.Adopt(step)
	if err == nil {
		err = a.net.Up(step)
	}
	if err != nil {
		a.counters.setupError(kindOf(err))
		return err
	}
	a.startProbing()
	return nil
}

// startProbing begins to ask, after which the rules lead queries here.
func (a *agent) startProbing() {
	if a.probing.done == nil {
		a.probing.start(a.ctx, &a.group, a.probe.run)
	}
}

// settle waits for the first answers and makes this agent the owner.
func (a *agent) settle(ctx context.Context) {
	lease, cancel := context.WithTimeout(ctx, leaseFor)
	err := a.probe.wait(lease, true)
	cancel()
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		a.log.Warn("not every address is answered", "reason", err.Error())
	}
	a.keep()
	a.own()
}

// keep repairs what other programs change of the host's state, and follows the fallback's servers.
func (a *agent) keep() {
	a.repairing.start(a.ctx, &a.group, func(ctx context.Context) {
		var following sync.WaitGroup
		defer following.Wait()
		if to, ok := a.net.(fallbacker); ok && a.o.fallbackName != "" {
			following.Go(func() { a.followFallback(ctx, to) })
		}
		a.net.Run(ctx)
	})
}

// own makes this agent the one that a successor finds.
func (a *agent) own() {
	a.is(true, "owns the sockets")
	if !a.o.setupInterface || a.serving.done != nil {
		return
	}
	old, err := handover.Listen(a.id, a.log)
	if err == nil {
		if err = a.net.SetAlias(old.Alias()); err != nil {
			old.Close()
		}
	}
	if err != nil {
		a.log.Warn("a successor can't take over without a gap", "reason", err.Error())
		return
	}
	a.awaitSuccessor(old)
}

func (a *agent) awaitSuccessor(old *handover.Old) {
	a.serving.start(a.ctx, &a.group, func(ctx context.Context) {
		defer old.Close()
		if !old.Serve(ctx, oldSide{a}) {
			return
		}
		a.counters.handover("predecessor")
		a.is(false, "has been succeeded")
		a.probing.cancel() // whoever ends the process waits for it
		close(a.handed)
	})
}

// succeeded reports whether another agent owns the sockets.
func (a *agent) succeeded() bool {
	select {
	case <-a.handed:
		return true
	default:
		return false
	}
}

// Leaving begins the planned exit: from here on the rules lead nobody here. A handover under way ends first. As with
// node-cache SIGINT clears the host up before the lameduck, SIGTERM after it.
func (a *agent) Leaving(sig os.Signal) {
	a.upkeep.end()
	a.serving.end()
	if a.succeeded() {
		return
	}
	a.is(false, "is leaving")
	a.giveUp()
	if sig == syscall.SIGINT {
		a.untilQuiet()
		a.clearUp()
	}
}

func (a *agent) giveUp() {
	a.probing.end()
	if a.net == nil || !a.up || a.given {
		return
	}
	a.given = true
	ctx, cancel := context.WithTimeout(context.Background(), stepFor)
	defer cancel()
	if err := a.net.GiveUp(ctx); err != nil {
		a.log.Error("the lease is not given up, it ends by itself", "reason", err.Error())
	}
}

// untilQuiet serves what still comes.
func (a *agent) untilQuiet() {
	limit := time.After(drainFor)
	tick := time.NewTicker(quietFor / 6)
	defer tick.Stop()
	for a.sockets.Quiet() < quietFor {
		select {
		case <-limit:
			return
		case <-tick.C:
		}
	}
}

// clearUp takes the agent's traces from the host.
func (a *agent) clearUp() {
	if a.net == nil || a.down {
		return
	}
	a.down = true
	a.repairing.end() // not before: addresses have a lifetime, and lameduck may be longer
	if !a.up || a.succeeded() {
		a.report(a.net.Leave())
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stepFor)
	defer cancel()
	a.report(a.net.Down(ctx, a.o.skipTeardown))
}

func (a *agent) report(err error) {
	if err != nil {
		a.counters.setupError(kindOf(err))
		a.log.Error("the host is not quite cleared up", "reason", err.Error())
	}
}

// Left ends everything: every query has been answered, and the sockets are closed.
func (a *agent) Left() {
	a.upkeep.end()
	a.serving.end()
	if !a.succeeded() {
		a.giveUp()
	}
	a.stop()
	a.group.Wait()
	if a.taken != nil {
		a.taken.Close()
	}
	a.clearUp()
	a.close()
}

// close gives back what newAgent took.
func (a *agent) close() {
	a.stop()
	a.probe.close()
	if a.admin != nil {
		a.admin.Close()
	}
	if a.web != nil {
		a.web.ln.Close()
	}
}

// newAgent makes the agent around a process. What it opens is closed by Left, or here on an error.
func newAgent(o *options, id string, p Program, env *chain.Env, before *predecessor) (a *agent, err error) {
	a = &agent{o: o, id: id, log: env.Log, counters: newCounters(env.Metrics), handed: before.handed, taken: before.taken,
		signals: make(chan os.Signal, 1)}
	a.ctx, a.stop = context.WithCancel(context.Background())
	a.is(false, "is starting")
	a.source = newSource(o, p.Env, env.Log, func() { a.counters.setupError(errorConfigMap) })
	var probed []netip.Addr // none where queries to them might leave the host
	if o.setsUp() {
		probed = o.localIPs
	}
	if a.probe, err = newProber(id, probed, o.port, env.Log, env.Metrics); err != nil {
		return nil, err
	}
	if o.setsUp() {
		if a.net, err = openHost(o, a, env); err != nil {
			a.close()
			return nil, fmt.Errorf("the host's network: %w", err)
		}
	}
	if o.metricsAddr != "" {
		if a.web, err = newWeb(o.metricsAddr, before.web(), env.Version, env.Metrics, env.Log); err != nil { // as with node-cache no reason not to serve
			env.Log.Error("the agent's metrics are not served", "address", o.metricsAddr, "reason", err.Error())
		}
	}
	if a.admin, err = handover.OpenAdmin(o.adminFolders()); err != nil {
		env.Log.Warn("\"probe\" can't ask this agent", "reason", err.Error())
	}
	return a, nil
}

// checkFailed counts what a look at the host's state could not put right, as node-cache does.
func (a *agent) checkFailed(rules bool, err error) {
	switch {
	case !rules:
		a.counters.setupError(errorInterfaceCheck)
	case kindOf(err) == errorRulesLock:
		a.counters.setupError(errorRulesLock)
	default:
		a.counters.setupError(errorRules)
	}
}

// kindOf sorts an error of setting up by node-cache's names.
func kindOf(err error) string {
	switch text := err.Error(); {
	case strings.Contains(text, "xtables lock"):
		return errorRulesLock
	case strings.Contains(text, "nftables"), strings.Contains(text, "iptables"), strings.Contains(text, "ip6tables"):
		return errorRules
	}
	return errorInterfaceAdd
}
