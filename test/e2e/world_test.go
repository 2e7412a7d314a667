package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/test/kube"
)

// Addresses of the world.
const (
	podAddress      = "10.244.0.2" // of the pod that the program runs in
	nodeAddress     = "10.244.0.1" // of whoever asks it
	apiAddress      = "10.96.0.1"  // of the Service kubernetes
	upstreamAddress = "192.0.2.53" // of the name server in the pod's resolv.conf
	publicAddress   = "223.5.5.5"  // of a public DNS over TLS server
	publicName      = "dns.alidns.com"
)

// world is two network namespaces: the pod, which has nothing but an address,
// and everything around it: the Service kubernetes, which leads to the control
// plane, a name server and a public DNS over TLS server. Clients are outside
// of the pod.
type world struct {
	pod, around string // names of the namespaces
	authority   *authority
	upstream    *upstream
	public      *upstream
	plane       *kube.Plane
}

// newWorld makes the namespaces and what runs in them. plane may be nil.
func newWorld(t *testing.T, plane *kube.Plane) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may make network namespaces: run this test as root")
	}
	for _, tool := range []string{"ip", "mount", "kdig"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%v: test/deps.sh installs it", err)
		}
	}
	base := fmt.Sprintf("godwit-e2e-%d-", os.Getpid())
	w := &world{pod: base + "pod", around: base + "around", plane: plane, authority: newAuthority(t)}
	for _, name := range []string{w.pod, w.around} {
		command(t, "ip", "netns", "add", name)
		t.Cleanup(func() { command(t, "ip", "netns", "del", name) })
		command(t, "ip", "-n", name, "link", "set", "lo", "up")
	}
	command(t, "ip", "-n", w.pod, "link", "add", "eth0", "type", "veth", "peer", "name", "pod", "netns", w.around)
	command(t, "ip", "-n", w.pod, "addr", "add", podAddress+"/24", "dev", "eth0")
	command(t, "ip", "-n", w.around, "addr", "add", nodeAddress+"/24", "dev", "pod")
	command(t, "ip", "-n", w.pod, "link", "set", "eth0", "up")
	command(t, "ip", "-n", w.around, "link", "set", "pod", "up")
	command(t, "ip", "-n", w.pod, "route", "add", "default", "via", nodeAddress)
	for _, address := range []string{apiAddress, upstreamAddress, publicAddress} {
		command(t, "ip", "-n", w.around, "addr", "add", address+"/32", "dev", "lo")
	}
	w.upstream = w.serveUpstream(t)
	w.public = w.servePublic(t)
	if plane != nil {
		w.relay(t, apiAddress+":443", strings.TrimPrefix(plane.URL(), "https://"))
	}
	return w
}

// command runs a program that has to succeed.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// within runs f on a thread that is in a network namespace. Sockets that f
// makes stay there; f must not leave the thread to make them.
func within(namespace string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread stays locked: it ends with this goroutine.
		runtime.LockOSThread()
		ns, err := os.Open("/run/netns/" + namespace)
		if err != nil {
			done <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// dial connects from outside of the pod.
func (w *world) dial(network, address string) (conn net.Conn, err error) {
	return conn, errors.Join(within(w.around, func() error {
		var dialErr error
		conn, dialErr = net.DialTimeout(network, address, 2*time.Second)
		return dialErr
	}))
}

// get is an HTTP GET from outside of the pod.
func (w *world) get(url string) (int, string, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
		return w.dial(network, address)
	}}
	resp, err := (&http.Client{Timeout: 5 * time.Second, Transport: transport}).Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// listen opens both sockets of a DNS server around the pod.
func (w *world) listen(t *testing.T, address string) (packets net.PacketConn, streams net.Listener) {
	t.Helper()
	err := within(w.around, func() (err error) {
		if packets, err = net.ListenPacket("udp", address); err != nil {
			return err
		}
		streams, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return packets, streams
}

// relay passes connections to an address around the pod on to one of the host.
func (w *world) relay(t *testing.T, from, to string) {
	t.Helper()
	packets, l := w.listen(t, from)
	packets.Close()
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { pass(ctx, conn, to) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		cancel()
		all.Wait()
	})
}

// pass joins a connection with a new one until either ends or ctx does.
func pass(ctx context.Context, a net.Conn, to string) {
	defer a.Close()
	b, err := net.DialTimeout("tcp", to, 2*time.Second)
	if err != nil {
		return
	}
	defer b.Close()
	stop := context.AfterFunc(ctx, func() {
		a.Close()
		b.Close()
	})
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(b, a) // its end is all that counts
		a.Close()
		b.Close()
	}()
	_, _ = io.Copy(a, b)
	a.Close()
	b.Close()
	<-done
}

// upstream is a name server that knows NAME.example.com, and counts.
type upstream struct {
	answer string // of every name below example.com
	mu     sync.Mutex
	asked  []string // guarded by mu; "NAME TYPE", without the probes of loop and forward
}

// ServeDNS answers a query.
func (u *upstream) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	question := q.Question[0]
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	if question.Qtype != dns.TypeHINFO && question.Name != "." {
		u.mu.Lock()
		u.asked = append(u.asked, question.Name+" "+dns.TypeToString[question.Qtype])
		u.mu.Unlock()
	}
	known := dns.IsSubDomain("example.com.", question.Name)
	if known && question.Qtype == dns.TypeA {
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300}, A: net.ParseIP(u.answer)}}
	} else {
		if !known {
			m.Rcode = dns.RcodeNameError
		}
		m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 300}, Ns: "a.", Mbox: "b.", Minttl: 300}}
	}
	_ = w.WriteMsg(m) // the client may have gone
}

