package invariant

import (
	"bytes"
	"testing"
)

func TestPoisonDoesAsTheBuildSays(t *testing.T) {
	b := []byte("answer")
	Poison(b)
	if changed := !bytes.Equal(b, []byte("answer")); changed != On {
		t.Errorf("poisoned %v in a build with checks %v: %x", changed, On, b)
	}
}
