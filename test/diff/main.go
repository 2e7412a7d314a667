// Command diff asks Godwit and a coredns binary the same questions over the same Corefiles, and fails on every difference
// that known.txt does not explain.
//
//	diff -coredns PATH -godwit PATH [-case GLOB] [-v]
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// options are the command's flags.
type options struct {
	coredns, godwit string
	glob, dir       string
	verbose         bool
	jobs            int
}

func main() {
	var o options
	flag.StringVar(&o.coredns, "coredns", "", "the coredns binary (1.14.7) to compare with")
	flag.StringVar(&o.godwit, "godwit", "", "the godwit binary")
	flag.StringVar(&o.glob, "case", "*", "only the cases whose name matches")
	flag.StringVar(&o.dir, "dir", "test/diff", "the folder with cases and known.txt")
	flag.BoolVar(&o.verbose, "v", false, "print every case, and the differences that are known")
	flag.IntVar(&o.jobs, "j", 4, "cases at a time")
	flag.Parse()
	if o.coredns == "" || o.godwit == "" {
		fmt.Fprintln(os.Stderr, "usage: diff -coredns PATH -godwit PATH [-case GLOB] [-v]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) // servers end with it
	ok, err := compareAll(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "diff:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// result is what became of one case.
type result struct {
	name      string
	corefiles int
	asked     int // questions, each to both servers
	diffs     []difference
	err       error
	took      time.Duration
}

// compareAll runs every case that the glob names and reports on w.
func compareAll(ctx context.Context, o options, w io.Writer) (ok bool, err error) {
	for _, binary := range []*string{&o.coredns, &o.godwit} {
		if *binary, err = filepath.Abs(*binary); err != nil {
			return false, err
		}
	}
	known, err := readKnown(filepath.Join(o.dir, "known.txt"), filepath.Join(o.dir, "../../docs/compat.md"))
	if err != nil {
		return false, err
	}
	cases, err := readCases(filepath.Join(o.dir, "cases"), o.glob)
	if err != nil {
		return false, err
	}
	if len(cases) == 0 {
		return false, fmt.Errorf("no case matches %q", o.glob)
	}
	begin := time.Now()
	results := make([]result, len(cases))
	var wg sync.WaitGroup
	room := make(chan struct{}, max(1, o.jobs))
	ports := newPorts()
	for i, c := range cases {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			results[i] = runCase(ctx, &o, ports, c)
			if o.verbose {
				r := &results[i]
				fmt.Fprintf(w, "%-32s %5d questions %3d differences %6.1fs\n", r.name, r.asked, len(r.diffs), r.took.Seconds())
			}
		})
	}
	wg.Wait()
	return report(w, &o, results, known, time.Since(begin)), nil
}

// report prints the differences and the summary, and reports whether all differences are known.
func report(w io.Writer, o *options, results []result, known *knownList, took time.Duration) bool {
	corefiles, asked, explained, bad := 0, 0, 0, 0
	for _, r := range results {
		corefiles += r.corefiles
		asked += r.asked
		if r.err != nil {
			bad++
			fmt.Fprintf(w, "%s: %v\n", r.name, r.err)
		}
		for _, d := range r.diffs {
			row := known.find(r.name, d)
			if row != nil {
				explained++
				if !o.verbose {
					continue
				}
				fmt.Fprintf(w, "known (%s) ", row.id)
			} else {
				bad++
			}
			fmt.Fprintf(w, "%s: %s\n%s\n", r.name, d.what, d.detail)
		}
	}
	if o.glob == "*" {
		for _, row := range known.unused() {
			bad++
			fmt.Fprintf(w, "known.txt:%d: no difference needs this row any more: remove it and its mention in docs/compat.md\n", row.line)
		}
	}
	slices.SortFunc(results, func(a, b result) int { return cmp.Compare(b.took, a.took) })
	fmt.Fprintf(w, "%d cases, %d Corefiles, %d questions in %.0f s (longest: %s %.0f s): %d known differences, %d unexplained\n",
		len(results), corefiles, asked, took.Seconds(), results[0].name, results[0].took.Seconds(), explained, bad)
	return bad == 0
}

// matches is path.Match with an error for a pattern that does not parse taken as no match.
func matches(glob, name string) bool {
	ok, err := path.Match(glob, name)
	return err == nil && ok
}
