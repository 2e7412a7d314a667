// Package watch tells when files change.
package watch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// Folder tells of changes in a folder, or in the folder of a file: editors and ConfigMap mounts replace files, which only
// the folder sees. Several changes may be told as one. It ends with ctx or stop; stop waits for the end. Where the kernel
// refuses, err says why, nothing is ever told and the caller has to look for itself.
func Folder(ctx context.Context, path string) (changes <-chan struct{}, stop func(), err error) {
	ch := make(chan struct{}, 1)
	folder := path
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		folder = filepath.Dir(path)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		const mask = unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ATTRIB
		if _, err = unix.InotifyAddWatch(fd, folder, mask); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return ch, func() {}, fmt.Errorf("watch %s: %w", folder, err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 4096)
		for {
			if _, err := f.Read(b); err != nil {
				return
			}
			select {
			case ch <- struct{}{}:
			default:
			}
		}
	})
	cancel := context.AfterFunc(ctx, func() { f.Close() })
	return ch, func() {
		cancel()
		f.Close()
		wg.Wait()
	}, nil
}
