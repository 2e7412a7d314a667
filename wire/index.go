package wire

// Index is what is kept by name. Names are in lower case and copied. Any number of goroutines may read it when nothing is
// set any more.
type Index[T any] struct {
	few  []indexed[T]
	many map[string]T // all, when they are more than few
}

type indexed[T any] struct {
	name  Name
	value T
}

// maxFew is how many names are compared one by one, which costs less than a map: nearly all differ in length.
const maxFew = 6

// Set keeps v by the name n, in place of what was kept.
func (x *Index[T]) Set(n Name, v T) {
	if x.many != nil {
		x.many[string(n)] = v
		return
	}
	for i := range x.few {
		if e := &x.few[i]; string(e.name) == string(n) {
			e.value = v
			return
		}
	}
	x.few = append(x.few, indexed[T]{append(Name(nil), n...), v})
	if len(x.few) <= maxFew {
		return
	}
	x.many = map[string]T{}
	for _, e := range x.few {
		x.many[string(e.name)] = e.value
	}
	x.few = nil
}

// Get gives what is kept by the name n.
func (x *Index[T]) Get(n Name) (v T, ok bool) {
	for i := range x.few {
		if e := &x.few[i]; string(e.name) == string(n) {
			return e.value, true
		}
	}
	if x.many != nil {
		v, ok = x.many[string(n)]
	}
	return v, ok
}
