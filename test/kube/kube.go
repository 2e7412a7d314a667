// Package kube runs a real Kubernetes control plane for tests: etcd and
// kube-apiserver (and, when asked, some controllers of
// kube-controller-manager) as children of this process, on loopback, without
// privileges, nodes or pods. Tests create the objects that a cluster's
// controllers would, and take the control plane's parts away and back.
//
//	plane, err := kube.Start(ctx, kube.Options{Streaming: true})
//	defer plane.Stop()
//	err = plane.Apply(ctx, manifests)
//	err = plane.InstallDNSAccount(ctx)
//	path, err := plane.Kubeconfig(ctx, kube.DNSAccount)
package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// ServiceCIDRs are the ranges that Service addresses come from.
	ServiceCIDRs = "10.96.0.0/16,fd00:96::/108"
	// AdvertiseAddress is the endpoint of the Service kubernetes in the
	// namespace default. Loopback is refused there by Kubernetes, so it is an
	// address of TEST-NET-1 (RFC 5737) at which nobody listens.
	AdvertiseAddress = "192.0.2.1"
)

// Options says what Start runs.
type Options struct {
	// Dir takes certificates, etcd's data, logs and kubeconfig files. Empty
	// means a temporary folder that Stop removes.
	Dir string
	// Streaming lets the API server answer watches with sendInitialEvents
	// (feature gate WatchList). Without it such a watch is refused and clients
	// have to LIST.
	Streaming bool
	// Controllers are the controllers of kube-controller-manager to run, by the
	// names its --controllers flag takes. With none the program is not started,
	// and there is nobody who makes EndpointSlices or deletes the contents of
	// a namespace.
	Controllers []string
	// Address is where the API server listens. The zero value is 127.0.0.1.
	// etcd is always on 127.0.0.1.
	Address netip.Addr
	// Binaries is the folder with etcd, kube-apiserver and
	// kube-controller-manager. Empty means what Build says.
	Binaries string
	// Progress is told what is being built or started, a line each. Nil
	// discards it.
	Progress io.Writer
}

// Plane is a running control plane. Its methods may be called from several
// goroutines, except that those which start, kill or stop a part must not run
// at the same time as one another.
type Plane struct {
	opts    Options
	dir     string
	tempDir bool
	files   files
	ca      *authority

	etcdPort, peerPort, apiPort uint16

	etcd, api, controllers *process

	client *http.Client

	addresses atomic.Uint32 // how many Service addresses Load has taken

	kindsMu sync.Mutex
	kinds   map[string]resource // guarded by kindsMu; key: apiVersion and kind
}

// Start builds the programs if that has not been done yet, starts etcd and the
// API server and waits until /readyz says ok. ctx bounds the start alone;
// afterwards the children live until Stop or the end of this process,
// whichever comes first.
func Start(ctx context.Context, opts Options) (*Plane, error) {
	if opts.Progress == nil {
		opts.Progress = io.Discard
	}
	if !opts.Address.IsValid() {
		opts.Address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if opts.Binaries == "" {
		dir, err := Build(ctx, opts.Progress)
		if err != nil {
			return nil, err
		}
		opts.Binaries = dir
	}
	p := &Plane{opts: opts, dir: opts.Dir, kinds: make(map[string]resource)}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

func (p *Plane) start(ctx context.Context) error {
	if err := p.prepare(); err != nil {
		return err
	}
	if err := p.StartEtcd(ctx); err != nil {
		return err
	}
	if err := p.StartAPI(ctx); err != nil {
		return err
	}
	if len(p.opts.Controllers) == 0 {
		return nil
	}
	return p.startControllers(ctx)
}

// prepare makes all that the children read: folder, ports, certificates.
func (p *Plane) prepare() error {
	if p.dir == "" {
		dir, err := os.MkdirTemp("", "godwit-kube-")
		if err != nil {
			return err
		}
		p.dir, p.tempDir = dir, true
	}
	dir, err := filepath.Abs(p.dir)
	if err != nil {
		return err
	}
	p.dir = dir
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return err
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for _, want := range []struct {
		port *uint16
		addr netip.Addr
	}{{&p.etcdPort, loopback}, {&p.peerPort, loopback}, {&p.apiPort, p.opts.Address}} {
		if *want.port, err = freePort(want.addr); err != nil {
			return err
		}
	}
	if p.files, p.ca, err = writeFiles(p.dir, p.opts.Address); err != nil {
		return err
	}
	p.client, err = p.files.adminClient()
	return err
}

// Stop kills every child, waits for each and removes the folder if Start made
// it. It may be called more than once.
func (p *Plane) Stop() error {
	p.controllers.kill()
	p.api.kill()
	p.etcd.kill()
	if p.client != nil {
		p.client.CloseIdleConnections()
	}
	if !p.tempDir {
		return nil
	}
	return os.RemoveAll(p.dir)
}

// Dir is the folder with the logs etcd.log, kube-apiserver.log and
// kube-controller-manager.log.
func (p *Plane) Dir() string { return p.dir }

// URL is the API server's address, without a slash at its end. It stays the
// same when the server is killed and started again.
func (p *Plane) URL() string {
	return "https://" + netip.AddrPortFrom(p.opts.Address, p.apiPort).String()
}

// HTTPClient has the administrator's certificate and trusts the API server.
// It belongs to the Plane and has no time limit of its own.
func (p *Plane) HTTPClient() *http.Client { return p.client }

// CAFile is the path of the certificate authority's certificate, as PEM.
func (p *Plane) CAFile() string { return p.files.ca }

// waitFor calls ready every 50 ms until it returns nil. It gives up when ctx
// ends or the process exits; both errors carry the last lines of its log.
func waitFor(ctx context.Context, proc *process, ready func(context.Context) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w (last answer: %w)%s", proc.name, context.Cause(ctx), err, proc.tail())
		case <-proc.done:
			return fmt.Errorf("%s ended while starting: %v%s", proc.name, proc.state(), proc.tail())
		case <-tick.C:
		}
	}
}
