package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// workLoops: the hits once more, by a process that may use both cores and so has two loops, and by one with one.
func workLoops(ctx context.Context, r *rig, out *Result) error {
	sc, all, err := r.hitScene()
	if err != nil {
		return err
	}
	one, two := r.subjectGodwit(sc), r.subjectGodwit(sc)
	one.name, two.name = "one loop", "two loops" // neither is called godwit: no limit counts here
	g, err := r.bring(ctx, out, sc, "host-1.hit.example.", one)
	if err != nil {
		return err
	}
	s, err := r.start(ctx, two, serverCore+","+clientCore, "host-1.hit.example.")
	if err != nil {
		return err
	}
	g.servers = append(g.servers, s)
	all = all[:1]
	all[0].limit = 0
	all[0].settle = 2 * time.Second // loops that share a load try after a second whether one can bear it
	if err := g.prepare(ctx, all); err != nil {
		return err
	}
	loads := slices.DeleteFunc(slices.Clone(r.opt.loads), func(l load) bool { return l == 0 })
	if err := g.measure(ctx, out, all, loads, r.opt.seconds); err != nil {
		return err
	}
	for _, l := range loads {
		out.figure("godwit", "CPU of two loops / of one at "+l.String(), out.times(all[0].name, l.String(), "two loops", "one loop"), "×", 1.05, "")
	}
	out.note("The second loop shares the generator's core, as there is no third.")
	return nil
}

