package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// child is a process that the harness started, pinned to some cores. It dies with the harness.
type child struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has been reaped
}

// startChild runs argv on the cores ("0", "0,1") with its output in the file log.
func startChild(cores, log string, env []string, argv ...string) (*child, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own copy
	c := &child{log: log, done: make(chan struct{})}
	c.cmd = exec.Command("taskset", append([]string{"-c", cores}, argv...)...)
	c.cmd.Stdout, c.cmd.Stderr, c.cmd.Dir = out, out, filepath.Dir(log)
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	go c.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s: %w", argv[0], err)
	}
	return c, nil
}

// run starts the child and waits for it on one thread: Pdeathsig fires when the thread that made the child ends.
func (c *child) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := c.cmd.Start()
	started <- err
	if err == nil {
		_ = c.cmd.Wait() // how it ended does not matter
		close(c.done)
	}
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// stop ends the child and its own children: asked first, then killed.
func (c *child) stop() {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		select {
		case <-c.done:
		default:
			_ = syscall.Kill(c.pid(), sig) // an error means that it has ended
		}
		select {
		case <-c.done:
			_ = syscall.Kill(-c.pid(), syscall.SIGKILL) // what it left behind in its group
			return
		case <-time.After(2 * time.Second):
		}
	}
}

func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// tail is the end of the child's output, for error messages.
func (c *child) tail() string {
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n\t")
}

// usage is CPU time that processes have used since their start.
type usage struct {
	total        time.Duration // from the scheduler, in nanoseconds
	user, kernel time.Duration // from the clock tick's samples, scaled by the kernel to its own total
	switches     uint64        // voluntary context switches
}

func (u usage) minus(v usage) usage {
	return usage{u.total - v.total, u.user - v.user, u.kernel - v.kernel, u.switches - v.switches}
}

// usageOf adds up a process, its threads and all its descendants.
func usageOf(pid int) (usage, error) {
	var sum usage
	pids, err := family(pid)
	if err != nil {
		return sum, err
	}
	for _, p := range pids {
		u, err := usageOne(p)
		if err != nil && p == pid {
			return sum, err
		}
		sum.total += u.total
		sum.user += u.user
		sum.kernel += u.kernel
		sum.switches += u.switches
	}
	return sum, nil
}

const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux

func usageOne(pid int) (u usage, err error) {
	dir := "/proc/" + strconv.Itoa(pid)
	fields, err := statFields(dir)
	if err != nil {
		return u, err
	}
	u.user, u.kernel = time.Duration(number(fields[11]))*tick, time.Duration(number(fields[12]))*tick
	tasks, err := os.ReadDir(dir + "/task")
	if err != nil {
		return u, err
	}
	for _, t := range tasks {
		at := dir + "/task/" + t.Name()
		if text, err := os.ReadFile(at + "/schedstat"); err == nil {
			if f := strings.Fields(string(text)); len(f) == 3 {
				u.total += time.Duration(number(f[0]))
			}
		}
		u.switches += statusNumber(at, "voluntary_ctxt_switches:")
	}
	return u, nil
}

// statFields gives the fields of a stat file from the third, state, on: the second may hold blanks.
func statFields(dir string) ([]string, error) {
	text, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return nil, err
	}
	_, rest, ok := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 {
		return nil, errors.New(dir + "/stat: not the fields of a process")
	}
	return f, nil
}

// statusNumber reads one number of a status file; 0 when it is not there. Sizes are in KiB.
func statusNumber(dir, key string) uint64 {
	text, err := os.ReadFile(dir + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == key {
			return number(f[1])
		}
	}
	return 0
}

func number(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64) // the kernel writes numbers
	return n
}

// family gives a process and all its descendants.
func family(pid int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, e := range entries {
		p, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if f, err := statFields("/proc/" + e.Name()); err == nil {
			parent := int(number(f[1]))
			children[parent] = append(children[parent], p)
		}
	}
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all, nil
}

// resident gives the memory that a process and its descendants hold now, and the most that each ever held, in MiB.
func resident(pid int) (now, peak float64, err error) {
	pids, err := family(pid)
	if err != nil {
		return 0, 0, err
	}
	for _, p := range pids {
		dir := "/proc/" + strconv.Itoa(p)
		now += float64(statusNumber(dir, "VmRSS:")) / 1024
		peak += float64(statusNumber(dir, "VmHWM:")) / 1024
	}
	if now == 0 || peak == 0 {
		return 0, 0, fmt.Errorf("process %d has ended or does not say what it holds", pid)
	}
	return now, peak, nil
}

// resetPeak makes the kernel forget the highest resident size so far.
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0o200)
}
