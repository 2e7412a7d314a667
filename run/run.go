// Package run turns a Corefile into a serving process: load and check, build the chains, bind, start, serve; reload when
// the file changes; drain and end. The list of directives is a parameter, so a build of one's own is a short main.
package run

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/server"
)

// Options are what a process is started with.
type Options struct {
	Conf       string // path of the Corefile, "stdin", or empty for ./Corefile and, where there is none, the default
	Port       string // for keys without a port
	PidFile    string
	Quiet      bool
	Version    string // "Godwit-1.2.3" and what follows it, printed at start
	Directives []chain.Spec
	Stdin      io.Reader
	Stdout     io.Writer

	// The rest is a node agent's; the zero values are a plain server's.

	// Host makes the agent around the process, once there are a log and metrics; nil: the Corefile is Conf.
	Host      func(env *chain.Env) (Host, error)
	Inherited []server.Inherited // a predecessor's sockets
	Freebind  bool               // bind addresses that the host does not have yet
	Self      string             // what the process answers for server.SelfName; empty: nothing
	Node      bool               // chain.Env.Node
	Exit      <-chan struct{}    // closed to end without a lameduck
	QuietFor  time.Duration      // the end waits for so long a time without a packet; 0: a second
	DrainFor  time.Duration      // but no longer than this; 0: ten seconds
}

// input is the text of a Corefile and what it is called.
type input struct {
	name string
	text []byte
}

// process is everything that outlives a configuration.
type process struct {
	opt       Options
	env       *chain.Env
	server    *server.Server
	endpoints *endpoints
	traffic   *traffic
	current   *instance
	retiring  chan struct{} // closed when the last retired configuration has stopped
	stdin     []byte
	reloads   chan struct{}
	fatal     chan error
	tried     string // hash of the last Corefile that was tried
	shown     string // hash in the metrics
	complaint string // why the last reload failed
	level     *slog.LevelVar
	printer   *printer
	host      Host
	steady    steady
	serves    atomic.Pointer[instance] // current, for other goroutines
	self      *server.Self
}

// Main serves until the process is told to end, and gives its exit code.
func Main(opt Options) int {
	out, level := &lineWriter{w: opt.Stdout}, new(slog.LevelVar)
	log := NewLog(out, level)
	p, err := newProcess(opt, log)
	if err != nil {
		return failed(log, err)
	}
	p.level = level
	printing := p.startPrinter(out)
	defer printing()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGHUP)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.server.Run(ctx) })
	running.Go(func() { new(trimmer).run(ctx) })
	code := p.main(signals)
	stop()
	running.Wait()
	p.endpoints.closeAll()
	p.host.Left()
	return code
}

// startPrinter lets the loops write log lines; the function it gives writes what is left and ends it.
func (p *process) startPrinter(out io.Writer) (end func()) {
	p.printer = newPrinter(out, p.env.Loops+1)
	p.env.Print = p.printer.print
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.printer.run(ctx)
	}()
	return func() {
		stop()
		<-ended
	}
}

func failed(log *slog.Logger, err error) int {
	log.Error(err.Error())
	return 1
}

func newProcess(opt Options, log *slog.Logger) (*process, error) {
	most := maxLoops
	if opt.Node {
		most = maxNodeLoops
	}
	loops := Loops(os.DirFS("/"), most)
	// A loop keeps its processor while it waits. Of fewer than four the collector would take its quarter in turns with what
	// else runs, which then waits for most of a collection.
	runtime.GOMAXPROCS(max(loops+2, 4))
	clock := loop.System()
	registry := metrics.New(loops)
	dns := slices.DeleteFunc(slices.Clone(opt.Inherited), func(in server.Inherited) bool { return strings.HasPrefix(in.Key, keyHTTP) })
	srv, err := server.New(server.Options{Loops: loops, Clock: clock, Log: log, Metrics: registry,
		Freebind: opt.Freebind, Inherited: dns})
	if err != nil {
		return nil, err
	}
	p := &process{opt: opt, server: srv, endpoints: newEndpoints(log, opt),
		reloads: make(chan struct{}, 1), fatal: make(chan error, 1)}
	p.env = &chain.Env{
		Log: log, Metrics: registry, Loops: loops, Clock: clock, Wall: time.Now,
		Files: corefile.OS(), Env: os.LookupEnv, Version: opt.Version,
		Reload: func() {
			select {
			case p.reloads <- struct{}{}:
			default: // one is already asked for
			}
		},
		Fatal: func(err error) {
			select {
			case p.fatal <- err:
			default:
			}
		},
		Loop: srv.Worker, Node: opt.Node,
	}
	if opt.Self != "" {
		p.self = server.NewSelf(opt.Self)
	}
	p.host = noHost{p}
	if opt.Host != nil {
		if p.host, err = opt.Host(p.env); err != nil {
			return nil, err
		}
	}
	p.traffic = &traffic{env: p.env, by: map[string]*metrics.Traffic{}}
	p.reloadFailures() // there from the start, as in CoreDNS
	return p, nil
}

