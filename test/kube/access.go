package kube

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

const (
	// Admin is the user that may do everything.
	Admin = "admin"
	// DNSAccount is the ServiceAccount that kubeadm gives a cluster's DNS
	// server, as NAMESPACE/NAME.
	DNSAccount = "kube-system/coredns"

	dnsRole = "system:coredns"
)

// rule is one of a ClusterRole's.
type rule struct {
	Groups    []string `json:"apiGroups"`
	Resources []string `json:"resources"`
	Verbs     []string `json:"verbs"`
}

// dnsRules are those of kubeadm 1.36, and no more.
func dnsRules() []rule {
	read := []string{"list", "watch"}
	return []rule{
		{Groups: []string{""}, Resources: []string{"endpoints", "services", "pods", "namespaces"}, Verbs: read},
		{Groups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: read},
	}
}

// InstallDNSAccount makes the ServiceAccount DNSAccount, its ClusterRole and
// the binding of the two as kubeadm does, and waits until they are in force.
func (p *Plane) InstallDNSAccount(ctx context.Context) error {
	err := p.Apply(ctx, `
apiVersion: v1
kind: ServiceAccount
metadata: {name: coredns, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "system:coredns"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:coredns"}
subjects: [{kind: ServiceAccount, name: coredns, namespace: kube-system}]
`)
	if err != nil {
		return err
	}
	return p.Forbid(ctx)
}

// Forbid takes list and watch of the named resources ("endpointslices") out of
// the DNS account's role and gives it all others that kubeadm's has; with no
// names the role is kubeadm's again. It returns when the API server acts by it.
func (p *Plane) Forbid(ctx context.Context, resources ...string) error {
	known := make(map[string]string) // resource to its group
	var rules []rule
	for _, r := range dnsRules() {
		for _, name := range r.Resources {
			known[name] = r.Groups[0]
		}
		r.Resources = slices.DeleteFunc(r.Resources, func(name string) bool { return slices.Contains(resources, name) })
		if len(r.Resources) > 0 {
			rules = append(rules, r)
		}
	}
	for _, name := range resources {
		if _, ok := known[name]; !ok {
			return fmt.Errorf("the role %s has no resource %q", dnsRole, name)
		}
	}
	role, err := json.Marshal(map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1",
		"kind":       "ClusterRole",
		"metadata":   map[string]any{"name": dnsRole},
		"rules":      rules,
	})
	if err != nil {
		return err
	}
	if err := p.Apply(ctx, string(role)); err != nil {
		return err
	}
	for name, group := range known {
		if err := p.waitAccess(ctx, group, name, !slices.Contains(resources, name)); err != nil {
			return err
		}
	}
	return nil
}

// waitAccess asks the authorizer until it lets the DNS account watch the
// resource, or no longer does: it learns of roles through watches of its own.
func (p *Plane) waitAccess(ctx context.Context, group, name string, want bool) error {
	namespace, account, _ := strings.Cut(DNSAccount, "/")
	body, err := json.Marshal(map[string]any{
		"apiVersion": "authorization.k8s.io/v1",
		"kind":       "SubjectAccessReview",
		"spec": map[string]any{
			"user":               "system:serviceaccount:" + namespace + ":" + account,
			"resourceAttributes": map[string]any{"group": group, "resource": name, "verb": "watch"},
		},
	})
	if err != nil {
		return err
	}
	for {
		answer, err := p.Do(ctx, http.MethodPost, "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
		if err != nil {
			return err
		}
		var review struct {
			Status struct {
				Allowed bool `json:"allowed"`
			} `json:"status"`
		}
		if err := json.Unmarshal(answer, &review); err != nil {
			return err
		}
		if review.Status.Allowed == want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("watching %s should be allowed = %v: %w", name, want, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Token returns a token of an account (NAMESPACE/NAME) that is valid for a
// day, made through the TokenRequest API.
func (p *Plane) Token(ctx context.Context, account string) (string, error) {
	namespace, name, ok := strings.Cut(account, "/")
	if !ok {
		return "", fmt.Errorf("account %q: want NAMESPACE/NAME", account)
	}
	answer, err := p.Do(ctx, http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+name+"/token",
		[]byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":86400}}`))
	if err != nil {
		return "", err
	}
	var request struct {
		Status struct {
			Token string `json:"token"`
		} `json:"status"`
	}
	if err := json.Unmarshal(answer, &request); err != nil {
		return "", fmt.Errorf("answer to a TokenRequest: %w", err)
	}
	return request.Status.Token, nil
}

// Kubeconfig writes a kubeconfig file and returns its path. user is Admin or
// an account as NAMESPACE/NAME, which must exist; it gets a new Token.
func (p *Plane) Kubeconfig(ctx context.Context, user string) (string, error) {
	credentials := map[string]any{"client-certificate": p.files.adminCert, "client-key": p.files.adminKey}
	if user != Admin {
		token, err := p.Token(ctx, user)
		if err != nil {
			return "", err
		}
		credentials = map[string]any{"token": token}
	}
	text, err := yaml.Marshal(map[string]any{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": "test",
		"clusters": []any{map[string]any{"name": "test", "cluster": map[string]any{
			"server": p.URL(), "certificate-authority": p.files.ca,
		}}},
		"users":    []any{map[string]any{"name": user, "user": credentials}},
		"contexts": []any{map[string]any{"name": "test", "context": map[string]any{"cluster": "test", "user": user}}},
	})
	if err != nil {
		return "", err
	}
	path := filepath.Join(p.dir, strings.ReplaceAll(user, "/", "-")+".kubeconfig")
	return path, os.WriteFile(path, text, 0o600)
}

// ClientCertificate writes a certificate by which the API server knows its
// holder as the account (NAMESPACE/NAME), with all of its rights, and its key.
// It returns their paths; both are PEM.
func (p *Plane) ClientCertificate(account string) (certFile, keyFile string, err error) {
	namespace, name, ok := strings.Cut(account, "/")
	if !ok {
		return "", "", fmt.Errorf("account %q: want NAMESPACE/NAME", account)
	}
	base := filepath.Join(p.dir, namespace+"-"+name)
	certFile, keyFile = base+".crt", base+".key"
	return certFile, keyFile, p.ca.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "system:serviceaccount:" + namespace + ":" + name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, certFile, keyFile)
}

// InCluster writes into dir the files token, ca.crt and namespace that a pod
// of the account (NAMESPACE/NAME) finds in
// /var/run/secrets/kubernetes.io/serviceaccount, and returns the variables of
// its environment, NAME=VALUE. Whoever needs the files at that very path
// mounts dir there in a mount namespace.
func (p *Plane) InCluster(ctx context.Context, dir, account string) ([]string, error) {
	token, err := p.Token(ctx, account)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(p.files.ca)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	namespace, _, _ := strings.Cut(account, "/")
	for name, text := range map[string][]byte{"token": []byte(token), "ca.crt": ca, "namespace": []byte(namespace)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return nil, err
		}
	}
	return []string{
		"KUBERNETES_SERVICE_HOST=" + p.opts.Address.String(),
		"KUBERNETES_SERVICE_PORT=" + strconv.Itoa(int(p.apiPort)),
	}, nil
}
