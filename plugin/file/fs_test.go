package file_test

import (
	"io/fs"
	"sync"
	"testing/fstest"
	"time"
)

// lockedFS is a file system that a test changes while the directive reads it.
type lockedFS struct {
	mu sync.Mutex
	fs fstest.MapFS
}

func (l *lockedFS) put(name, text string, mtime int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fs[name] = &fstest.MapFile{Data: []byte(text), ModTime: time.Unix(mtime, 0)}
}

// Open opens a file as it is now.
func (l *lockedFS) Open(name string) (fs.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fs.Open(name)
}
