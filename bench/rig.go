package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/miekg/dns"
)

// Where things run: the server on one core, everything that asks it on the other.
const (
	serverCore = "0"
	clientCore = "1"
)

// rig is what all works use: the binary, a folder, the processes that run.
type rig struct {
	opt     options
	dir     string
	self    string // this program, for the echo and the upstream
	godwit  string
	host    Host
	running []*server
	started int
}

func newRig(ctx context.Context, opt options) (*rig, error) {
	if onlineCores() < 2 {
		return nil, errors.New("the server and what asks it need a core each: this machine has one")
	}
	for _, program := range []string{"taskset", "dnsperf"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("%w; test/deps.sh bench installs what is needed", err)
		}
	}
	dir, err := os.MkdirTemp("", "godwit-bench-")
	if err != nil {
		return nil, err
	}
	r := &rig{opt: opt, dir: dir, host: thisHost(), godwit: opt.godwit}
	if r.self, err = os.Executable(); err == nil && r.godwit == "" {
		r.godwit = filepath.Join(dir, "godwit")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", r.godwit, "./cmd/godwit")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, e := build.CombinedOutput(); e != nil {
			err = fmt.Errorf("go build ./cmd/godwit (run it from the module's root): %w\n%s", e, text)
		}
	}
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *rig) say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func (r *rig) close() {
	r.stopAll()
	_ = os.RemoveAll(r.dir) // a temporary folder
}

func (r *rig) stopAll() {
	for _, s := range r.running {
		s.child.stop()
	}
	r.running = nil
}

// folder makes a folder of the rig's.
func (r *rig) folder(name string) (string, error) {
	r.started++
	dir := filepath.Join(r.dir, strconv.Itoa(r.started)+"-"+name)
	return dir, os.Mkdir(dir, 0o755)
}

// launch is what a subject's configuration says about its process.
type launch struct {
	argv    []string
	env     []string
	metrics string // URL of its metrics, empty for none
	tally   *tally // the echo's
}

// subject is a server that a work compares: how it is configured, given a folder and a port.
type subject struct {
	name  string
	start func(dir string, port int) (launch, error)
}

// server is a subject that runs.
type server struct {
	launch
	name  string
	port  int
	dir   string
	child *child
}

func (s *server) addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// start runs a subject on the cores given and waits until it answers probe, which is a name that has an A record.
func (r *rig) start(ctx context.Context, sub subject, cores, probe string) (*server, error) {
	dir, err := r.folder(sub.name)
	if err != nil {
		return nil, err
	}
	s := &server{name: sub.name, dir: dir, port: freePort()}
	if s.launch, err = sub.start(dir, s.port); err != nil {
		return nil, fmt.Errorf("%s: %w", sub.name, err)
	}
	if s.child, err = startChild(cores, filepath.Join(dir, "log"), s.env, s.argv...); err != nil {
		return nil, err
	}
	r.running = append(r.running, s)
	if probe == "" {
		return s, nil
	}
	return s, s.answers(ctx, probe, 60*time.Second)
}

// answers waits until an A query for the name is answered with a record.
func (s *server) answers(ctx context.Context, name string, limit time.Duration) error {
	var last error
	for end := time.Now().Add(limit); time.Now().Before(end); {
		reply, err := s.ask(ctx, "udp", question{name, dns.TypeA}, false)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			last = err
		case len(reply.Answer) > 0 || s.tally != nil:
			return nil
		default:
			last = fmt.Errorf("%s for %s", dns.RcodeToString[reply.Rcode], name)
		}
		if s.child.ended() {
			return fmt.Errorf("%s ended: %s", s.name, s.child.tail())
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("%s does not answer: %w\n\t%s", s.name, last, s.child.tail())
}

// freePort gives a port of 127.0.0.1 that is free for UDP and TCP, below the range that the kernel gives out.
func freePort() int {
	for {
		port := 15000 + rand.IntN(15000)
		addr := "127.0.0.1:" + strconv.Itoa(port)
		l, err := net.Listen("tcp4", addr)
		if err != nil {
			continue
		}
		p, err := net.ListenPacket("udp4", addr)
		l.Close()
		if err == nil {
			p.Close()
			return port
		}
	}
}
