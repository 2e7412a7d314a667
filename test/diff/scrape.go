package main

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

var web = &http.Client{Timeout: 3 * time.Second}

// get asks one server's HTTP endpoint.
func (r *run) get(server int, port, path string) (status string, body string, err error) {
	n, ok := r.norm.variables[server][port]
	if !ok {
		return "", "", fmt.Errorf("no port $%s", port)
	}
	resp, err := web.Get("http://127.0.0.1:" + n + path)
	if err != nil {
		return "no answer", "", nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.Status + " " + resp.Header.Get("Content-Type"), string(b), err
}

// http compares status, content type and, unless the third word is "head", the body.
func (r *run) http(s *step) error {
	var lines pair[[]string]
	for i := range lines {
		status, body, err := r.get(i, s.args[0], s.args[1])
		if err != nil {
			return err
		}
		lines[i] = []string{status}
		if len(s.args) < 3 {
			lines[i] = append(lines[i], strings.Split(r.norm.plain(i, body), "\n")...)
		}
	}
	r.compareLines(s.text, lines)
	return nil
}

var (
	sample = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(.*)\})? (\S+)`)
	label  = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"`)
)

// metrics compares what both servers export: every family with its type and label names; for CoreDNS's own, the values
// of the labels, and the values of counters and of histograms, but not of those that measure time.
func (r *run) metrics(s *step) error {
	port := "METRICS"
	if len(s.args) > 0 {
		port = s.args[0]
	}
	time.Sleep(300 * time.Millisecond) // the last answer is counted when it has left
	var lines pair[[]string]
	for i := range lines {
		_, body, err := r.get(i, port, "/metrics")
		if err != nil {
			return err
		}
		lines[i] = exported(r.norm.plain(i, body))
		slices.Sort(lines[i])
		lines[i] = slices.Compact(lines[i])
	}
	if len(lines[0]) == 0 {
		return fmt.Errorf("CoreDNS exports nothing on $%s", port)
	}
	r.compareLines(s.text, lines)
	return nil
}

// exported makes one line of every sample that is compared, and one of every family.
func exported(body string) []string {
	var out []string
	types := map[string]string{}
	for l := range strings.Lines(body) {
		l = strings.TrimSpace(l)
		if fields := strings.Fields(l); len(fields) == 4 && fields[1] == "TYPE" {
			types[fields[2]] = fields[3]
			out = append(out, "type "+fields[2]+" "+fields[3])
		}
		m := sample.FindStringSubmatch(l)
		if m == nil || l[0] == '#' {
			continue
		}
		var names, pairs []string
		for _, p := range label.FindAllStringSubmatch(m[3], -1) {
			names, pairs = append(names, p[1]), append(pairs, p[1]+"="+p[2])
		}
		slices.Sort(names)
		slices.Sort(pairs)
		out = append(out, "labels "+m[1]+" "+strings.Join(names, ","))
		if line := valued(m[1], pairs, m[4], types); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// valued is the line of a sample whose labels' values, or own value, are compared; empty for the others.
func valued(name string, pairs []string, value string, types map[string]string) string {
	if !strings.HasPrefix(name, "coredns_") || strings.HasPrefix(name, "coredns_health_") || strings.Contains(name, "build_info") ||
		strings.Contains(name, "version_info") {
		return ""
	}
	family := name
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if types[strings.TrimSuffix(name, suffix)] == "histogram" {
			family = strings.TrimSuffix(name, suffix)
		}
	}
	line := "sample " + name + "{" + strings.Join(pairs, ",") + "}"
	timed := strings.HasSuffix(family, "_seconds")
	switch {
	case types[family] == "gauge", strings.Contains(name, "rest_client"):
		return line
	case timed && !strings.HasSuffix(name, "_count"):
		return ""
	}
	return line + " " + value
}
