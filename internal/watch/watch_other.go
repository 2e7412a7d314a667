//go:build !linux

// Package watch tells when files change.
package watch

import (
	"context"
	"errors"
)

// Folder tells of nothing on this system: the caller has to look for itself.
func Folder(context.Context, ...string) (changes <-chan struct{}, stop func(), err error) {
	return make(chan struct{}), func() {}, errors.ErrUnsupported
}
