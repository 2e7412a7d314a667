// Package scenario runs the behaviour of directives as text: a Corefile, what upstreams answer, queries, the passing of
// time and the expected replies, over a virtual clock. A scenario is a txtar archive:
//
//	-- Corefile --
//	.:53 {
//	    forward . {$UP}
//	    cache
//	}
//	-- upstream:UP --
//	www.example.org. 60 IN A 192.0.2.1
//	-- script --
//	query www.example.org. A
//	    NOERROR qr rd
//	    answer www.example.org. 60 IN A 192.0.2.1
//	advance 30s
//
// A file "upstream:NAME" is a server on the loopback, whose address is {$NAME}; it answers with the records it lists,
// NXDOMAIN for other names. A file "node" makes the process a node's agent. Other files are written to the folder that
// {$DIR} names. Commands of the script:
//
//	query NAME TYPE [tcp] [do] [ad] [cd] [nord] [edns=SIZE] [class=CH] [from=ADDR]   what it gets is indented below it
//	finish                        the reply to the query that was still waiting
//	advance DURATION              move the clock
//	upstream NAME answer|silent|servfail|refused|nxdomain|empty
//	asked NAME N                  how many queries the upstream has had
//	file NAME                     write the archive's file NAME.new in the place of NAME
//	metric NAME{…} VALUE          a counter's or gauge's value
//
// Run with -update to write what is received in the place of what is expected.
package scenario

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/godwit-dns/godwit/chain"
)

// Update makes Run rewrite expectations.
var Update = flag.Bool("update", false, "write what scenarios receive into their files")

// Run runs every scenario of a folder as a subtest.
func Run(t *testing.T, glob string, directives []chain.Spec) {
	files, err := filepath.Glob(glob)
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenario matches %s (%v)", glob, err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) { runFile(t, name, directives) })
	}
}

func runFile(t *testing.T, name string, directives []chain.Spec) {
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, archive, directives)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	script := w.file("script")
	got := w.play(ctx, script)
	w.close()
	if got == script {
		return
	}
	if !*Update {
		t.Errorf("%s: received\n%s", name, difference(script, got))
		return
	}
	for i := range archive.Files {
		if archive.Files[i].Name == "script" {
			archive.Files[i].Data = []byte(got)
		}
	}
	if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// difference shows the lines that are only in one of the two.
func difference(want, got string) string {
	var b strings.Builder
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := 0; i < max(len(w), len(g)); i++ {
		var l, r string
		if i < len(w) {
			l = w[i]
		}
		if i < len(g) {
			r = g[i]
		}
		if l == r {
			fmt.Fprintf(&b, "  %s\n", l)
			continue
		}
		fmt.Fprintf(&b, "- %s\n+ %s\n", l, r)
	}
	return b.String()
}

// play runs the script's commands and gives the script with what they received.
func (w *world) play(ctx context.Context, script string) string {
	var out strings.Builder
	for _, line := range strings.SplitAfter(script, "\n") {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(line, "    ") { // an expectation: what was received has taken its place
			continue
		}
		out.WriteString(line)
		if trimmed == "" || strings.HasPrefix(trimmed, "#") {
			continue
		}
		words := strings.Fields(trimmed)
		for _, received := range w.command(ctx, words[0], words[1:]) {
			out.WriteString("    " + received + "\n")
		}
	}
	return out.String()
}

func (w *world) command(ctx context.Context, verb string, args []string) []string {
	switch verb {
	case "query":
		return w.query(ctx, args)
	case "finish":
		return w.finish(ctx)
	case "advance":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			w.t.Fatal(err)
		}
		w.advance(d)
	case "upstream":
		w.upstreams[args[0]].mode.Store(args[1])
	case "asked":
		got := func() string { return fmt.Sprint(w.upstreams[args[0]].asked.Load()) }
		w.settle(func() bool { return got() == args[1] }, patience) // a walk that nobody waits for may still be on its way
		if got() != args[1] {
			return []string{"asked " + got()}
		}
	case "file":
		w.write(args[0], w.file(args[0]+".new"))
	case "metric":
		return w.metric(args)
	default:
		w.t.Fatalf("no command %q", verb)
	}
	return nil
}
