package watch

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// told waits for a change and for the changes that come with it.
func told(t *testing.T, changes <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-changes:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: nothing was told", what)
	}
	for {
		select {
		case <-changes:
		case <-time.After(50 * time.Millisecond):
			return
		}
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	changes, stop, err := Folder(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	file := filepath.Join(dir, "a")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	told(t, changes, "a new file")
	if err := os.WriteFile(file, []byte("y"), 0o644); err != nil {
		t.Fatal(err)
	}
	told(t, changes, "a changed file")
	other := filepath.Join(t.TempDir(), "b")
	if err := os.WriteFile(other, []byte("z"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, file); err != nil {
		t.Fatal(err)
	}
	told(t, changes, "a replaced file")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	told(t, changes, "a removed file")
}

func TestFolderOfAFile(t *testing.T) {
	dir := t.TempDir()
	changes, stop, err := Folder(t.Context(), filepath.Join(dir, "not-there-yet"))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := os.Symlink("/nowhere", filepath.Join(dir, "not-there-yet")); err != nil {
		t.Fatal(err)
	}
	told(t, changes, "a link that appears")
}

func TestFolderThatIsNotThere(t *testing.T) {
	changes, stop, err := Folder(t.Context(), filepath.Join(t.TempDir(), "a", "b"))
	if err == nil {
		t.Error("no error")
	}
	stop()
	select {
	case <-changes:
		t.Error("a change was told")
	default:
	}
}

func TestSeveralFolders(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	changes, stop, err := Folder(t.Context(), a, filepath.Join(a, "no", "such"), filepath.Join(b, "file"))
	if err == nil {
		t.Error("a folder that is not there is no error")
	}
	defer stop()
	for _, dir := range []string{a, b} {
		if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		told(t, changes, dir)
	}
}

func TestFolderEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, stop, err := Folder(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	stop()
}
