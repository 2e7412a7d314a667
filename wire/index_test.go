package wire

import (
	"fmt"
	"testing"
)

func TestIndexKeepsEveryName(t *testing.T) {
	var x Index[int]
	for n := range 4 * maxFew {
		name := MustName(fmt.Sprintf("n%d.example.", n))
		if v, ok := x.Get(name); ok {
			t.Errorf("%v is there before it is set, as %d", name, v)
		}
		x.Set(name, -1)
		x.Set(name, n)
		name[1] = 'x' // a copy is kept
		for i := range n + 1 {
			if v, ok := x.Get(MustName(fmt.Sprintf("n%d.example.", i))); !ok || v != i {
				t.Errorf("of %d names, number %d is %d, %v", n+1, i, v, ok)
			}
		}
	}
}
