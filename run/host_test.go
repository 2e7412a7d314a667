package run

import (
	"testing"
	"time"
)

// TestHeldConfigurationIsNotReloaded has a process without a host, which a reload would need.
func TestHeldConfigurationIsNotReloaded(t *testing.T) {
	p := &process{reloads: make(chan struct{}, 1)}
	s := sockets{p}
	s.Hold()
	p.reload(false) // found again by whoever finds the Corefile changed
	s.Release()
	if len(p.reloads) != 0 {
		t.Error("a reload that nobody asked for")
	}
	s.Hold()
	p.reload(true)
	p.reload(false)
	s.Release()
	if len(p.reloads) != 1 {
		t.Error("what was asked for in any case is forgotten")
	}
	s.Hold()
	s.Release()
	if len(p.reloads) != 1 {
		t.Error("it is asked for twice")
	}
}

// TestHoldWaitsForAReload that is under way: what it binds is there, or not, when the listeners are passed on.
func TestHoldWaitsForAReload(t *testing.T) {
	p := &process{reloads: make(chan struct{}, 1)}
	if !p.steady.begin(false) {
		t.Fatal("nothing holds it")
	}
	held := make(chan struct{})
	go func() {
		sockets{p}.Hold()
		close(held)
	}()
	select {
	case <-held:
		t.Error("held in the middle of a reload")
	case <-time.After(50 * time.Millisecond):
	}
	p.steady.end()
	<-held
	if p.steady.begin(true) {
		t.Error("a reload while it is held")
	}
}
