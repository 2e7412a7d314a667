package cluster

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// watchFolder tells of changes to a folder, or to the folder of a file: editors and ConfigMap mounts replace files, which
// only the folder sees. Where the kernel refuses, nothing is ever told and polling has to do. stop waits for the end.
func watchFolder(ctx context.Context, path string, log *slog.Logger) (changes <-chan struct{}, stop func()) {
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
		log.Warn("changes to manifests are found by polling", "path", folder, "reason", err.Error())
		return ch, func() {}
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
	}
}
