package node

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/plugin"
)

func TestMain(m *testing.M) {
	if os.Getenv("GODWIT_TEST_AS_AGENT") != "" { // the test binary is the program, so that signals and exit codes are real
		args := os.Args[1:]
		if len(args) > 0 && args[0] == "probe" {
			os.Exit(Probe(args[1:], os.Stdout, os.Stderr))
		}
		os.Exit(Main(args, Program{Name: "node-cache", Version: "Godwit-0\ntest\n", Directives: plugin.All(),
			Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Env: os.LookupEnv}))
	}
	goleak.VerifyTestMain(m)
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// parse reads flags that have to be right.
func parse(t *testing.T, line string) *options {
	t.Helper()
	o, err := parseFlags(strings.Fields(line), "node", io.Discard)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return o
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
