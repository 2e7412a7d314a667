package kube

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

var errRunning = errors.New("is running already")

// StartEtcd starts etcd and waits until it is healthy. Start has done it
// once; it is for after KillEtcd.
func (p *Plane) StartEtcd(ctx context.Context) error {
	if p.etcd.running() {
		return fmt.Errorf("etcd %w", errRunning)
	}
	fmt.Fprintln(p.opts.Progress, "starting etcd")
	peer := loopbackURL(p.peerPort)
	var err error
	p.etcd, err = startProcess("etcd", p.opts.Binaries, filepath.Join(p.dir, "etcd.log"), []string{
		"--name=test",
		"--data-dir=" + filepath.Join(p.dir, "etcd"),
		"--listen-client-urls=" + p.etcdURL(),
		"--advertise-client-urls=" + p.etcdURL(),
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=test=" + peer,
		// What a killed process wrote is safe in the page cache; only a crash of
		// the whole machine would lose it.
		"--unsafe-no-fsync",
		"--log-level=warn",
	})
	if err != nil {
		return err
	}
	return waitFor(ctx, p.etcd, func(ctx context.Context) error {
		_, err := p.askEtcd(ctx, http.MethodGet, "/health", nil)
		return err
	})
}

// KillEtcd sends SIGKILL to etcd and waits for its end. Its data stay.
func (p *Plane) KillEtcd() { p.etcd.kill() }

// StartAPI starts the API server and waits until it is ready. Start has done
// it once; it is for after KillAPI.
func (p *Plane) StartAPI(ctx context.Context) error {
	if p.api.running() {
		return fmt.Errorf("kube-apiserver %w", errRunning)
	}
	fmt.Fprintln(p.opts.Progress, "starting kube-apiserver")
	var err error
	p.api, err = startProcess("kube-apiserver", p.opts.Binaries, filepath.Join(p.dir, "kube-apiserver.log"), p.apiArgs())
	if err != nil {
		return err
	}
	return waitFor(ctx, p.api, func(ctx context.Context) error {
		_, err := p.Do(ctx, http.MethodGet, "/readyz", nil)
		return err
	})
}

func (p *Plane) apiArgs() []string {
	return []string{
		"--etcd-servers=" + p.etcdURL(),
		"--bind-address=" + p.opts.Address.String(),
		"--secure-port=" + strconv.Itoa(int(p.apiPort)),
		"--advertise-address=" + AdvertiseAddress,
		"--service-cluster-ip-range=" + ServiceCIDRs,
		"--authorization-mode=RBAC",
		"--anonymous-auth=false",
		"--client-ca-file=" + p.files.ca,
		"--tls-cert-file=" + p.files.serverCert,
		"--tls-private-key-file=" + p.files.serverKey,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + p.files.accountKey,
		"--service-account-signing-key-file=" + p.files.accountKey,
		// It would refuse Pods in namespaces without a default account, and
		// nobody makes those here.
		"--disable-admission-plugins=ServiceAccount",
		"--allow-privileged=true",
		"--feature-gates=WatchList=" + strconv.FormatBool(p.opts.Streaming),
		"--profiling=false",
	}
}

// KillAPI sends SIGKILL to the API server and waits for its end.
func (p *Plane) KillAPI() { p.api.kill() }

// PauseAPI stops the API server with SIGSTOP: its connections stay open and
// nothing moves on them until ResumeAPI.
func (p *Plane) PauseAPI() error { return p.api.signal(syscall.SIGSTOP) }

// ResumeAPI lets a paused API server go on.
func (p *Plane) ResumeAPI() error { return p.api.signal(syscall.SIGCONT) }

// startControllers does not wait: what a controller does is seen in the API.
func (p *Plane) startControllers(ctx context.Context) error {
	kubeconfig, err := p.Kubeconfig(ctx, Admin)
	if err != nil {
		return err
	}
	const name = "kube-controller-manager"
	fmt.Fprintln(p.opts.Progress, "starting", name)
	p.controllers, err = startProcess(name, p.opts.Binaries, filepath.Join(p.dir, name+".log"), []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--controllers=" + strings.Join(p.opts.Controllers, ","),
		"--service-account-private-key-file=" + p.files.accountKey,
		"--leader-elect=false",
		"--secure-port=0",
	})
	return err
}

// Compact throws away etcd's history up to its present revision, so that a
// watch from an older one has expired. The API server's watch cache remembers
// more than etcd does: a client sees 410 Gone only after KillAPI and StartAPI.
func (p *Plane) Compact(ctx context.Context) error {
	body, err := p.askEtcd(ctx, http.MethodPost, "/v3/kv/range", map[string]any{"key": bytes64("\x00"), "limit": 1})
	if err != nil {
		return err
	}
	var answer struct {
		Header struct {
			Revision string `json:"revision"`
		} `json:"header"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("etcd's answer to a range request: %w", err)
	}
	_, err = p.askEtcd(ctx, http.MethodPost, "/v3/kv/compaction", map[string]any{
		"revision": answer.Header.Revision,
		"physical": true,
	})
	return err
}

// bytes64 is how etcd's gateway wants keys and values.
func bytes64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// askEtcd speaks to the JSON gateway that etcd has on its client port.
func (p *Plane) askEtcd(ctx context.Context, method, path string, body any) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, p.etcdURL()+path, strings.NewReader(string(text)))
	if err != nil {
		return nil, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("etcd: %s %s: %s: %s", method, path, resp.Status, answer)
	}
	return answer, nil
}

func (p *Plane) etcdURL() string { return loopbackURL(p.etcdPort) }

func loopbackURL(port uint16) string {
	return "http://" + netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port).String()
}
