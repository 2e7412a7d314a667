package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
)

// knownRow is one line of known.txt: a difference that is meant.
type knownRow struct {
	line int
	glob string         // of the case's name
	what *regexp.Regexp // of the question or step, a line end, and the difference as reports show it
	id   string         // of the row of docs/compat.md that says why
	may  bool           // the difference depends on time and is not there in every run
	hits int
}

type knownList struct{ rows []*knownRow }

// readKnown reads the rows "case | pattern | id | why". Every id has to stand in the compatibility table; one with a
// question mark is of a difference that does not show in every run.
func readKnown(path, compat string) (*knownList, error) {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	table, err := os.ReadFile(compat)
	if err != nil {
		return nil, err
	}
	list := &knownList{}
	scan := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; scan.Scan(); n++ {
		line := strings.TrimSpace(scan.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		cells := strings.Split(line, " | ")
		if len(cells) != 4 {
			return nil, fmt.Errorf("%s:%d: a row is: case | pattern | id | why", path, n)
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		re, err := regexp.Compile(cells[1])
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		id, may := strings.CutSuffix(cells[2], "?")
		if !bytes.Contains(table, []byte("| "+id+" |")) {
			return nil, fmt.Errorf("%s:%d: docs/compat.md has no row %s", path, n, id)
		}
		list.rows = append(list.rows, &knownRow{line: n, glob: cells[0], what: re, id: id, may: may})
	}
	return list, scan.Err()
}

// find gives the first row that explains a difference, nil for none.
func (k *knownList) find(name string, d difference) *knownRow {
	for _, r := range k.rows {
		if matches(r.glob, name) && r.what.MatchString(d.what+"\n"+d.detail) {
			r.hits++
			return r
		}
	}
	return nil
}

// unused gives the rows that no difference needed.
func (k *knownList) unused() []*knownRow {
	var out []*knownRow
	for _, r := range k.rows {
		if r.hits == 0 && !r.may {
			out = append(out, r)
		}
	}
	return out
}