// workIdle: nobody asks.
func workIdle(ctx context.Context, r *rig, out *Result) error {
	sc, _, err := r.hitScene()
	if err != nil {
		return err
	}
	subs := append([]subject{r.subjectGodwit(sc)}, r.cachePeers(sc, true)...)
	g, err := r.bring(ctx, out, sc, "host-1.hit.example.", append(subs, r.others(sc)...)...)
	if err != nil {
		return err
	}
	length := 60 * time.Second
	if r.opt.short {
		length = 5 * time.Second
	}
	if err := sleep(ctx, 3*time.Second); err != nil {
		return err
	}
	before := map[*server]usage{}
	for _, s := range g.servers {
		if before[s], err = usageOf(s.child.pid()); err != nil {
			return err
		}
	}
	if err := sleep(ctx, length); err != nil {
		return err
	}
	for _, s := range g.servers {
		after, err := usageOf(s.child.pid())
		if err != nil {
			return err
		}
		limit := 0.0
		if s.name == "godwit" {
			limit = 0.1
		}
		out.figure(s.name, "CPU without queries", 100*after.minus(before[s]).total.Seconds()/length.Seconds(), "% of a core", limit, "")
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

const latencyBeyond = "p99 beyond the echo's of the same round"

// workLatency: an open loop at half of what the generator gets out of Godwit, with the harness's own client.
func workLatency(ctx context.Context, r *rig, out *Result) error {
	sc, all, err := r.hitScene()
	if err != nil {
		return err
	}
	subs := append([]subject{r.subjectGodwit(sc)}, r.cachePeers(sc, true)...)
	g, err := r.bring(ctx, out, sc, "host-1.hit.example.", append(subs, r.others(sc)...)...)
	if err != nil {
		return err
	}
	if err := g.prepare(ctx, all[:1]); err != nil {
		return err
	}
	p, err := all[0].dnsperf(ctx, g.named("godwit"), 0, 2*time.Second)
	if err != nil {
		return err
	}
	rate := int(float64(p.answered) / p.seconds / 2)
	out.note("Offered: %d queries a second, half of what dnsperf gets out of Godwit.", rate)
	found := map[string][]latencies{}
	for round := range r.opt.rounds {
		order := slices.Clone(g.servers)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, s := range order {
			l, err := openLoop(ctx, s.addr(), all[0].questions, rate, r.opt.seconds)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			found[s.name] = append(found[s.name], l)
		}
	}
	for _, s := range g.servers {
		out.latency(s.name, found[s.name], found["echo"])
	}
	return nil
}

func (out *Result) latency(name string, runs, echo []latencies) {
	quantile := func(q float64) func(int) float64 {
		return func(round int) float64 { return runs[round].quantile(q) }
	}
	beyond := func(round int) float64 { return runs[round].quantile(0.99) - echo[round].quantile(0.99) }
	lost := func(round int) float64 { return 100 * runs[round].lost() }
	of := func(f func(round int) float64) float64 {
		list := make([]float64, len(runs))
		for round := range list {
			list[round] = f(round)
		}
		return middle(list)
	}
	for _, q := range []float64{0.50, 0.99, 0.999} {
		out.figure(name, fmt.Sprintf("p%g", 100*q), of(quantile(q)), "µs", 0, "")
	}
	switch name {
	case "echo":
	case "godwit":
		out.figure(name, latencyBeyond, of(beyond), "µs", 50, "")
	default:
		out.figure(name, latencyBeyond, of(beyond), "µs", 0, "")
	}
	out.figure(name, "lost", of(lost), "%", 0, "")
}

// workStartup: from starting the process to its first answer, with the files of the quick start; and sizes.
func workStartup(ctx context.Context, r *rig, out *Result) error {
	const tries = 9
	var took []float64
	for range tries {
		ms, err := r.quickStart(ctx)
		if err != nil {
			return err
		}
		took = append(took, ms)
	}
	out.figure("godwit", "quick start: process started to first answer", median(took).Median, "ms", 50, "median of 9")
	peak, err := versionPeak(r.godwit)
	if err != nil {
		return err
	}
	out.figure("godwit", "-version: most memory resident", peak, "MiB", 20, "")
	info, err := os.Stat(r.godwit)
	if err != nil {
		return err
	}
	out.figure("godwit", "size of the stripped binary", float64(info.Size())/1e6, "MB", 40, "")
	return nil
}

// quickStart starts examples/quickstart on a free port and gives the milliseconds to its first answer.
func (r *rig) quickStart(ctx context.Context) (float64, error) {
	text, err := os.ReadFile("examples/quickstart/Corefile")
	if err != nil {
		return 0, fmt.Errorf("%w (run it from the module's root)", err)
	}
	manifests, err := filepath.Abs("examples/quickstart/cluster.yaml")
	if err != nil {
		return 0, err
	}
	var began time.Time
	sub := subject{"quickstart", func(dir string, port int) (launch, error) {
		moved := strings.NewReplacer(":1053", fmt.Sprintf(":%d", port), "cluster.yaml", manifests).Replace(string(text))
		path, err := writeFile(dir, "Corefile", moved)
		began = time.Now()
		return launch{argv: []string{r.godwit, "-conf", path}}, err
	}}
	s, err := r.start(ctx, sub, serverCore, "")
	if err != nil {
		return 0, err
	}
	defer s.child.stop()
	for ctx.Err() == nil && !s.child.ended() && time.Since(began) < 10*time.Second {
		reply, err := s.ask(ctx, "udp", question{"web.shop.svc.cluster.local.", dns.TypeA}, false)
		if err == nil && len(reply.Answer) > 0 {
			return float64(time.Since(began).Microseconds()) / 1000, nil
		}
		time.Sleep(200 * time.Microsecond)
	}
	return 0, fmt.Errorf("the quick start does not answer: %s", s.child.tail())
}

// versionPeak gives the MiB that `godwit -version` had resident at most. Its output goes to a pipe that is full, so it
// can be looked at when it has done everything but its last write. (The resource usage of an ended child won't do: the
// kernel begins it with what its parent had resident.)
func versionPeak(path string) (float64, error) {
	in, out, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer in.Close()
	defer out.Close()
	if err := fillPipe(out); err != nil {
		return 0, err
	}
	cmd := exec.Command(path, "-version")
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}()
	time.Sleep(time.Second)
	_, peak, err := resident(cmd.Process.Pid)
	if err != nil {
		return 0, fmt.Errorf("%s -version: %w", path, err)
	}
	return peak, nil
}

// fillPipe writes until nothing more goes in.
func fillPipe(w *os.File) error {
	if err := w.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		return err
	}
	_, err := w.Write(make([]byte, 1<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("a pipe that takes a megabyte: %w", err)
	}
	return nil
}
