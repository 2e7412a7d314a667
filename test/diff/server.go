package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/tools/txtar"
)

// ports hands out port numbers below the ephemeral ones, each once in a run.
type ports struct {
	mu   sync.Mutex
	next int
}

func newPorts() *ports { return &ports{next: 20000 + os.Getpid()%5000} }

// take gives a port on which nothing listens, UDP or TCP.
func (p *ports) take() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range 5000 {
		if p.next++; p.next >= 32000 {
			p.next = 20000
		}
		l, err := net.Listen("tcp", ":"+strconv.Itoa(p.next))
		if err != nil {
			continue
		}
		l.Close()
		u, err := net.ListenPacket("udp", ":"+strconv.Itoa(p.next))
		if err != nil {
			continue
		}
		u.Close()
		return p.next, nil
	}
	return 0, fmt.Errorf("no free port between 20000 and 32000")
}

// serverPorts are the variables with ports that each server listens on; DEAD is one where nothing does.
var serverPorts = []string{"PORT", "PORT2", "PORT3", "TLS", "METRICS", "HEALTH", "READY", "PPROF", "DEAD"}

// output collects what a server prints.
type output struct {
	mu     sync.Mutex
	text   []byte
	banner chan struct{} // closed when the version has been printed: it serves
}

var versionLine = regexp.MustCompile(`(?m)^(CoreDNS|Godwit)-`)

// Write implements io.Writer.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, b...)
	select {
	case <-o.banner:
	default:
		if versionLine.Match(o.text) {
			close(o.banner)
		}
	}
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// process is a server that was started.
type process struct {
	dir    string
	cmd    *exec.Cmd
	out    *output
	exited chan struct{}
	code   int // once exited
}

// start runs a binary in dir on the named Corefile.
func start(ctx context.Context, binary, dir, conf string, variables map[string]string) (*process, error) {
	p := &process{dir: dir, out: &output{banner: make(chan struct{})}, exited: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, binary, "-conf", conf, "-dns.port", variables["PORT"])
	p.cmd.Dir = dir
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "HOSTNAME=diff"}
	for k, v := range variables {
		p.cmd.Env = append(p.cmd.Env, k+"="+v)
	}
	p.cmd.Stdout, p.cmd.Stderr = io.Writer(p.out), io.Writer(p.out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.cmd.Wait()
		p.code = p.cmd.ProcessState.ExitCode()
		close(p.exited)
	}()
	return p, nil
}

// loaded waits until the server serves (true), has exited, or the time is over.
func (p *process) loaded(limit time.Duration) (bool, error) {
	select {
	case <-p.out.banner:
		select { // one without listeners says that it serves, and ends
		case <-p.exited:
			return false, nil
		case <-time.After(60 * time.Millisecond):
			return true, nil
		}
	case <-p.exited:
		return false, nil
	case <-time.After(limit):
		return false, fmt.Errorf("neither serves nor ends within %v:\n%s", limit, p.out)
	}
}

// stop ends the server at once.
func (p *process) stop() {
	p.cmd.Process.Kill()
	<-p.exited
}

// write puts a case's files into a server's folder.
func write(dir string, files []txtar.File) error {
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			return err
		}
	}
	return writeCertificates(dir)
}

// indent puts a text under a line of a report.
func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
}
