package cluster

import "sort"

// endpoints are a Service's, in order and in blocks. A list that differs from another in a few places shares all other blocks
// with it: what a large Service threw away at each change, the collector would have to run for.
type endpoints struct {
	head []endpoint // the first block: most Services have no other
	tail []block
}

// block is a part of a list that begins with endpoint number from. It is never changed.
type block struct {
	from int
	eps  []endpoint
}

const (
	blockSize = 128           // endpoints in a block that is new
	blockMost = blockSize * 2 // until it is divided
)

// endpointsOf copies a sorted list.
func endpointsOf(list []endpoint) (l endpoints) {
	for len(list) > 0 {
		n := min(blockSize, len(list))
		l.add(append(make([]endpoint, 0, n), list[:n]...))
		list = list[n:]
	}
	return l
}

// add adds a block behind all others.
func (l *endpoints) add(eps []endpoint) {
	switch {
	case len(eps) == 0:
	case len(l.head) == 0:
		l.head = eps
	default:
		l.tail = append(l.tail, block{l.len(), eps})
	}
}

func (l *endpoints) len() int {
	if n := len(l.tail); n > 0 {
		return l.tail[n-1].from + len(l.tail[n-1].eps)
	}
	return len(l.head)
}

// blocks is how many there are, and block one of them.
func (l *endpoints) blocks() int {
	if len(l.head) == 0 {
		return 0
	}
	return 1 + len(l.tail)
}

func (l *endpoints) block(k int) []endpoint {
	if k == 0 {
		return l.head
	}
	return l.tail[k-1].eps
}

// all calls yield for each, in order.
func (l *endpoints) all(yield func(*endpoint) bool) {
	for k := range l.blocks() {
		block := l.block(k)
		for i := range block {
			if !yield(&block[i]) {
				return
			}
		}
	}
}

// at gives endpoint number i.
func (l *endpoints) at(i int) *endpoint {
	if i < len(l.head) {
		return &l.head[i]
	}
	k := min(i/blockSize, len(l.tail)) - 1 // blocks are about as long as one that is new
	for k = max(k, 0); l.tail[k].from > i; k-- {
	}
	for k+1 < len(l.tail) && l.tail[k+1].from <= i {
		k++
	}
	return &l.tail[k].eps[i-l.tail[k].from]
}

// first gives the first endpoint whose hash is not below h.
func (l *endpoints) first(h uint32) int {
	return sort.Search(l.len(), func(i int) bool { return l.at(i).hash >= h })
}

// splice gives the list with cuts, which are in order. It is not ok when an endpoint would be taken out twice.
func (l *endpoints) splice(cuts []cut) (out endpoints, ok bool) {
	if len(l.tail) > 0 {
		out.tail = make([]block, 0, len(l.tail)+1)
	}
	from, blocks := 0, max(l.blocks(), 1)
	for k := range blocks {
		old := l.block(k)
		n := 0
		for n < len(cuts) && (k == blocks-1 || cuts[n].at < from+len(old)) {
			n++
		}
		next := old
		if n > 0 {
			if next, ok = spliced(old, from, cuts[:n]); !ok {
				return out, false
			}
		}
		for ; len(next) > blockMost; next = next[blockSize:] {
			out.add(next[:blockSize:blockSize])
		}
		out.add(next)
		from, cuts = from+len(old), cuts[n:]
	}
	if out.blocks() > 4+2*out.len()/blockSize { // many are nearly empty
		out = endpointsOf(out.flat())
	}
	return out, true
}

// spliced is splice for the block that begins with endpoint number from.
func spliced(old []endpoint, from int, cuts []cut) (eps []endpoint, ok bool) {
	size := len(old)
	for i := range cuts {
		if cuts[i].out {
			size--
		} else {
			size++
		}
	}
	eps = make([]endpoint, 0, max(size, 0))
	at := 0
	for _, c := range cuts {
		if c.at-from < at {
			return nil, false
		}
		eps = append(eps, old[at:c.at-from]...)
		at = c.at - from
		if c.out {
			at++
		} else {
			eps = append(eps, c.ep)
		}
	}
	return append(eps, old[at:]...), true
}

// flat gives all in one slice.
func (l *endpoints) flat() []endpoint {
	all := make([]endpoint, 0, l.len())
	for k := range l.blocks() {
		all = append(all, l.block(k)...)
	}
	return all
}
