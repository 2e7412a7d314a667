//go:build !race

package metrics

import (
	"sync/atomic"
	"unsafe"
)

// AddAlone adds n to a counter that only the calling goroutine writes. A plain store is enough: the memory model lets
// readers see a word's old value or its new one, never a mixture, and a count may be read a moment late. An atomic store
// is an exchange on amd64, which costs as much as a locked addition: more than all else that counting does.
func AddAlone(c *atomic.Uint64, n uint64) { *(*uint64)(unsafe.Pointer(c)) += n }