// took tells what was asked since the last call.
func (u *upstream) took() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	asked := u.asked
	u.asked = nil
	return asked
}

// serveUpstream runs the name server of the pod's resolv.conf.
func (w *world) serveUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{answer: "192.0.2.100"}
	packets, streams := w.listen(t, upstreamAddress+":53")
	runServer(t, &dns.Server{PacketConn: packets, Handler: u})
	runServer(t, &dns.Server{Listener: streams, Handler: u})
	return u
}

// servePublic runs the DNS over TLS server, which shows its certificate to
// whoever asks for its name only.
func (w *world) servePublic(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{answer: "192.0.2.200"}
	certificate := w.authority.issue(t, publicName)
	packets, streams := w.listen(t, publicAddress+":853")
	packets.Close()
	runServer(t, &dns.Server{Handler: u, Listener: tls.NewListener(streams, &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName != publicName {
				return nil, fmt.Errorf("asked for %q", hello.ServerName)
			}
			return &certificate, nil
		},
	})})
	return u
}

func runServer(t *testing.T, s *dns.Server) {
	t.Helper()
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	done := make(chan error, 1)
	go func() { done <- s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// authority signs certificates of the world.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test world"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key}
}

// issue makes a server's certificate and key for a name.
func (a *authority) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// writePair writes a certificate and its key as PEM.
func writePair(t *testing.T, pair tls.Certificate, certFile, keyFile string) {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(pair.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	write(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})))
	write(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
}

// podScript turns a folder into the pod's /etc and its account's files into
// those that a pod finds, both in a mount namespace of its own (which ip netns
// exec has made), and becomes the program.
const podScript = `set -e
mount --bind "$POD/etc" /etc
mount -t tmpfs pod /var/cache
mkdir /var/cache/godwit
mount -t tmpfs pod /var/run
mkdir -p /var/run/secrets/kubernetes.io/serviceaccount
mount --bind "$POD/account" /var/run/secrets/kubernetes.io/serviceaccount
cd /etc/coredns
exec "$@"`

// prepare makes a pod with a Corefile, other files of its folder /etc/coredns,
// and all that kubelet gives to a pod of CoreDNS's Deployment.
func (w *world) prepare(t *testing.T, corefile string, files map[string]string) *godwit {
	t.Helper()
	dir := t.TempDir()
	etc := filepath.Join(dir, "etc")
	write(t, filepath.Join(etc, "resolv.conf"), "nameserver "+upstreamAddress+"\n")
	write(t, filepath.Join(etc, "hosts"), "127.0.0.1 localhost\n")
	write(t, filepath.Join(etc, "coredns", "Corefile"), corefile)
	for name, text := range files {
		write(t, filepath.Join(etc, "coredns", name), text)
	}
	ca := filepath.Join(dir, "etc", "authority.pem")
	write(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.authority.cert.Raw})))
	account := filepath.Join(dir, "account")
	if err := os.Mkdir(account, 0o755); err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=" + os.Getenv("PATH"), "POD=" + dir, "SSL_CERT_FILE=/etc/authority.pem", "SSL_CERT_DIR=/etc/none"}
	if w.plane != nil {
		if _, err := w.plane.InCluster(t.Context(), account, kube.DNSAccount); err != nil {
			t.Fatal(err)
		}
		env = append(env, "KUBERNETES_SERVICE_HOST="+apiAddress, "KUBERNETES_SERVICE_PORT=443")
	}
	cmd := exec.Command("ip", "netns", "exec", w.pod, "sh", "-c", podScript, "sh", program, "-conf", "/etc/coredns/Corefile")
	cmd.Env = env
	return &godwit{
		process:  &process{cmd: cmd},
		dir:      filepath.Join(etc, "coredns"),
		corefile: filepath.Join(etc, "coredns", "Corefile"),
		dns:      podAddress + ":53", ready: podAddress + ":8181", health: podAddress + ":8080", metrics: podAddress + ":9153",
		open: w.dial, get: w.get,
	}
}
