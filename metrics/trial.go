package metrics

import "sync"

// Trial is what a configuration has added to a registry before it is known whether it will serve.
type Trial struct {
	mu    sync.Mutex
	undo  []func() // guarded by mu
	ended bool     // guarded by mu
}

// Try gives a registry with the same metrics, whose additions can be taken back: a configuration that does not come to
// serve leaves no series behind, and no function in the place of one that serves.
func (r *Registry) Try() (*Registry, *Trial) {
	t := &Trial{}
	return &Registry{shards: r.shards, mu: r.mu, families: r.families, tallies: r.tallies, trial: t}, t
}

func (t *Trial) note(undo func()) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.undo = append(t.undo, undo)
	}
}

// Keep makes the additions final.
func (t *Trial) Keep() { t.end() }

// Undo takes the additions back, the last one first.
func (t *Trial) Undo() {
	undo := t.end()
	for i := range undo {
		undo[len(undo)-1-i]()
	}
}

func (t *Trial) end() []func() {
	t.mu.Lock()
	defer t.mu.Unlock()
	undo := t.undo
	t.undo, t.ended = nil, true
	return undo
}
