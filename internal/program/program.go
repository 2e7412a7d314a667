// Package program runs a program for a test and ends it with the test.
package program

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// Output gathers what a process prints. It may be read while the process runs.
type Output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write takes what is printed.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// String is all that was printed so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Running is a program that runs.
type Running struct {
	*exec.Cmd
	Out Output // of both kinds

	t    testing.TB
	done chan error
}

// Start starts a command. It is killed at the end of the test if it still runs.
func Start(t testing.TB, cmd *exec.Cmd) *Running {
	t.Helper()
	p := &Running{Cmd: cmd, t: t, done: make(chan error, 1)}
	p.Stdout, p.Stderr = &p.Out, &p.Out
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.Wait() }()
	t.Cleanup(func() {
		if p.ProcessState == nil {
			_ = p.Process.Kill()
			<-p.done
		}
	})
	return p
}

// Exit waits for the process's end and gives its code.
func (p *Running) Exit(within time.Duration) int {
	p.t.Helper()
	select {
	case err := <-p.done:
		p.done <- err
		return p.ProcessState.ExitCode()
	case <-time.After(within):
		p.t.Fatalf("it did not end; output:\n%s", &p.Out)
		return -1
	}
}

// Signal sends it a signal.
func (p *Running) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// Says waits for a text in the output.
func (p *Running) Says(text string) {
	p.t.Helper()
	for end := time.Now().Add(10 * time.Second); !strings.Contains(p.Out.String(), text); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("it did not say %q; output:\n%s", text, &p.Out)
		}
	}
}
