// Package tls gives a server block's encrypted listeners their certificate (RFC 7858).
//
//	tls CERT KEY [CA] {
//	    client_auth nocert|request|require|verify_if_given|require_and_verify
//	    keylog FILE
//	}
package tls

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godwit-dns/godwit/chain"
)

// lookEvery is how often the files are looked at.
const lookEvery = 10 * time.Second

// keeper has the certificate and looks whether its files change.
type keeper struct {
	env            *chain.Env
	cert, key, ca  string // file names; ca may be empty
	pair           atomic.Pointer[tls.Certificate]
	seen           [3][]byte // the files as they were tried last
	authority      *x509.CertPool
	keylog         *keylog
	authentication tls.ClientAuthType
}

// read gives the three files, and whether they differ from those that were tried last.
func (k *keeper) read() (files [3][]byte, changed bool, err error) {
	for i, name := range [3]string{k.cert, k.key, k.ca} {
		if name == "" {
			continue
		}
		if files[i], err = fs.ReadFile(k.env.Files, name); err != nil {
			return files, false, err
		}
		changed = changed || !bytes.Equal(files[i], k.seen[i])
	}
	return files, changed, nil
}

// load reads everything for the first time.
func (k *keeper) load() error {
	files, _, err := k.read()
	if err != nil {
		return err
	}
	k.seen = files
	if k.ca != "" {
		k.authority = x509.NewCertPool()
		if !k.authority.AppendCertsFromPEM(files[2]) {
			return fmt.Errorf("%s has no certificate in it", k.ca)
		}
	}
	return k.use(files)
}

func (k *keeper) use(files [3][]byte) error {
	pair, err := tls.X509KeyPair(files[0], files[1])
	if err != nil {
		return fmt.Errorf("%s and %s: %w", k.cert, k.key, err)
	}
	k.pair.Store(&pair)
	return nil
}

// config is the configuration of listeners. It always gives the newest certificate.
func (k *keeper) config() *tls.Config {
	c := &tls.Config{
		MinVersion:     tls.VersionTLS12, // RFC 8996
		ClientAuth:     k.authentication,
		ClientCAs:      k.authority,
		RootCAs:        k.authority,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.pair.Load(), nil },
	}
	if k.keylog != nil {
		c.KeyLogWriter = k.keylog
	}
	return c
}

// run looks at the files now and then. What can't be read or used is logged, and the old certificate goes on.
func (k *keeper) run(ctx context.Context) error {
	ticks := k.env.Ticks(ctx, lookEvery)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks:
			k.look()
		}
	}
}

func (k *keeper) look() {
	files, changed, err := k.read()
	if err != nil || !changed {
		return // a file that is being replaced may be away for a moment
	}
	authority := !bytes.Equal(files[2], k.seen[2])
	k.seen = files
	if err := k.use(files); err != nil {
		k.env.Log.Error("plugin/tls: The certificate changed but can't be used, the old one goes on: " + err.Error())
		return
	}
	k.env.Log.Info("plugin/tls: Certificate " + k.cert + " loaded again")
	if authority {
		k.env.Reload() // who may connect is part of the configuration
	}
}

// keylog is the file that session secrets are written to. It is open while the configuration lives.
type keylog struct {
	name string
	mu   sync.Mutex
	file *os.File // guarded by mu
}

func (l *keylog) open(context.Context) error {
	f, err := os.OpenFile(l.name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("plugin/tls: keylog: %w", err)
	}
	l.mu.Lock()
	l.file = f
	l.mu.Unlock()
	return nil
}

func (l *keylog) close(bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		_ = l.file.Close() // it has no buffer of its own
		l.file = nil
	}
}

var errKeylogClosed = errors.New("plugin/tls: the configuration with this keylog has ended")

// Write writes one line.
func (l *keylog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return 0, errKeylogClosed
	}
	return l.file.Write(p)
}
