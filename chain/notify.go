package chain

import (
	"context"

	"github.com/godwit-dns/godwit/wire"
)

// Notifier is a handler that tells the secondaries of a zone that it changed (RFC 1996): the transfer directive. Handlers
// that load zones look for it among their neighbours when everything is built.
type Notifier interface {
	// Notify sends and waits for the answers. A zone without secondaries is no error.
	Notify(ctx context.Context, zone wire.Name) error
}
