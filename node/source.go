package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/internal/watch"
)

const (
	// sourcePoll is how often template and ConfigMap are looked at in any case, and blindPoll where the kernel tells of no
	// change.
	sourcePoll = 10 * time.Second
	blindPoll  = 2 * time.Second
	// sourceSettle is how long files are left alone after a change, so that a copy in progress is read once.
	sourceSettle = 20 * time.Millisecond
)

// source makes the Corefile out of the template and the kube-dns ConfigMap. Its methods may be called by any goroutine.
type source struct {
	o       *options
	values  values
	kubeDNS string // folder of the ConfigMap; empty: there is none
	env     func(string) (string, bool)
	log     *slog.Logger
	failed  func() // counts something that is wrong with the files
	changed chan struct{}

	mu         sync.Mutex
	good       dnsConfig         // the last ConfigMap that was right; guarded by mu
	served     []byte            // what Corefile gave last; guarded by mu
	written    []byte            // what stands in -conf; guarded by mu
	complaints map[string]string // by what they are about, so that each is logged once; guarded by mu
}

func newSource(o *options, env func(string) (string, bool), log *slog.Logger, failed func()) *source {
	s := &source{o: o, env: env, log: log, failed: failed, kubeDNS: o.kubeDNS, changed: make(chan struct{}, 1),
		complaints: map[string]string{}}
	s.values = values{local: o.localIPs, port: o.port, domain: o.clusterDomain, prometheus: o.prometheusAddr}
	s.values.cluster, s.values.clusterErr = clusterAddress(o.upstreamSvc, env)
	if info, err := os.Stat(defaultKubeDNS); s.kubeDNS == "" && err == nil && info.IsDir() {
		s.kubeDNS = defaultKubeDNS
	}
	return s
}

// Corefile gives the text to serve and what to call it, and writes it to -conf. Its lines are the template's.
func (s *source) Corefile() (name string, text []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name = s.name()
	if text, err = s.make(name); err != nil {
		s.complain("template", err)
		return name, nil, err
	}
	s.complain("template", nil)
	if !bytes.Equal(text, s.served) {
		upstream := resolvConf
		if len(s.good.Upstream) > 0 {
			upstream = strings.Join(s.good.Upstream, " ")
		}
		s.log.Info("Corefile made", "template", s.o.base, "stub_domains", len(s.good.Stubs), "upstream_servers", upstream)
	}
	s.served = text
	s.write(text)
	return name, text, nil
}

// name is what the Corefile is called: the file that it is written to, which its imports are relative to.
func (s *source) name() string {
	if s.o.conf != "" {
		return s.o.conf
	}
	return s.o.base
}

// make fills the template. s.mu is held.
func (s *source) make(name string) ([]byte, error) {
	template, err := os.ReadFile(s.o.base)
	if errors.Is(err, fs.ErrNotExist) && s.o.conf != "" { // some mount a Corefile of their own at -conf
		text, confErr := os.ReadFile(s.o.conf)
		if confErr == nil {
			s.complain("base", fmt.Errorf("there is no template, so %s is served as it is: %w", s.o.conf, err))
			return text, s.servesSomething(s.o.conf, text)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the template of the Corefile: %w; -basecorefile says where it is", err)
	}
	s.complain("base", nil)
	s.readConfigMap()
	v := s.values
	v.dns = dnsConfig{Upstream: s.good.Upstream}
	text, err := fill(s.o.base, template, &v)
	if err == nil {
		err = s.servesSomething(s.o.base, text)
	}
	if v.dns.Stubs = s.good.Stubs; err != nil || len(v.dns.Stubs) == 0 {
		s.complain("stubs", nil)
		return text, err
	}
	left := v.dns.without(zonesOn(corefile.OS(), name, text, strconv.Itoa(int(s.o.port)), s.env))
	s.complain("stubs", leftOut(left))
	return fill(s.o.base, template, &v)
}

// servesSomething refuses a file without a block, such as one that is being written: elsewhere that means the default
// Corefile, which answers every name with nonsense. What does not parse is for whoever loads it.
func (s *source) servesSomething(name string, text []byte) error {
	if file, err := corefile.Parse(corefile.OS(), s.name(), text, s.env); err == nil && len(file.Blocks) == 0 {
		return fmt.Errorf("%s has no server block: nothing would be served", name)
	}
	return nil
}

func leftOut(domains []string) error {
	if len(domains) == 0 {
		return nil
	}
	return fmt.Errorf("stub domains that the template has a block for are left out: %s", strings.Join(domains, ", "))
}

// readConfigMap renews what the ConfigMap says; one that is wrong leaves what the last right one said.
func (s *source) readConfigMap() {
	if s.kubeDNS == "" {
		return
	}
	c, err := readConfigMap(s.kubeDNS)
	if err == nil {
		s.good = c
	}
	s.complain("configmap", err)
}

// write puts the text where node-cache would have it. It is served from memory: a folder that can't be written to is fine.
func (s *source) write(text []byte) {
	if s.o.conf == "" || bytes.Equal(text, s.written) {
		return
	}
	if have, err := os.ReadFile(s.o.conf); err == nil && bytes.Equal(have, text) {
		s.written = text
		return
	}
	if err := os.WriteFile(s.o.conf, text, 0o644); err != nil {
		if s.complaints["write"] == "" {
			s.log.Info("the Corefile is served from memory alone", "reason", err.Error())
		}
		s.complaints["write"] = err.Error()
		return
	}
	s.written = text
	delete(s.complaints, "write")
}

// complain logs and counts what is wrong with something, once until it is something else that is wrong. s.mu is held.
func (s *source) complain(about string, err error) {
	if err == nil {
		delete(s.complaints, about)
		return
	}
	if s.complaints[about] == err.Error() {
		return
	}
	s.complaints[about] = err.Error()
	s.failed()
	if about != "template" { // whoever asked for the Corefile logs that
		s.log.Error(err.Error())
	}
}

// Changed tells that Corefile would give something else, or that a file beside the template has changed.
func (s *source) Changed() <-chan struct{} { return s.changed }

// run watches the files until ctx is done.
func (s *source) run(ctx context.Context) {
	paths, every := []string{s.o.base}, sourcePoll
	if s.kubeDNS != "" {
		paths = append(paths, s.kubeDNS)
	}
	changes, stop, err := watch.Folder(ctx, paths...)
	defer stop()
	if err != nil {
		every = blindPoll
		s.log.Warn("changes are found by polling", "reason", err.Error())
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	s.tell() // of what has changed since it was read
	for {
		look := err != nil // it may be a file that the template imports
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-changes:
			look = true
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(sourceSettle):
		}
		if look || s.differs() {
			s.tell()
		}
	}
}

// tell has run look at the Corefile, which is left alone if it is the same.
func (s *source) tell() {
	select {
	case s.changed <- struct{}{}:
	default: // it will look anyway
	}
}

// differs reports whether the Corefile would be another one.
func (s *source) differs() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, err := s.make(s.name())
	return err != nil || !bytes.Equal(text, s.served) // whoever asks for the Corefile says what is wrong
}
