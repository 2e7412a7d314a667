// Command godwit serves DNS from a Corefile. It takes the flags of coredns, also when it is called so.
//
//	godwit node    is a node's agent; it takes the flags of node-cache, and the command may be called so
//	godwit probe   asks this pod's agent whether it owns the node's DNS
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"github.com/godwit-dns/godwit/node"
	"github.com/godwit-dns/godwit/plugin"
	"github.com/godwit-dns/godwit/run"
)

// version is set by the linker in releases.
var version = "0.1.0-dev"

func main() {
	os.Exit(dispatch(filepath.Base(os.Args[0]), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// dispatch finds the command that is meant by the program's name and the first argument. As coredns it has none but its own.
func dispatch(name string, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	first := ""
	if len(args) > 0 && name != "coredns" {
		first = args[0]
	}
	switch {
	case first == "probe":
		return node.Probe(args[1:], stdout, stderr)
	case first == "node":
		return agent(name+" node", args[1:], stdin, stdout, stderr)
	case name == "node-cache":
		return agent(name, args, stdin, stdout, stderr)
	}
	return command(args, stdin, stdout, stderr)
}

func agent(name string, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return node.Main(args, node.Program{Name: name, Version: versionText(), Directives: plugin.All(),
		Stdin: stdin, Stdout: stdout, Stderr: stderr, Env: os.LookupEnv})
}

func command(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	opt := run.Options{Directives: plugin.All(), Stdin: stdin, Stdout: stdout, Version: versionText()}
	flags := flag.NewFlagSet("godwit", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&opt.Conf, "conf", "", "Corefile to load, or stdin (default \"Corefile\")")
	flags.StringVar(&opt.Port, "dns.port", "53", "Default port")
	flags.StringVar(&opt.Port, "p", "53", "Default port")
	flags.StringVar(&opt.PidFile, "pidfile", "", "Path to write pid file")
	flags.BoolVar(&opt.Quiet, "quiet", false, "Quiet mode (no initialization output)")
	list := flags.Bool("plugins", false, "List installed plugins")
	show := flags.Bool("version", false, "Show version")
	if err := flags.Parse(args); err != nil {
		if err == flag.ErrHelp {
			return 0
		}
		return 2
	}
	switch {
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "extra command line arguments: %s\n", flags.Args())
		return 1
	case *show:
		fmt.Fprint(stdout, opt.Version)
		return 0
	case *list:
		for _, spec := range opt.Directives {
			fmt.Fprintln(stdout, "dns."+spec.Name)
		}
		return 0
	}
	return run.Main(opt)
}

// versionText is the version in the two lines that coredns prints.
func versionText() string {
	revision := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value[:min(len(s.Value), 12)]
			}
		}
	}
	return fmt.Sprintf("Godwit-%s\n%s/%s, %s, %s\n", version, runtime.GOOS, runtime.GOARCH, runtime.Version(), revision)
}
