package netns

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// What no client waits for an answer, if there is one to be had; and to hear that there is none. resolv.conf gives a server
// five seconds.
const (
	slowest  = 2500 * time.Millisecond
	hopeless = 4500 * time.Millisecond
)

// quickTemplate is the usual one with a cache that takes TTLs of a second as they are.
var quickTemplate = strings.NewReplacer("success 9984 30", "success 9984 30 1", "denial 9984 5", "denial 9984 5 1").Replace(template)

// TestMoods lets the cluster's servers die, fall silent, fail and be slow, one of them and both.
func TestMoods(t *testing.T) {
	t.Parallel()
	for name, moods := range map[string][2]Mood{
		"one gone": {Gone, Well}, "both gone": {Gone, Gone}, "one silent": {Silent, Well}, "both silent": {Silent, Silent},
		"one failing": {ServFail, Well}, "both failing": {ServFail, ServFail}, "one slow": {Slow, Well}, "both slow": {Slow, Slow},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMoody(t)
			m.warm()
			for i, s := range m.l.Servers {
				s.Set(t, moods[i])
			}
			time.Sleep(1500 * time.Millisecond) // what is cached has expired
			served := moods[1] == Well || moods[1] == Slow
			m.suffer(served && moods[0] != ServFail, moods[0] == Gone || moods[0] == Silent) // a server's SERVFAIL is an answer: it is passed on
			if !served {
				m.wantStale()
			}
			for _, s := range m.l.Servers {
				s.Set(t, Well)
			}
			m.wantRecovery()
		})
	}
}

// moody is a lab whose servers change.
type moody struct {
	t     *testing.T
	l     *Lab
	a     *Agent
	fresh atomic.Int64 // names that nobody has asked for yet
}

func newMoody(t *testing.T) *moody {
	l := NewLab(t, 5)
	for _, s := range l.Servers {
		s.TTL.Store(1)
	}
	return &moody{t: t, l: l, a: l.Agent(AgentOptions{Template: quickTemplate}).Ready()}
}

func known(n int) string { return fmt.Sprintf("svc-%d.default.svc.cluster.local.", n%20) }

func absent(n int) string { return fmt.Sprintf("svc-%d.none.cluster.local.", n%20) }

func (m *moody) unknown() string {
	return fmt.Sprintf("new-%d.default.svc.cluster.local.", m.fresh.Add(1))
}

// warm brings the known names into the cache, of both types, and that others do not exist.
func (m *moody) warm() {
	m.t.Helper()
	for n := range 20 {
		for _, name := range []string{known(n), absent(n)} {
			for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA} {
				if _, _, err := m.l.Pods[0].Ask(ClusterDNS4, name, typ, time.Second); err != nil {
					m.t.Fatal(err)
				}
			}
		}
	}
}

// suffer asks while the servers are in their mood. Names that the cache knows are answered; served says that new ones are
// too, and away that the other server does so as always: soon.
func (m *moody) suffer(served, away bool) {
	m.t.Helper()
	limit := slowest
	if away && *long {
		limit = time.Second
	}
	ctx, stop := context.WithTimeout(context.Background(), 4*time.Second)
	defer stop()
	old := make(chan *Report)
	go func() {
		old <- Load{Pods: m.l.Pods, Servers: []string{ClusterDNS4}, Wait: 5 * time.Second, Rate: 100, Name: func(n int) string {
			if n%4 == 0 {
				return absent(n)
			}
			return known(n)
		}}.Run(ctx)
	}()
	fresh := Load{Pods: m.l.Pods, Servers: []string{ClusterDNS4}, Wait: 5 * time.Second, Rate: 40, Name: func(int) string { return m.unknown() }}.Run(ctx)
	r := <-old
	m.t.Logf("known names: %v", r)
	m.t.Logf("new names: %v", fresh)
	m.want("known", r, true, slowest)
	if served {
		m.want("new", fresh, true, limit)
	} else {
		m.want("new", fresh, false, hopeless)
	}
}

// want holds a report to what no client must see.
func (m *moody) want(what string, r *Report, served bool, limit time.Duration) {
	m.t.Helper()
	if r.Sent == 0 || r.Lost > 0 || r.Quantile(1) > limit || served && r.Failed > 0 {
		m.t.Errorf("%s names: lost, later than %v, or failed though somebody knows: %v, at %v", what, limit, r, r.Gaps())
	}
}

// wantStale looks for the marks of answers from expired entries: in the answers (RFC 8914, 4.4 and 4.20) and in the metrics.
func (m *moody) wantStale() {
	m.t.Helper()
	for name, want := range map[string]struct {
		rcode int
		code  uint16
	}{known(3): {dns.RcodeSuccess, dns.ExtendedErrorCodeStaleAnswer}, absent(3): {dns.RcodeNameError, dns.ExtendedErrorCodeStaleNXDOMAINAnswer}} {
		r, took, err := m.l.Pods[0].Ask(ClusterDNS4, name, dns.TypeA, 5*time.Second)
		if err != nil || took > slowest || r.Rcode != want.rcode || extendedError(r) != int(want.code) {
			m.t.Errorf("%s: %v, %v; want rcode %d with extended error %d; after %v", name, r, err, want.rcode, want.code, took)
		}
	}
	var stale float64
	for line := range strings.Lines(m.a.Metrics(9253)) {
		var n float64
		if rest, ok := strings.CutPrefix(line, "coredns_cache_served_stale_total{"); ok {
			_, value, _ := strings.Cut(rest, "} ")
			if _, err := fmt.Sscan(value, &n); err != nil {
				m.t.Fatal(err)
			}
			stale += n
		}
	}
	if stale == 0 {
		m.t.Error("coredns_cache_served_stale_total is 0")
	}
}

// extendedError gives the code of a reply; -1 for none.
func extendedError(r *dns.Msg) int {
	if opt := r.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				return int(e.InfoCode)
			}
		}
	}
	return -1
}

// wantRecovery waits until new names are answered and known ones are no longer stale, with nobody's help.
func (m *moody) wantRecovery() {
	m.t.Helper()
	began, last := time.Now(), ""
	for time.Since(began) < 10*time.Second {
		fresh, _, err := m.l.Pods[0].Ask(ClusterDNS4, m.unknown(), dns.TypeA, slowest)
		again, _, also := m.l.Pods[0].Ask(ClusterDNS4, known(3), dns.TypeA, slowest)
		if err == nil && also == nil && fresh.Rcode == dns.RcodeSuccess && again.Rcode == dns.RcodeSuccess && extendedError(again) < 0 {
			m.t.Logf("recovered after %v", time.Since(began).Round(time.Millisecond))
			return
		}
		last = fmt.Sprint(fresh, err, again, also)
		time.Sleep(50 * time.Millisecond)
	}
	m.t.Errorf("the servers are well again, but not the answers: %s", last)
}
