package kube

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// process is one child.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when the child has been reaped
}

// startProcess starts bin and appends what it prints to the file log.
func startProcess(name, bin, log string, args []string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own copy
	p := &process{name: name, log: log, done: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(bin, name), args...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return p, nil
}

// run starts the child and waits for its end on one thread: Pdeathsig fires
// when the thread that made the child ends, not only when the process does,
// and a caller's thread may end at any time.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	_ = p.cmd.Wait() // how it ended is in ProcessState
	close(p.done)
}

// kill sends SIGKILL and waits. A nil process and one that has ended are fine.
func (p *process) kill() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill() // fails only if it has ended, which is what we want
	<-p.done
}

// signal sends sig to a child that is running.
func (p *process) signal(sig os.Signal) error {
	if p == nil {
		return os.ErrProcessDone
	}
	return p.cmd.Process.Signal(sig)
}

// running reports whether the child has been started and has not ended.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// state says how the child ended; it is valid once done is closed.
func (p *process) state() string { return p.cmd.ProcessState.String() }

// tail is the end of the log in a form that can follow an error's text.
func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return "; no log: " + err.Error()
	}
	const lines = 12
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	all = all[max(0, len(all)-lines):]
	return fmt.Sprintf("; end of %s:\n\t%s", p.log, strings.Join(all, "\n\t"))
}

// freePort draws a TCP port below the kernel's ephemeral range, so that no
// outgoing connection takes it while the server that has it is down.
func freePort(addr netip.Addr) (uint16, error) {
	const low, high, tries = 10240, 32768, 100
	var err error
	for range tries {
		port := uint16(low + rand.IntN(high-low))
		var l net.Listener
		l, err = net.Listen("tcp", netip.AddrPortFrom(addr, port).String())
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free TCP port on %s after %d tries: %w", addr, tries, err)
}
