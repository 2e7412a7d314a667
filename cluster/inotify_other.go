//go:build !linux

package cluster

import (
	"context"
	"log/slog"
)

// watchFolder tells of nothing: polling has to do.
func watchFolder(context.Context, string, *slog.Logger) (changes <-chan struct{}, stop func()) {
	return make(chan struct{}), func() {}
}
