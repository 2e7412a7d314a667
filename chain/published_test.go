package chain

import "testing"

// TestPublishedInsideAQuery stores other data between a handler's Serve and its Repeat: the answer was made from the old.
func TestPublishedInsideAQuery(t *testing.T) {
	b := newBench(t)
	q := b.Get()
	var p Published[int]
	last := NewLast[int](testEnv(b))
	first, second := 1, 2
	p.Store(&first)
	if last.Load(q, &p) != &first {
		t.Fatal("not what was stored")
	}
	before := last.Guard(q, &p)
	seen := before.Version.Load()
	if _, _, ok := before.Check(0); !ok {
		t.Error("an answer from what is published does not stand")
	}
	p.Store(&second)
	if before.Version.Load() == seen {
		t.Error("nothing tells of what was stored")
	}
	if _, _, ok := before.Check(0); ok {
		t.Error("an answer from what was published stands")
	}
	late := last.Guard(q, &p)
	if _, _, ok := late.Check(0); ok {
		t.Error("an answer from old data stands, since new was published before its guard was made")
	}
}