// main loads the Corefile and then does what signals and the reload timer ask, until the end.
func (p *process) main(signals <-chan os.Signal) int {
	first, err := p.load()
	if err == nil {
		p.tried = first.File.Hash
		first.warn()
		err = first.start(context.Background())
	}
	if err != nil {
		return failed(p.env.Log, err)
	}
	p.serving(first)
	if err = p.pidFile(); err == nil {
		err = p.host.Listening(context.Background(), sockets{p})
	}
	if err != nil {
		first.stop(true)
		return failed(p.env.Log, err)
	}
	if !p.opt.Quiet {
		fmt.Fprint(p.opt.Stdout, first.banner(), p.opt.Version)
	}
	code := p.serve(signals)
	if p.opt.PidFile != "" {
		os.Remove(p.opt.PidFile)
	}
	return code
}

func (p *process) serve(signals <-chan os.Signal) int {
	timer := time.NewTimer(p.untilReload(true))
	for {
		select {
		case sig := <-signals:
			switch sig {
			case syscall.SIGHUP: // sent by terminals and init scripts without meaning anything
			case syscall.SIGUSR1:
				p.env.Log.Info("SIGUSR1: Reloading")
				p.reload(true)
			case syscall.SIGQUIT:
				p.env.Log.Info("SIGQUIT: Quitting process immediately")
				os.Exit(0)
			default:
				return p.shutdown(sig, signals)
			}
		case <-timer.C:
			if p.current.Config.ReloadEvery > 0 {
				p.reload(false)
			}
			timer.Reset(p.untilReload(false))
		case <-p.reloads:
			p.reload(true)
		case <-p.host.Changed():
			p.reload(false)
		case <-p.opt.Exit:
			p.drain(nil)
			return 0
		case err := <-p.fatal:
			return failed(p.env.Log, err)
		}
	}
}

// untilReload gives the time to the next look at the Corefile. The first is shifted by the jitter, once, so that the
// replicas of a Deployment do not all reload at the same moment.
func (p *process) untilReload(first bool) time.Duration {
	every, jitter := p.current.Config.ReloadEvery, p.current.Config.ReloadJitter
	if every <= 0 {
		return time.Hour
	}
	if first && jitter > 0 {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(jitter)))
		if err == nil {
			every += time.Duration(n.Int64()) - jitter/2
		}
	}
	return every
}

// load reads the Corefile and builds it.
func (p *process) load() (*instance, error) {
	in, err := p.read()
	if err != nil {
		return nil, err
	}
	return p.build(in)
}

func (p *process) build(in input) (*instance, error) {
	env := *p.env
	var trial *metrics.Trial
	env.Metrics, trial = p.env.Metrics.Try()
	built, err := Build(&env, p.opt.Directives, p.opt.Port, in.name, in.text, p.traffic.dropped)
	if err != nil {
		trial.Undo()
		return nil, err
	}
	for _, t := range built.Tables {
		t.Self = p.self
	}
	return &instance{Built: built, p: p, trial: trial}, nil
}

// read asks the host for the Corefile.
func (p *process) read() (input, error) {
	name, text, err := p.host.Corefile()
	return input{name, text}, err
}

