package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestRoles(t *testing.T) {
	for _, c := range []struct {
		name, line string
		code       int
		says       string
	}{
		{"godwit", "-version", 0, "Godwit-"},
		{"coredns", "-version", 0, "Godwit-"},
		{"coredns", "-help", 0, "Usage of godwit:"},
		{"coredns", "node", 1, "extra command line arguments: [node]"},
		{"coredns", "probe", 1, "extra command line arguments: [probe]"},
		{"godwit", "nodes", 1, "extra command line arguments: [nodes]"},
		{"godwit", "node -version", 0, "Godwit-"},
		{"godwit", "node -help", 0, "Usage of godwit node:"},
		{"godwit", "node", 1, "-localip is missing"},
		{"node-cache", "", 1, "-localip is missing"},
		{"node-cache", "-help", 0, "Usage of node-cache:"},
		{"node-cache", "-plugins", 0, "dns.forward\n"},
		{"node-cache", "node -help", 0, "Usage of node-cache node:"},
		{"node-cache", "probe -dir /nowhere", 1, "no agent answers"},
		{"godwit", "probe -dir /nowhere", 1, "no agent answers"},
		{"godwit", "probe x", 2, ""},
	} {
		var out bytes.Buffer
		code := dispatch(c.name, strings.Fields(c.line), strings.NewReader(""), &out, &out)
		if code != c.code || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s %s: exit code %d, want %d:\n%s", c.name, c.line, code, c.code, &out)
		}
	}
}
