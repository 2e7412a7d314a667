package handover

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// adminFile is the name of an agent's own socket in its folder. It is a file and no abstract name, because agents of one
// node share the network namespace and a pod's files are its own: who finds it is asking this pod's process.
const adminFile = "agent.sock"

// adminPatience limits one question and answer.
const adminPatience = time.Second

// Folders are where an agent puts its socket, the first that it can write: for images with a root of their own, and for
// those whose root is read-only and that have a temporary folder.
func Folders() []string { return []string{"/run/godwit", filepath.Join(os.TempDir(), "godwit")} }

// Admin is the socket over which an agent tells its own pod's probe whether it owns the node's sockets.
type Admin struct {
	path string
	file os.FileInfo
	ln   *net.UnixListener
}

// OpenAdmin makes the socket in the first of the folders that it can be in. A folder that does not exist is made for this
// user alone; one that others may write, or own, is not used.
func OpenAdmin(folders []string) (*Admin, error) {
	var failures []error
	for _, folder := range folders {
		a, err := openAdmin(folder)
		if err == nil {
			return a, nil
		}
		failures = append(failures, err)
	}
	return nil, fmt.Errorf("no folder for the socket that godwit probe asks; each has to be writable for this user alone (mount an emptyDir at /tmp, in which a folder of its own is made): %s: %w",
		strings.Join(folders, " "), errors.Join(failures...))
}

func openAdmin(folder string) (*Admin, error) {
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	if err := private(folder); err != nil {
		return nil, err
	}
	// Bound beside its place and renamed, so that it takes the place of a dead agent's file and no probe finds half of it.
	path := filepath.Join(folder, adminFile)
	fresh := filepath.Join(folder, hex.EncodeToString(newNonce()[:4]))
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	file, err := os.Lstat(fresh)
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		ln.Close()
		os.Remove(fresh)
		return nil, err
	}
	return &Admin{path: path, file: file, ln: ln}, nil
}

// private reports what lets others into a folder.
func private(folder string) error {
	info, err := os.Lstat(folder)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(stat.Uid) != os.Geteuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a folder of uid %d alone (mode 0700)", folder, os.Geteuid())
	}
	return nil
}

// Run answers until ctx ends, then removes the file. State says whether this agent owns the sockets, and a text for
// people without a line break; it is called from Run's goroutine.
func (a *Admin) Run(ctx context.Context, state func() (owns bool, text string)) {
	defer context.AfterFunc(ctx, func() { a.ln.Close() })()
	for ctx.Err() == nil {
		conn, err := a.ln.Accept()
		if err != nil {
			_ = pause(ctx, 100*time.Millisecond) // out of descriptors, which passes
			continue
		}
		word := "no"
		owns, text := state()
		if owns {
			word = "yes"
		}
		_ = conn.SetDeadline(time.Now().Add(adminPatience))
		fmt.Fprintf(conn, "%s %s\n", word, text)
		conn.Close()
	}
	a.Close()
}

// Close ends an Admin that does not run. A later agent's file is left alone.
func (a *Admin) Close() {
	a.ln.Close()
	if now, err := os.Lstat(a.path); err == nil && os.SameFile(now, a.file) {
		os.Remove(a.path)
	}
}

// Probe asks the agent of this pod whether it owns the sockets. The text is for people.
func Probe(ctx context.Context, folders []string) (owns bool, text string, err error) {
	var failures []error
	for _, folder := range folders {
		owns, text, err = probe(ctx, folder)
		if err == nil {
			return owns, text, nil
		}
		failures = append(failures, err)
	}
	return false, "", fmt.Errorf("no agent answers: %w", errors.Join(failures...))
}

func probe(ctx context.Context, folder string) (owns bool, text string, err error) {
	if err = private(folder); err != nil {
		return false, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(folder, adminFile))
	if err != nil {
		return false, "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	line, err := bufio.NewReader(io.LimitReader(conn, 4096)).ReadString('\n')
	if err != nil {
		return false, "", fmt.Errorf("%s does not answer: %w", filepath.Join(folder, adminFile), err)
	}
	word, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	if word != "yes" && word != "no" {
		return false, "", fmt.Errorf("%s answers %q", filepath.Join(folder, adminFile), line)
	}
	return word == "yes", text, nil
}

// ProbeCommand is "godwit probe", an exec probe: it prints a line and gives the exit code, 0 if the agent of this pod owns
// the node's sockets, 1 if it does not or does not answer, 2 for arguments that are none of its own. The only flag is -dir,
// for an agent that keeps its socket elsewhere.
func ProbeCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("godwit probe", flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("dir", "", "folder of the agent's socket (default: the first of "+strings.Join(Folders(), ", ")+" that has one)")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err == nil && flags.NArg() > 0:
		fmt.Fprintf(stderr, "extra command line arguments: %s\n", flags.Args())
		return 2
	case err != nil:
		return 2
	}
	folders := Folders()
	if *dir != "" {
		folders = []string{*dir}
	}
	owns, text, err := Probe(ctx, folders)
	if err != nil {
		fmt.Fprintln(stdout, err)
		return 1
	}
	fmt.Fprintln(stdout, text)
	if !owns {
		return 1
	}
	return 0
}
