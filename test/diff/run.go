package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// run is a case at work.
type run struct {
	*testCase
	o         *options
	norm      norm
	servers   pair[*process]
	upstreams pair[[]*upstream]
	api       pair[*apiServer]
	result    result
	id        uint16
	cancel    context.CancelFunc
}

// loadLimit is how long a start may take: kubernetes waits 5 s for a cluster that does not answer, loop 30 s for itself.
const loadLimit = 20 * time.Second

func runCase(ctx context.Context, o *options, ports *ports, c *testCase) result {
	begin := time.Now()
	r := &run{testCase: c, o: o, result: result{name: c.name}, id: 1}
	ctx, r.cancel = context.WithCancel(ctx)
	defer r.cancel()
	root, err := os.MkdirTemp("", "diff-")
	if err == nil {
		defer os.RemoveAll(root)
		err = r.prepare(root, ports)
	}
	defer r.closeAll()
	if err == nil {
		err = r.all(ctx, root)
	}
	r.result.err = err
	r.result.took = time.Since(begin)
	return r.result
}

// prepare makes the servers' folders, their upstreams and API servers, and the variables that name them.
func (r *run) prepare(root string, ports *ports) error {
	for i, name := range []string{"coredns", "godwit"} {
		if err := write(filepath.Join(root, name), r.files); err != nil {
			return err
		}
		vars := map[string]string{}
		r.norm.variables[i] = vars
		for _, v := range serverPorts {
			n, err := ports.take()
			if err != nil {
				return err
			}
			vars[v] = strconv.Itoa(n)
		}
		for _, v := range []string{"UP", "UP2", "UP3"} {
			u, err := startUpstream(v)
			if err != nil {
				return err
			}
			r.upstreams[i] = append(r.upstreams[i], u)
			vars[v], vars[strings.Replace(v, "UP", "UPTLS", 1)] = u.port(), u.tlsPort()
		}
		api, err := startAPI()
		if err != nil {
			return err
		}
		r.api[i], vars["API"] = api, api.port()
		if err := api.apply(r.cluster); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) closeAll() {
	for i := range 2 {
		if r.servers[i] != nil {
			r.servers[i].stop()
		}
		for _, u := range r.upstreams[i] {
			u.close()
		}
		if r.api[i] != nil {
			r.api[i].close()
		}
	}
}

func (r *run) all(ctx context.Context, root string) error {
	for _, l := range r.loads {
		r.result.corefiles++
		if err := r.load(ctx, root, l, true); err != nil {
			return fmt.Errorf("load %s: %w", l.name, err)
		}
	}
	if len(r.steps) == 0 {
		return nil
	}
	r.result.corefiles++
	corefile, err := os.ReadFile(filepath.Join(root, "coredns", "Corefile"))
	if err != nil {
		return err
	}
	r.norm.running = r.running
	r.norm.kubernetes = bytes.Contains(corefile, []byte("kubernetes"))
	if err := r.load(ctx, root, load{"Corefile", "Corefile"}, false); err != nil || r.servers[0] == nil {
		return err
	}
	for _, s := range r.steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.step(&s); err != nil {
			return fmt.Errorf("script line %d: %s: %w", s.line, s.text, err)
		}
	}
	return nil
}

// load starts both servers and compares whether they serve. With brief they are stopped again.
func (r *run) load(ctx context.Context, root string, l load, brief bool) error {
	var serves pair[bool]
	for i, binary := range []string{r.o.coredns, r.o.godwit} {
		p, err := start(ctx, binary, filepath.Join(root, []string{"coredns", "godwit"}[i]), l.path, r.norm.variables[i])
		if err != nil {
			return err
		}
		r.servers[i] = p
	}
	for i, p := range r.servers {
		var err error
		if serves[i], err = p.loaded(loadLimit); err != nil {
			return err
		}
	}
	a, b := r.servers[0], r.servers[1]
	switch {
	case serves[0] != serves[1]:
		r.differ("load "+l.name, fmt.Sprintf("  CoreDNS serves: %v, Godwit serves: %v\n%s\n%s", serves[0], serves[1], indent(a.out.String()), indent(b.out.String())))
	case !serves[0] && a.code != b.code:
		r.differ("load "+l.name, fmt.Sprintf("  exit codes %d and %d", a.code, b.code))
	case !serves[0] && !brief:
		return fmt.Errorf("the Corefile does not load:\n%s", indent(a.out.String()))
	}
	if brief || serves[0] != serves[1] {
		for i := range r.servers {
			r.servers[i].stop()
			r.servers[i] = nil
		}
	}
	return nil
}

func (r *run) differ(what, detail string) {
	r.result.diffs = append(r.result.diffs, difference{what: what, detail: detail})
}

