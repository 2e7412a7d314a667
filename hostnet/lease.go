package hostnet

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/godwit-dns/godwit/metrics"
)

// leaseWatcher looks at the lease, a few times in its length, to count and show what the kernel does; it only reads.
func (h *Host) leaseWatcher(ctx context.Context) {
	gauges := map[netip.Addr]*metrics.Gauge{}
	for _, ip := range h.cfg.Addresses {
		gauges[ip] = h.cfg.Metrics.Gauge("godwit_node_lease", "1 while the address's lease holds: its queries come to the agent.", metrics.L("address", ip.String())...)
	}
	seen := newRecent(h.cfg.Lease)
	was := map[netip.Addr]bool{}
	for wait(ctx, h.cfg.Lease/3) {
		holds, err := h.leased(seen)
		if err != nil {
			h.cfg.Log.Error("the lease can't be looked at", "error", err)
			continue
		}
		h.ruleMu.Lock()
		ruled := h.ruled && h.stage == ipWhole
		h.ruleMu.Unlock()
		for _, ip := range h.cfg.Addresses {
			v := 0.0
			if holds[ip] {
				v = 1
			}
			gauges[ip].Set(v)
			if was[ip] && !holds[ip] && ruled {
				h.lapsed.Add(1)
				h.lapses.Inc(h.cfg.Metrics.Shared())
				h.cfg.Log.Warn("a lease has ended: its probe was not answered in time, so the cluster's servers answer until it is", "address", ip)
			}
			was[ip] = holds[ip]
		}
	}
}

// leased gives the addresses whose lease holds now.
func (h *Host) leased(seen *recent) (map[netip.Addr]bool, error) {
	holds := map[netip.Addr]bool{}
	if h.cfg.Mode == IPTables {
		for _, f := range bothFamilies() {
			list, err := os.Open(filepath.Join(h.proc, "net/xt_recent", ipListName(f)))
			if errors.Is(err, fs.ErrNotExist) {
				continue // no rule yet
			}
			if err != nil {
				return nil, err
			}
			for lines := bufio.NewScanner(list); lines.Scan(); {
				if ip, ok := seen.note(lines.Text(), time.Now()); ok {
					holds[ip] = true
				}
			}
			list.Close()
		}
		seen.looked = true
		return holds, nil
	}
	for _, f := range bothFamilies() {
		keys, err := h.nft.held(tablePrefix+h.cfg.ID, "lease"+f.suffix)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			if ip, ok := netip.AddrFromSlice(k); ok {
				holds[ip] = true
			}
		}
	}
	return holds, nil
}

// recent reads lists of xt_recent, whose times are in ticks of unknown length since an unknown start: it goes by when it
// saw them change.
type recent struct {
	lease  time.Duration
	last   map[netip.Addr]sighting
	looked bool // before: what is new now has come since
}

type sighting struct {
	stamp string
	at    time.Time
}

func newRecent(lease time.Duration) *recent {
	return &recent{lease: lease.Truncate(time.Second), last: map[netip.Addr]sighting{}}
}

// note reads a line, `src=10.0.0.1 ttl: 0 last_seen: 4295 oldest_pkt: 1 4295`, and reports whether the lease of its address
// holds.
func (r *recent) note(line string, now time.Time) (netip.Addr, bool) {
	word := strings.Fields(line)
	if len(word) < 5 || word[3] != "last_seen:" {
		return netip.Addr{}, false
	}
	ip, err := netip.ParseAddr(strings.TrimPrefix(word[0], "src="))
	if err != nil {
		return netip.Addr{}, false
	}
	s, known := r.last[ip]
	if s.stamp != word[4] {
		s = sighting{word[4], now}
		if !known && !r.looked { // it may be old: it has to change before our eyes
			s.at = now.Add(-r.lease)
		}
		r.last[ip] = s
	}
	return ip, now.Sub(s.at) < r.lease
}
