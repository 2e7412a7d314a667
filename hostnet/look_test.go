package hostnet

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestFailedLookIsTold has an interface of somebody else's in the place of the agent's.
func TestFailedLookIsTold(t *testing.T) {
	type failure struct {
		rules bool
		err   error
	}
	failed := make(chan failure, 64)
	cfg := Config{ID: "0000000a", Mode: Addresses, Addresses: []netip.Addr{netip.MustParseAddr("169.254.20.10")}, ManageInterface: true,
		Failed: func(rules bool, err error) {
			select {
			case failed <- failure{rules, err}:
			default:
			}
		}}
	cfg.setDefaults()
	h := newHost(cfg, &recorder{made: "vlan"}, nil)
	h.onLink = true
	ctx, cancel := context.WithCancel(t.Context())
	changed, done := make(chan struct{}, 1), make(chan struct{})
	changed <- struct{}{}
	go func() {
		defer close(done)
		h.linkKeeper(ctx, changed)
	}()
	select {
	case f := <-failed:
		if f.rules || f.err == nil {
			t.Errorf("%+v", f)
		}
	case <-time.After(5 * time.Second):
		t.Error("nobody was told")
	}
	cancel()
	<-done
}

func TestNextLook(t *testing.T) {
	cfg := Config{Check: 40 * time.Second}
	cfg.setDefaults()
	h := newHost(cfg, nil, nil)
	h.proc = t.TempDir()
	if d := h.nextLook(nil); d != 40*time.Second {
		t.Errorf("the next look is after %v", d)
	}
	if d := h.nextLook(errors.New("no")); d != legacyLook {
		t.Errorf("after a failure it is after %v", d)
	}
	names := filepath.Join(h.proc, "net", "ip_tables_names")
	if err := os.MkdirAll(filepath.Dir(names), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(names, []byte("filter\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if d := h.nextLook(nil); d != legacyLook {
		t.Errorf("with tables of iptables-legacy it is after %v", d)
	}
	h.cfg.Check = 2 * time.Second
	if d := h.nextLook(nil); d != 2*time.Second {
		t.Errorf("the shorter one counts: %v", d)
	}
	empty := Config{}
	if empty.setDefaults(); empty.Check != time.Minute {
		t.Errorf("the default is %v", empty.Check)
	}
}