// readFile gives the Corefile's text. Without -conf a missing Corefile is the default one.
func (p *process) readFile() (input, error) {
	switch p.opt.Conf {
	case "stdin":
		if p.stdin == nil {
			text, err := io.ReadAll(p.opt.Stdin)
			if err != nil {
				return input{}, fmt.Errorf("-conf stdin: %w", err)
			}
			p.stdin = text
		}
		return input{"stdin", p.stdin}, nil
	case "":
		text, err := fs.ReadFile(p.env.Files, "Corefile")
		if errors.Is(err, fs.ErrNotExist) {
			return input{"Corefile", defaultCorefile(p.opt.Port)}, nil
		}
		if err != nil {
			return input{}, fmt.Errorf("read the Corefile: %w", err)
		}
		return input{"Corefile", text}, nil
	}
	text, err := fs.ReadFile(p.env.Files, p.opt.Conf)
	if err != nil {
		return input{}, fmt.Errorf("read the Corefile: %w", err)
	}
	return input{p.opt.Conf, text}, nil
}

// serving makes a configuration that has started the current one.
func (p *process) serving(i *instance) {
	p.current = i
	p.serves.Store(i)
	level := slog.LevelInfo
	for _, b := range i.Config.Blocks {
		if b.Debug {
			level = slog.LevelDebug
		}
	}
	p.level.Set(level)
	if i.Config.ReloadEvery > 0 {
		p.env.Log.Info("plugin/reload: Running configuration SHA512 = " + i.File.Hash)
	}
}

// reload loads the Corefile again if it has changed, or in any case when forced, and puts it in the place of the one that
// serves. Whatever goes wrong, that one goes on.
func (p *process) reload(force bool) {
	if !p.steady.begin(force) {
		return
	}
	defer p.steady.end()
	in, err := p.read()
	if err != nil {
		p.reloadFailed(err, force)
		return
	}
	file, err := corefile.Parse(p.env.Files, in.name, in.text, p.env.Env)
	if err != nil {
		p.reloadFailed(err, force)
		return
	}
	if file.Hash == p.tried && !force {
		return
	}
	p.tried = file.Hash // the same wrong file is not tried again
	p.env.Log.Info("Reloading")
	next, err := p.build(in)
	if err == nil {
		next.warn()
		err = next.start(context.Background())
	}
	if err != nil {
		p.versionInfo(file.Hash)
		p.reloadFailed(err, true)
		return
	}
	p.complaint = ""
	old := p.current
	p.serving(next)
	before := p.retiring
	p.retiring = make(chan struct{})
	go func(done chan struct{}) { // joined by shutdown
		defer close(done)
		if before != nil {
			<-before
		}
		old.retire(context.Background())
	}(p.retiring)
	p.versionInfo(file.Hash)
	p.env.Log.Info("Reloading complete")
}

// reloadFailed counts and logs a failure, one that the timer meets again and again only once.
func (p *process) reloadFailed(err error, force bool) {
	if err.Error() == p.complaint && !force {
		return
	}
	p.complaint = err.Error()
	p.env.Log.Error("plugin/reload: Corefile changed but reload failed, the old configuration goes on: " + p.complaint)
	p.reloadFailures().Inc(p.env.Metrics.Shared())
}

func (p *process) reloadFailures() *metrics.Counter {
	return p.env.Metrics.Counter("coredns_reload_failed_total", "Reloads of the Corefile that failed.")
}

// versionInfo makes the hash of the Corefile that was last tried the only one in the metrics. As in CoreDNS it is not
// there before the first reload, nor without the reload directive.
func (p *process) versionInfo(hash string) {
	const name = "coredns_reload_version_info"
	labels := func(h string) []metrics.Label { return metrics.L("hash", "sha512", "value", h) }
	if p.shown != "" {
		p.env.Metrics.Remove(name, labels(p.shown)...)
		p.shown = ""
	}
	if p.current.Config.ReloadEvery <= 0 {
		return
	}
	p.shown = hash
	p.env.Metrics.Gauge(name, "Always 1; value is the hash of the Corefile that was last loaded, or tried, by a reload.",
		labels(hash)...).Set(1)
}

func (p *process) pidFile() error {
	if p.opt.PidFile == "" {
		return nil
	}
	if err := os.WriteFile(p.opt.PidFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return fmt.Errorf("-pidfile: %w", err)
	}
	return nil
}
