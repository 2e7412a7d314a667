// Command godwit serves DNS from a Corefile. It takes the flags of coredns, also when it is called so.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/godwit-dns/godwit/plugin"
	"github.com/godwit-dns/godwit/run"
)

// version is set by the linker in releases.
var version = "0.1.0-dev"

func main() { os.Exit(command(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

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
