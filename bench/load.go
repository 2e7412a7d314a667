package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// load is how many queries a second are offered; 0 is as many as the generator makes.
type load int

func (l load) String() string {
	if l == 0 {
		return "max"
	}
	return strconv.Itoa(int(l))
}

func parseLoads(list string) ([]load, error) {
	var all []load
	for _, word := range strings.Split(list, ",") {
		if word == "max" {
			all = append(all, 0)
			continue
		}
		n, err := strconv.Atoi(word)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("-rates: %q is neither a number nor max", word)
		}
		all = append(all, load(n))
	}
	return all, nil
}

// traffic is the questions of a work and how they are sent.
type traffic struct {
	files     []string // dnsperf's: a name and a type on each line. They begin at different places; rounds take turns
	questions []question
	edns      bool
	tcp       bool
	sockets   int
}

// writeQuestions makes dnsperf's file.
func (r *rig) writeQuestions(name string, questions []question) (traffic, error) {
	t := traffic{questions: questions, sockets: 64}
	parts := 1
	if len(questions) > manyQuestions {
		parts = 4
	}
	for i := range parts {
		path := filepath.Join(r.dir, fmt.Sprintf("%s.%d.questions", name, i))
		if err := writeLines(path, questions, i*len(questions)/parts); err != nil {
			return t, err
		}
		t.files = append(t.files, path)
	}
	return t, nil
}

// manyQuestions are more than a run may come through. Runs begin at different ones then.
const manyQuestions = 20000

// writeLines writes the questions from one of them on, and then those before.
func writeLines(path string, questions []question, from int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	for i := range questions {
		q := questions[(from+i)%len(questions)]
		fmt.Fprintln(w, q.name, dns.TypeToString[q.typ])
	}
	return errors.Join(w.Flush(), f.Close())
}

// turn is the traffic of a round.
func (t traffic) turn(round int) traffic {
	i := round % len(t.files)
	t.files = t.files[i : i+1]
	return t
}

// Sample is one run of the generator against one server.
type Sample struct {
	Series    string  `json:"series"` // what was asked, and how
	Server    string  `json:"server"`
	Load      string  `json:"load"`
	Round     int     `json:"round"`
	Seconds   float64 `json:"seconds"`
	Sent      uint64  `json:"sent"`
	Answered  uint64  `json:"answered"` // NOERROR and NXDOMAIN
	CPU       float64 `json:"cpu_us"`   // microseconds an answer, user and kernel
	User      float64 `json:"user_us"`
	Kernel    float64 `json:"kernel_us"`
	Fill      float64 `json:"fill,omitempty"` // datagrams a receive call; 0 where the server does not say
	Switches  float64 `json:"switches"`       // voluntary context switches an answer
	Generator float64 `json:"generator"`      // cores that dnsperf used
	Steal     float64 `json:"steal"`          // share of the server's core that the hypervisor took
	Others    float64 `json:"others"`         // share of the server's core that others used
	Disturbed bool    `json:"disturbed,omitempty"`
}

// Limits beyond which a run is not counted, as long as there are others.
const (
	maxSteal  = 0.01
	maxOthers = 0.10
)

// dnsperf runs the generator and gives what it sent, got and took.
type perf struct {
	sent, answered uint64
	seconds        float64
	cpu            time.Duration
}

// dnsperf runs the generator for a time, or once through the file when that is 0.
func (t traffic) dnsperf(ctx context.Context, s *server, l load, length time.Duration) (p perf, err error) {
	args := []string{"-c", clientCore, "dnsperf", "-s", "127.0.0.1", "-p", strconv.Itoa(s.port), "-d", t.files[0], "-T", "1",
		"-c", strconv.Itoa(t.sockets), "-q", "400", "-t", "2"}
	if length > 0 {
		args = append(args, "-l", strconv.FormatFloat(length.Seconds(), 'f', -1, 64))
	} else {
		args = append(args, "-n", "1")
	}
	if l > 0 {
		args = append(args, "-Q", l.String())
	}
	if t.edns {
		args = append(args, "-e")
	}
	if t.tcp {
		args = append(args, "-m", "tcp")
	}
	cmd := exec.CommandContext(ctx, "taskset", args...)
	text, err := cmd.CombinedOutput()
	if err != nil {
		return p, fmt.Errorf("dnsperf: %w\n%s", err, text)
	}
	p.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return p, p.read(string(text))
}

func (p *perf) read(text string) error {
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		f := strings.Fields(value)
		if !ok || len(f) == 0 {
			continue
		}
		switch key {
		case "Queries sent":
			p.sent = number(f[0])
		case "Run time (s)":
			p.seconds, _ = strconv.ParseFloat(f[0], 64)
		case "Response codes":
			for i := 0; i+1 < len(f); i++ {
				if f[i] == "NOERROR" || f[i] == "NXDOMAIN" {
					p.answered += number(f[i+1])
				}
			}
		}
	}
	if p.sent == 0 || p.answered == 0 || p.seconds == 0 {
		return fmt.Errorf("dnsperf got no answer: %s", text)
	}
	return nil
}

// sample measures one run.
func (t traffic) sample(ctx context.Context, s *server, l load, length time.Duration) (Sample, error) {
	out := Sample{Server: s.name, Load: l.String()}
	receives, datagrams, err := s.batches(ctx)
	if err != nil {
		return out, err
	}
	core := readCore(serverCore)
	before, err := usageOf(s.child.pid())
	if err != nil {
		return out, err
	}
	p, err := t.dnsperf(ctx, s, l, length)
	if err != nil {
		return out, fmt.Errorf("%s: %w", s.name, err)
	}
	after, err := usageOf(s.child.pid())
	if err != nil {
		return out, err
	}
	end := readCore(serverCore)
	used := after.minus(before)
	out.cpu(used, p)
	if wall := (end.total - core.total).Seconds(); wall > 0 {
		out.Steal = (end.steal - core.steal).Seconds() / wall
		out.Others = max(0, ((end.busy-core.busy)-used.total).Seconds()/wall)
		out.Disturbed = out.Steal > maxSteal || out.Others > maxOthers || end.ksoftirqd-core.ksoftirqd > 2*tick
	}
	r2, d2, err := s.batches(ctx)
	if r2 > receives {
		out.Fill = float64(d2-datagrams) / float64(r2-receives)
	}
	return out, err
}

func (s *Sample) cpu(used usage, p perf) {
	n := float64(p.answered)
	s.Seconds, s.Sent, s.Answered = p.seconds, p.sent, p.answered
	s.CPU = float64(used.total.Nanoseconds()) / 1000 / n
	// The tick only samples, so its two counts are taken as shares of the exact total.
	if ticks := float64(used.user + used.kernel); ticks > 0 {
		s.User = s.CPU * float64(used.user) / ticks
		s.Kernel = s.CPU - s.User
	}
	s.Switches = float64(used.switches) / n
	s.Generator = p.cpu.Seconds() / p.seconds
}
