package run

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// gatherFor is how long lines gather before they are written together.
const gatherFor = 5 * time.Millisecond

// printLimit bounds the octets that a loop's lines may take while the reader of the log does not read.
const printLimit = 4 << 20

// printer writes the log lines of the loops, which must never wait for whoever reads the log.
type printer struct {
	w      io.Writer
	wake   chan struct{}
	shards []printShard
}

// printShard is the lines of one loop.
type printShard struct {
	mu   sync.Mutex
	buf  []byte // guarded by mu
	lost int    // lines that found no room; guarded by mu
	_    [64]byte
}

func newPrinter(w io.Writer, shards int) *printer {
	return &printer{w: w, wake: make(chan struct{}, 1), shards: make([]printShard, shards)}
}

// print is chain.Env's Print.
func (p *printer) print(shard int, line []byte) {
	s := &p.shards[shard]
	s.mu.Lock()
	first := len(s.buf) == 0
	if len(s.buf)+len(line) > printLimit {
		s.lost++
	} else {
		s.buf = append(s.buf, line...)
	}
	s.mu.Unlock()
	if first {
		select {
		case p.wake <- struct{}{}:
		default: // already awake
		}
	}
}

// run writes until ctx is done, and then what is left.
func (p *printer) run(ctx context.Context) {
	var spare []byte
	for {
		select {
		case <-ctx.Done():
			p.flush(spare)
			return
		case <-p.wake:
		}
		select {
		case <-ctx.Done():
		case <-time.After(gatherFor):
		}
		spare = p.flush(spare)
	}
}

// flush writes what has gathered, each loop's lines in one call, and gives back a buffer to use again.
func (p *printer) flush(spare []byte) []byte {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		full, lost := s.buf, s.lost
		s.buf, s.lost = spare[:0], 0
		s.mu.Unlock()
		if lost > 0 {
			full = fmt.Appendf(full, "[WARNING] %d log lines were lost: the log is read more slowly than it is written\n", lost)
		}
		if len(full) > 0 {
			_, _ = p.w.Write(full) // there is no other place to complain to
		}
		spare = full
		if cap(spare) > printLimit/8 {
			spare = nil
		}
	}
	return spare
}
