package main

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// patience is how long a script waits for what it says has to happen: a busy machine takes its time.
const patience = 10 * time.Second

// eventually asks until the answer is true.
func eventually(ok func() bool) bool {
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if ok() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// hold waits until release, or until the upstream ends.
func (u *upstream) hold(name string) {
	u.mu.Lock()
	free := u.free
	u.held[name] = true
	u.mu.Unlock()
	<-free
}

// holds gives the number of names that are held.
func (u *upstream) holds() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.held)
}

// release lets the answers go that are held.
func (u *upstream) release() {
	u.mu.Lock()
	defer u.mu.Unlock()
	close(u.free)
	u.free, u.held = make(chan struct{}), map[string]bool{}
}

// hold asks both servers for a number of names that their upstreams hold, and waits until these have all of them. Nobody
// waits for the answers.
func (r *run) hold(s *step) error {
	n, err := strconv.Atoi(s.args[0])
	if err != nil {
		return err
	}
	var to pair[netip.AddrPort]
	for i := range to {
		to[i] = netip.MustParseAddrPort("127.0.0.1:" + r.norm.variables[i]["PORT"])
	}
	for i := range n {
		all, err := questions(fmt.Sprintf("hold-%d.test ; A", i))
		if err != nil {
			return err
		}
		r.id++
		r.result.asked++
		if _, err := ask(&all[0], to, r.id, 0); err != nil {
			return err
		}
	}
	for _, list := range r.upstreams {
		if u := list[0]; !eventually(func() bool { return u.holds() == n }) {
			return fmt.Errorf("the upstream holds %d questions after %v", u.holds(), patience)
		}
	}
	return nil
}

func (r *run) release() {
	for _, list := range r.upstreams {
		for _, u := range list {
			u.release()
		}
	}
}

// until waits until both servers export a sample that matches a pattern.
func (r *run) until(s *step) error {
	pattern, err := regexp.Compile("^sample " + strings.TrimSpace(strings.TrimPrefix(s.text, "until")) + "$")
	if err != nil {
		return err
	}
	for i := range r.servers {
		var body string
		if eventually(func() bool {
			_, body, err = r.get(i, "METRICS", "/metrics")
			return err != nil || slices.ContainsFunc(exported(r.norm.plain(i, body)), pattern.MatchString)
		}) {
			continue
		}
		return fmt.Errorf("%s does not export it after %v:\n%s", []string{"CoreDNS", "Godwit"}[i], patience, indent(body))
	}
	return err
}