// step does one line of the script.
func (r *run) step(s *step) error {
	switch s.verb {
	case "ask", "raw", "fuzz", "mix":
		for i := range s.asks {
			if err := r.ask(&s.asks[i]); err != nil {
				return err
			}
		}
	case "wait":
		d, err := time.ParseDuration(s.args[0])
		time.Sleep(d)
		return err
	case "http":
		return r.http(s)
	case "metrics":
		return r.metrics(s)
	case "log":
		return r.log(s)
	case "seen":
		r.seen(s)
	case "hold":
		return r.hold(s)
	case "release":
		r.release()
	case "until":
		return r.until(s)
	case "apply", "remove":
		return r.change(s)
	case "copy":
		for _, p := range r.servers {
			b, err := os.ReadFile(filepath.Join(p.dir, s.args[0]))
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(p.dir, s.args[1]), b, 0o644); err != nil {
				return err
			}
		}
	case "signal", "exit":
		return r.signal(s)
	}
	return nil
}

func (r *run) ask(q *question) error {
	var to pair[netip.AddrPort]
	for i := range to {
		port, err := strconv.ParseUint(r.norm.variables[i][q.port], 10, 16)
		if err != nil {
			return fmt.Errorf("%s: no port $%s", q.what, q.port)
		}
		to[i] = netip.AddrPortFrom(q.at, uint16(port))
	}
	r.id++
	r.result.asked++
	got, err := ask(q, to, r.id, r.wait)
	if err != nil {
		return fmt.Errorf("%s: %w", q.what, err)
	}
	if r.o.verbose && !q.silent && len(got[0].messages)+len(got[1].messages) == 0 {
		fmt.Fprintf(os.Stderr, "%s: %s: neither answers\n", r.name, q.what) // each costs the whole wait
	}
	if text := r.norm.differ(got); text != "" {
		r.differ(q.what, text)
	}
	return nil
}

// change applies or removes objects of the cluster, and waits until the servers should have noticed.
func (r *run) change(s *step) error {
	for _, f := range r.files {
		if f.Name != s.args[0] {
			continue
		}
		for _, api := range r.api {
			do := api.apply
			if s.verb == "remove" {
				do = api.remove
			}
			if err := do(f.Data); err != nil {
				return err
			}
		}
		time.Sleep(r.noticeIn)
		return nil
	}
	return fmt.Errorf("no file %s", s.args[0])
}

// signal sends a signal to both; exit also waits for the end and compares the exit codes.
func (r *run) signal(s *step) error {
	known := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT,
		"USR1": syscall.SIGUSR1, "HUP": syscall.SIGHUP}
	sig, ok := known[s.args[0]]
	if !ok {
		return fmt.Errorf("no signal %s among %v", s.args[0], slices.Sorted(maps.Keys(known)))
	}
	for _, p := range r.servers {
		if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	if s.verb == "signal" {
		return nil
	}
	var codes pair[string]
	for i, p := range r.servers {
		select {
		case <-p.exited:
			codes[i] = strconv.Itoa(p.code)
		case <-time.After(r.wait + 12*time.Second):
			codes[i] = "none: it runs on"
		}
	}
	if codes[0] != codes[1] {
		r.differ(s.text, fmt.Sprintf("  exit code of CoreDNS: %s, of Godwit: %s", codes[0], codes[1]))
	}
	return nil
}

// log compares the lines printed so far that match a pattern, ports and durations made alike. Their order is free.
func (r *run) log(s *step) error {
	pattern, err := regexp.Compile(strings.TrimSpace(strings.TrimPrefix(s.text, "log")))
	if err != nil {
		return err
	}
	time.Sleep(300 * time.Millisecond) // lines are written behind the answers
	var lines pair[[]string]
	for i, p := range r.servers {
		for l := range strings.Lines(p.out.String()) {
			if l = strings.TrimSpace(l); pattern.MatchString(l) {
				l = r.norm.plain(i, l)
				l = durations.ReplaceAllString(l, "DURATION")
				lines[i] = append(lines[i], clientPort.ReplaceAllString(l, "$1:CLIENT"))
			}
		}
		slices.Sort(lines[i])
	}
	r.compareLines(s.text, lines)
	return nil
}

var (
	durations  = regexp.MustCompile(`\b[0-9.]+(e-[0-9]+)?s\b`)
	clientPort = regexp.MustCompile(`(127\.0\.0\.1|\[::1\]):[0-9]+`)
)

// seen compares what the upstreams were asked since the last time.
func (r *run) seen(s *step) {
	var lines pair[[]string]
	for i := range lines {
		for _, u := range r.upstreams[i] {
			lines[i] = append(lines[i], u.take()...)
		}
		slices.Sort(lines[i])
	}
	r.compareLines(s.text+" "+strconv.Itoa(s.line), lines)
}

// compareLines compares two sorted lists. Every line that only one of them has is a difference of its own.
func (r *run) compareLines(what string, lines pair[[]string]) {
	for i, mark := range []string{"  - ", "  + "} {
		other := slices.Clone(lines[1-i])
		for _, l := range lines[i] {
			if at := slices.Index(other, l); at >= 0 {
				other = slices.Delete(other, at, at+1)
				continue
			}
			r.differ(what, mark+clip(strings.ReplaceAll(l, "\n", "|")))
		}
	}
}
