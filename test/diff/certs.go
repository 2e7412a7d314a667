package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// keyPair is a certificate for up.test and 127.0.0.1, signed by itself.
type keyPair struct {
	cert, key []byte // PEM
	pair      tls.Certificate
}

// certificate makes the run's one certificate when it is first wanted.
var certificate = sync.OnceValues(func() (keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "up.test"}, DNSNames: []string{"up.test"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return keyPair{}, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return keyPair{}, err
	}
	k := keyPair{cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})}
	k.pair, err = tls.X509KeyPair(k.cert, k.key)
	return k, err
})

// writeCertificates puts cert.pem, key.pem and ca.pem into a server's folder.
func writeCertificates(dir string) error {
	k, err := certificate()
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "cert.pem"), k.cert, 0o644), os.WriteFile(filepath.Join(dir, "key.pem"), k.key, 0o600),
		os.WriteFile(filepath.Join(dir, "ca.pem"), k.cert, 0o644))
}
