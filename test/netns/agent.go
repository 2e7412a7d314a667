package netns

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// template is the documents' Corefile for a node, in our own layout and with the cluster's domain filled in.
const template = `cluster.local:53 {
    errors
    cache {
        success 9984 30
        denial 9984 5
    }
    reload
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__CLUSTER__DNS__ {
        force_tcp
    }
    prometheus :9253
    health __PILLAR__LOCAL__DNS__:8080
}
in-addr.arpa:53 {
    errors
    cache 30
    reload
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__CLUSTER__DNS__ {
        force_tcp
    }
    prometheus :9253
}
.:53 {
    errors
    cache 30
    reload
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__UPSTREAM__SERVERS__
    prometheus :9253
}
`

// AgentOptions say how an agent is started; the zero value is the usual one.
type AgentOptions struct {
	Template string   // empty: the documents'
	Local    string   // -localip; empty: the link-local and the cluster DNS address of IPv4
	Args     []string // more flags
	Env      []string
	Wrap     []string // a command in front of the program's
}

// Agent is a node agent, a process in the node's namespace.
type Agent struct {
	l     *Lab
	cmd   *exec.Cmd
	dir   string
	ended chan struct{}
	once  sync.Once
	mu    sync.Mutex
	out   bytes.Buffer // guarded by mu
}

// Write takes what the agent prints.
func (a *Agent) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.out.Write(b)
}

// Output is what the agent has printed.
func (a *Agent) Output() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.out.String()
}

// Agent starts an agent; Ready tells when it serves. It is killed at the test's end.
func (l *Lab) Agent(o AgentOptions) *Agent {
	l.T.Helper()
	dir, err := os.MkdirTemp(l.dir, "agent")
	if err != nil {
		l.T.Fatal(err)
	}
	if o.Template == "" {
		o.Template = template
	}
	if o.Local == "" {
		o.Local = LinkLocal4 + "," + ClusterDNS4
	}
	base := filepath.Join(dir, "Corefile.base")
	if err := os.WriteFile(base, []byte(o.Template), 0o644); err != nil {
		l.T.Fatal(err)
	}
	args := append(append([]string{}, o.Wrap...), l.binary, "node", "-localip", o.Local, "-basecorefile", base, "-conf", filepath.Join(dir, "Corefile"),
		"-upstreamsvc", "kube-dns-upstream", "-run-dir", filepath.Join(dir, "run"))
	args = append(args, o.Args...)
	a := &Agent{l: l, dir: dir, ended: make(chan struct{}), cmd: l.Node.Command(args[0], args[1:]...)}
	a.cmd.Env = append(append(os.Environ(), "KUBE_DNS_UPSTREAM_SERVICE_HOST="+Upstream4), o.Env...)
	a.cmd.Stdout, a.cmd.Stderr = a, a
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the kernel ends the agent with the thread that started it: this one stays for as long
		err := a.cmd.Start()   // `ip netns exec` becomes the program: its process number is the agent's
		started <- err
		if err == nil {
			_ = a.cmd.Wait() // how it ended is in the output
		}
		close(a.ended)
	}()
	if err := <-started; err != nil {
		l.T.Fatal(err)
	}
	l.T.Cleanup(func() {
		a.Signal(syscall.SIGKILL)
		a.Signal(syscall.SIGCONT)
		<-a.ended
		if l.T.Failed() {
			l.T.Logf("agent %d:\n%s", a.cmd.Process.Pid, a.Output())
		}
	})
	return a
}

// Signal sends the agent a signal; one that has ended takes none.
func (a *Agent) Signal(s syscall.Signal) { _ = a.cmd.Process.Signal(s) }

// Pid is the agent's process number.
func (a *Agent) Pid() int { return a.cmd.Process.Pid }

// Ended reports whether the process has ended.
func (a *Agent) Ended() bool {
	select {
	case <-a.ended:
		return true
	default:
		return false
	}
}

// Probe asks as kubelet's readiness probe does.
func (a *Agent) Probe() (string, error) {
	out, err := a.l.Node.Try(a.l.binary, "probe", "-dir", filepath.Join(a.dir, "run"))
	return strings.TrimSpace(out), err
}

// Ready waits until the agent's own probe says that it serves the node.
func (a *Agent) Ready() *Agent {
	a.l.T.Helper()
	var last error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if a.Ended() {
			a.l.T.Fatalf("the agent ended:\n%s", a.Output())
		}
		if _, last = a.Probe(); last == nil {
			return a
		}
	}
	a.l.T.Fatalf("the agent does not become ready: %v\n%s", last, a.Output())
	return nil
}

// Wait waits for the process to end.
func (a *Agent) Wait(limit time.Duration) time.Duration {
	a.l.T.Helper()
	began := time.Now()
	select {
	case <-a.ended:
	case <-time.After(limit):
		a.l.T.Fatalf("the agent has not ended after %v:\n%s", limit, a.Output())
	}
	return time.Since(began)
}

// End asks the agent to end, as kubelet does, and waits.
func (a *Agent) End() {
	a.l.T.Helper()
	a.Signal(syscall.SIGTERM)
	a.Wait(20 * time.Second)
}

// Metrics gives the agent's metrics from one of its ports, as text.
func (a *Agent) Metrics(port int) string {
	a.l.T.Helper()
	out, err := a.l.Node.Try("curl", "-sf", "-m", "5", fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
	if err != nil {
		a.l.T.Fatal(err)
	}
	return out
}
