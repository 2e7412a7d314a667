package run

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/metrics"
)

func bareProcess(out *calls) *process {
	level := new(slog.LevelVar)
	return &process{env: &chain.Env{Log: NewLog(out, level), Metrics: metrics.New(1)}, level: level}
}

func withReload(every time.Duration, debug bool) *instance {
	return &instance{Built: &Built{File: &corefile.File{Hash: "h"},
		Config: &chain.Config{ReloadEvery: every, Blocks: []*chain.Block{{}, {Debug: debug}}}}}
}

// versions gives the values of coredns_reload_version_info.
func versions(p *process) (values []string) {
	for _, f := range p.env.Metrics.Families() {
		if f.Name == "coredns_reload_version_info" {
			for _, s := range f.Series() {
				values = append(values, s.(*metrics.Gauge).Labels[1].Value)
			}
		}
	}
	return values
}

func TestVersionInfoNeedsReload(t *testing.T) {
	p := bareProcess(&calls{})
	p.serving(withReload(30*time.Second, false))
	if got := versions(p); len(got) != 0 {
		t.Errorf("before the first reload: %v", got)
	}
	p.versionInfo("one")
	p.versionInfo("two")
	if got := versions(p); len(got) != 1 || got[0] != "two" {
		t.Errorf("after two reloads: %v", got)
	}
	p.serving(withReload(0, false))
	p.versionInfo("three")
	if got := versions(p); len(got) != 0 {
		t.Errorf("without the directive: %v", got)
	}
}

func TestFailureIsToldOnce(t *testing.T) {
	out := &calls{}
	p := bareProcess(out)
	one, two := errors.New("Corefile:1:1: one"), errors.New("Corefile:1:1: two")
	for _, err := range []error{one, one, two, two, two, one} {
		p.reloadFailed(err, false)
	}
	p.reloadFailed(one, true)
	if n := p.reloadFailures().Value(); n != 4 {
		t.Errorf("%d failures, want 4", n)
	}
	if text, _ := out.text(); strings.Count(text, "\n") != 4 || strings.Count(text, "two") != 1 {
		t.Errorf("log:\n%s", text)
	}
}

func TestDebugIsAnyBlocks(t *testing.T) {
	out := &calls{}
	p := bareProcess(out)
	for _, debug := range []bool{false, true, false} {
		p.serving(withReload(0, debug))
		p.env.Log.Debug("seen " + map[bool]string{true: "well", false: "wrongly"}[debug])
	}
	if text, _ := out.text(); text != "[DEBUG] seen well\n" {
		t.Errorf("log: %q", text)
	}
}
