// Package node is the agent of a node: a DNS server that answers the node's pods at addresses of its own, in place of
// node-cache. It takes node-cache's flags, fills the same template from the same ConfigMaps, and keeps the same metrics.
//
// The order of its life is what this package is about:
//
//  1. Flags are read, and the Corefile is made of the template and the ConfigMaps (template.go, configmap.go, source.go).
//  2. If the interface's alias names an agent that serves, its sockets are taken over (handover.go); otherwise sockets are
//     bound, before the host has their addresses.
//  3. When the first configuration answers: the interface, its addresses, then the rules. The rules' lease begins when the
//     agent has answered its own probe (probe.go), so nothing is led here before.
//  4. At the end the other way round: the lease is given up, what still comes is answered, then rules, addresses and
//     interface go (agent.go).
//
// docs/node.md is the operator's side of it.
package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"runtime/debug"
	"strconv"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/handover"
	"github.com/godwit-dns/godwit/run"
)

// Program is what the agent is started as.
type Program struct {
	Name           string // for the help text: "godwit node" or "node-cache"
	Version        string // the two lines that -version prints
	Directives     []chain.Spec
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Env gives environment variables: os.LookupEnv.
	Env func(name string) (string, bool)
}

// Main runs the agent until it is told to end, and gives the exit code: 0 after a planned end, 1 when it could not go on,
// 2 when the flags do not parse.
func Main(args []string, p Program) int {
	o, err := parseFlags(args, cmp.Or(p.Name, "godwit node"), p.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errFlags): // the flag package has said it
		return 2
	case err != nil:
		fmt.Fprintln(p.Stderr, err)
		return 1
	case o.showVersion:
		fmt.Fprint(p.Stdout, p.Version)
		return 0
	case o.listPlugins:
		for _, spec := range p.Directives {
			fmt.Fprintln(p.Stdout, "dns."+spec.Name)
		}
		return 0
	}
	return serve(o, p)
}

// Probe asks the agent of this pod whether it owns the node's DNS: 0 if so, 1 if not, 2 for arguments that are none.
func Probe(args []string, stdout, stderr io.Writer) int {
	return handover.ProbeCommand(context.Background(), args, stdout, stderr)
}

// newID makes the agent's id: 8 hex digits that no other agent of the node has.
func newID() string {
	var b [4]byte
	rand.Read(b[:]) // never fails (Go 1.24)
	return hex.EncodeToString(b[:])
}

// serve runs the agent from the search for a predecessor to the end.
func serve(o *options, p Program) int {
	id := newID()
	before, err := findPredecessor(o, id, run.NewLog(p.Stdout, slog.LevelInfo))
	if err != nil {
		fmt.Fprintln(p.Stderr, err)
		return 1
	}
	defer before.close()
	var a *agent
	code := run.Main(run.Options{
		Port: strconv.Itoa(int(o.port)), PidFile: o.pidFile, Quiet: o.quiet, Version: p.Version, Directives: p.Directives,
		Stdin: p.Stdin, Stdout: p.Stdout, Inherited: before.listeners, Freebind: true, Self: id, Node: true,
		Exit: before.handed, QuietFor: quietFor, DrainFor: drainFor,
		Host: func(env *chain.Env) (run.Host, error) {
			var err error
			a, err = newAgent(o, id, p, env, before)
			return a, err
		},
	})
	if a == nil {
		return code
	}
	defer signal.Stop(a.signals)
	if code == 0 && o.afterHandover == afterWait && a.succeeded() {
		// kubelet would start the container of a process that ends again, and that one would take over in its turn.
		debug.FreeOSMemory()
		<-a.signals
	}
	return code
}
