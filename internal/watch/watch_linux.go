// Package watch tells when files change.
package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// Folder tells of changes in folders, or in the folders of files: editors and ConfigMap mounts replace files, which only the
// folder sees. Several changes may be told as one. It ends with ctx or stop; stop waits for the end. Where the kernel refuses
// to watch a path, err says why, and the caller has to look there for itself: a node has few watchers (inotify(7),
// max_user_instances), and one is taken for all paths.
func Folder(ctx context.Context, paths ...string) (changes <-chan struct{}, stop func(), err error) {
	ch := make(chan struct{}, 1)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return ch, func() {}, fmt.Errorf("watch for changes: %w", err)
	}
	for _, path := range paths {
		folder := path
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			folder = filepath.Dir(path)
		}
		const mask = unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ATTRIB
		if _, e := unix.InotifyAddWatch(fd, folder, mask); e != nil {
			err = errors.Join(err, fmt.Errorf("watch %s: %w", folder, e))
		}
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
	}, err
}
