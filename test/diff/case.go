package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/tools/txtar"
)

// testCase is one archive of the cases folder: a Corefile with what belongs to it and steps, or Corefiles under load/
// that are only loaded.
type testCase struct {
	name     string
	folder   fs.FS        // where shared files are
	files    []txtar.File // everything but the script: copied into each server's folder
	loads    []load       // Corefiles that are only started
	steps    []step
	cluster  []byte        // manifests that the API servers hold from the start
	running  bool          // TTLs count down: they may differ by a second
	wait     time.Duration // how long an answer may take
	noticeIn time.Duration // how long a change of the cluster's objects gets
}

// step is one line of the script.
type step struct {
	line int
	verb string
	args []string
	text string // the whole line
	asks []question
}

// readCases reads the archives whose names match the glob.
func readCases(dir, glob string) ([]*testCase, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil {
		return nil, err
	}
	var cases []*testCase
	for _, p := range paths {
		name := strings.TrimSuffix(filepath.Base(p), ".txtar")
		if !matches(glob, name) {
			continue
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		c, err := parseCase(os.DirFS(dir), name, b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		cases = append(cases, c)
	}
	return cases, nil
}

// parseCase reads one archive; folder is where the files are that several cases share.
func parseCase(folder fs.FS, name string, b []byte) (*testCase, error) {
	c := &testCase{name: name, folder: folder, wait: 2500 * time.Millisecond, noticeIn: 600 * time.Millisecond}
	archive := txtar.Parse(b)
	corefile := false
	var err error
	for _, f := range archive.Files {
		switch {
		case f.Name == "script":
			if err := c.script(f.Data); err != nil {
				return nil, err
			}
			continue
		case f.Name == "Corefile":
			corefile = true
			if c.cluster, err = sharedCluster(folder, f.Data); err != nil {
				return nil, err
			}
			c.running = c.running || bytes.Contains(f.Data, []byte("cache"))
		case strings.HasPrefix(f.Name, "load/"):
			c.loads = append(c.loads, load{name: strings.TrimPrefix(f.Name, "load/"), path: f.Name})
		case f.Name == "loads":
			c.snippets(f.Data)
			continue
		}
		if slices.ContainsFunc(c.files, func(g txtar.File) bool { return g.Name == f.Name }) {
			return nil, fmt.Errorf("file %s stands in it twice", f.Name)
		}
		c.files = append(c.files, f)
	}
	if corefile != (len(c.steps) > 0) {
		return nil, errors.New("a Corefile and a script with steps belong together")
	}
	if !corefile && len(c.loads) == 0 {
		return nil, errors.New("neither a Corefile nor one under load/")
	}
	return c, nil
}

// sharedCluster gives the manifests of every case whose Corefile asks a cluster.
func sharedCluster(folder fs.FS, corefile []byte) ([]byte, error) {
	if !bytes.Contains(corefile, []byte("kubernetes")) {
		return nil, nil
	}
	return fs.ReadFile(folder, "kubernetes.yaml")
}

// load is a Corefile that is started by itself, to see whether it loads.
type load struct {
	name string // how reports call it
	path string
}

// snippets makes a Corefile with one block of every line; \n ends a line of it.
func (c *testCase) snippets(b []byte) {
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		l := load{name: line, path: fmt.Sprintf("load/line%d", len(c.loads))}
		text := ".:{$PORT} {\n    " + strings.ReplaceAll(line, `\n`, "\n    ") + "\n}\n"
		c.loads = append(c.loads, l)
		c.files = append(c.files, txtar.File{Name: l.path, Data: []byte(text)})
	}
}

// script reads the steps. A line that holds " ; " is a rule of questions.
func (c *testCase) script(b []byte) error {
	scan := bufio.NewScanner(bytes.NewReader(b))
	scan.Buffer(nil, 1<<20)
	for n := 1; scan.Scan(); n++ {
		line := strings.TrimSpace(scan.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		s := step{line: n, text: line}
		var err error
		if strings.Contains(line, " ; ") {
			s.verb = "ask"
			s.asks, err = questions(line)
		} else {
			fields := strings.Fields(line)
			s.verb, s.args = fields[0], fields[1:]
			if s.verb == "include" && len(s.args) == 1 {
				err = c.include(s.args[0])
			} else {
				err = c.special(&s)
			}
		}
		if err != nil {
			return fmt.Errorf("script line %d: %w", n, err)
		}
		if s.verb != "set" && s.verb != "include" {
			c.steps = append(c.steps, s)
		}
	}
	return scan.Err()
}

// include reads the steps of a file that several cases share.
func (c *testCase) include(name string) error {
	b, err := fs.ReadFile(c.folder, name)
	if err != nil {
		return err
	}
	return c.script(b)
}

// special checks the steps that are not questions, and takes those that set something for the whole case.
func (c *testCase) special(s *step) error {
	need := map[string]int{"wait": 1, "raw": 2, "fuzz": 3, "mix": 3, "http": 2, "metrics": 0, "log": 1, "apply": 1, "remove": 1,
		"copy": 2, "signal": 1, "exit": 1, "seen": 0, "hold": 1, "release": 0, "until": 1, "set": 2}
	n, ok := need[s.verb]
	if !ok {
		return fmt.Errorf("unknown step %q", s.verb)
	}
	if len(s.args) < n {
		return fmt.Errorf("%s wants %d words or more", s.verb, n)
	}
	var err error
	switch s.verb {
	case "raw", "fuzz":
		s.asks, err = rawQuestions(s)
	case "mix":
		s.asks, err = mixedQuestions(s)
	case "set":
		switch s.args[0] {
		case "wait":
			c.wait, err = time.ParseDuration(s.args[1])
		case "notice":
			c.noticeIn, err = time.ParseDuration(s.args[1])
		case "running":
			c.running = s.args[1] == "on"
		default:
			err = fmt.Errorf("nothing to set is called %q", s.args[0])
		}
	}
	return err
}
