// Command bench measures Godwit beside other name servers on one machine with two cores and writes docs/benchmarks.md.
//
//	go run ./bench [-only NAME,NAME] [-short] [-seconds N] [-rounds N] [-rates 1000,5000,…,max] [-godwit PATH]
//
// The environment variable PEER adds servers: "name=command; name=command". A command's {PORT}, {DIR}, {COREFILE},
// {ZONE} and {UPSTREAM} are filled in; it takes part in the works that have all of what it names. The method is in
// method.md, which is also the head of what is written.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// work is one part of the benchmark, with a file of results of its own.
type work struct {
	name, title string
	run         func(ctx context.Context, r *rig, out *Result) error
}

// works lists all parts in the order in which they run and stand on the page.
func works() []work {
	return []work{
		{"hit", "Cache hit", workHit},
		{"kube", "kubeadm's Corefile before a real API server with 10,000 Services", workKube},
		{"zone", "A zone of 100,000 names", workZone},
		{"miss", "Cache miss, forwarded", workMiss},
		{"tcp", "TCP, 20 connections, pipelined", workTCP},
		{"user", "User-space CPU of a hit", workUser},
		{"loops", "Two loops against one", workLoops},
		{"idle", "Idle", workIdle},
		{"latency", "Latency at half of capacity", workLatency},
		{"memory-stream", "Memory and time to ready: 10,000 Services, 150,000 endpoints, streaming lists", workMemory(true, false)},
		{"memory-list", "Memory and time to ready: the same by LIST", workMemory(false, false)},
		{"memory-pods", "Memory and time to ready: the same with 150,000 pods, `pods verified`, streaming lists", workMemory(true, true)},
		{"restart", "After a restart of the API server", workRestart},
		{"publish", "From a change on the watch to its answer", workPublish},
		{"startup", "Start and size", workStartup},
	}
}

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "echo":
			exit(echoMain(os.Args[2:]))
		case "upstream":
			exit(upstreamMain(os.Args[2:]))
		}
	}
	exit(command(os.Args[1:]))
}

func exit(err error) {
	if err == nil {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

func command(args []string) error {
	opt, err := parseOptions(args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if opt.render {
		return render(opt.results, opt.page)
	}
	r, err := newRig(ctx, opt)
	if err != nil {
		return err
	}
	defer r.close()
	var failed []error
	for _, w := range works() {
		if !opt.wants(w.name) || ctx.Err() != nil {
			continue
		}
		if err := r.one(ctx, w); err != nil {
			r.say("%s: %v", w.name, err)
			failed = append(failed, fmt.Errorf("%s: %w", w.name, err))
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(append(failed, render(opt.results, opt.page))...)
}

// one runs a work and writes its results; a work that fails leaves the results of its last run alone.
func (r *rig) one(ctx context.Context, w work) error {
	r.say("== %s: %s", w.name, w.title)
	began := time.Now()
	out := &Result{Work: w.name, Title: w.title, When: began.UTC().Truncate(time.Second), Host: r.host, Short: r.opt.short,
		Seconds: r.opt.seconds.Seconds(), Rounds: r.opt.rounds}
	err := w.run(ctx, r, out)
	r.stopAll()
	for _, f := range out.Figures {
		r.say("%s: %s %s %s%s", f.Server, f.Name, short(f.Value), f.Unit, f.verdict())
	}
	if err != nil {
		return err
	}
	out.summarise()
	out.Took = time.Since(began).Round(time.Second).String()
	return out.write(r.opt.results)
}

// options are what the flags say.
type options struct {
	only    map[string]bool
	short   bool
	render  bool
	seconds time.Duration // of one run
	rounds  int
	loads   []load
	godwit  string
	results string
	page    string
	peers   []peerCommand
	servers map[string]bool // those to measure; nil for all there are
}

// measures reports whether a server takes part. Without Godwit and the echo there is nothing to compare.
func (o options) measures(name string) bool {
	return o.servers == nil || name == "godwit" || name == "echo" || o.servers[name]
}

// wants reports whether a work is to run. Those of one subject are meant together by what their names begin with.
func (o options) wants(name string) bool {
	return len(o.only) == 0 || o.only[name] || o.only[subjectOf(name)]
}

func subjectOf(name string) string {
	subject, _, _ := strings.Cut(name, "-")
	return subject
}

func parseOptions(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("only", "", "run these works only, by name, with commas between them")
	flags.BoolVar(&o.short, "short", false, "few and short runs: shows that everything works, measures little")
	flags.BoolVar(&o.render, "render", false, "only write the page from the results there are")
	seconds := flags.Float64("seconds", 0, "length of one run (default 1)")
	flags.IntVar(&o.rounds, "rounds", 0, "runs of each server at each load (default 12, short 2)")
	rates := flags.String("rates", "", "queries a second, with commas; max is as many as the generator makes (default 1000,5000,20000,50000,100000,max; short 20000,max)")
	servers := flags.String("servers", "", "compare with these servers only, by name, with commas between them (default: all that are installed, and PEER's)")
	flags.StringVar(&o.godwit, "godwit", "", "binary to measure (default: built from this source)")
	flags.StringVar(&o.results, "results", "bench/results", "folder for the results")
	flags.StringVar(&o.page, "page", "docs/benchmarks.md", "page to write")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if *servers != "" {
		o.servers = map[string]bool{}
		for _, name := range strings.Split(*servers, ",") {
			o.servers[name] = true
		}
	}
	return o, o.fill(*only, *seconds, *rates)
}

func (o *options) fill(only string, seconds float64, rates string) error {
	known := map[string]bool{}
	for _, w := range works() {
		known[w.name], known[subjectOf(w.name)] = true, true
	}
	for _, name := range strings.FieldsFunc(only, func(c rune) bool { return c == ',' }) {
		if !known[name] {
			return fmt.Errorf("-only: no work is called %q", name)
		}
		if o.only == nil {
			o.only = map[string]bool{}
		}
		o.only[name] = true
	}
	perRun, rounds, list := 1.0, 12, "1000,5000,20000,50000,100000,max"
	if o.short {
		rounds, list = 2, "20000,max"
	}
	if seconds > 0 {
		perRun = seconds
	}
	if o.rounds == 0 {
		o.rounds = rounds
	}
	if rates != "" {
		list = rates
	}
	o.seconds = time.Duration(perRun * float64(time.Second))
	var err error
	if o.loads, err = parseLoads(list); err != nil {
		return err
	}
	if o.godwit != "" {
		if o.godwit, err = filepath.Abs(o.godwit); err != nil {
			return err
		}
	}
	o.peers, err = parsePeers(os.Getenv("PEER"))
	return err
}
