package tls

import (
	"crypto/tls"
	"path/filepath"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
)

// Spec is the tls directive.
var Spec = chain.Spec{
	Name: "tls",
	Usage: `tls CERT KEY [CA] {
    client_auth nocert|request|require|verify_if_given|require_and_verify
    keylog FILE
}`,
	Options: func() corefile.Options { return options(new(string), new(string)) },
	New:     setup,
}

// setup reads all lines; the last one counts.
func setup(s *chain.Setup) error {
	var k *keeper
	for i := range s.Lines {
		var err error
		if k, err = read(s, &s.Lines[i]); err != nil {
			return err
		}
	}
	s.Block.TLS = k.config()
	s.Go(k.run)
	if k.keylog != nil {
		s.Warn(corefile.Warning{Pos: s.Pos(), Text: "keylog writes the secrets of TLS sessions to " + k.keylog.name + ": whoever reads it can read the queries"})
		s.OnStart(k.keylog.open)
		s.OnStop(k.keylog.close)
	}
	return nil
}

func read(s *chain.Setup, l *corefile.Line) (*keeper, error) {
	if len(l.Args) == 0 {
		err := corefile.Errorf(l.Name.Pos, "tls needs the files of a certificate and its key: Godwit does not get certificates by ACME")
		err.Hint = "let cert-manager or another ACME client write the files, which are read again when they change, and write: tls CERT KEY"
		return nil, err
	}
	if err := corefile.ArgCount(l, 2, 3, "CERT KEY [CA]"); err != nil {
		return nil, err
	}
	authentication, log := "nocert", ""
	warnings, err := options(&authentication, &log).Read(l)
	s.Warn(warnings...)
	if err != nil {
		return nil, err
	}
	path := func(name string) string {
		if !filepath.IsAbs(name) && s.Block.Root != "" {
			return filepath.Join(s.Block.Root, name)
		}
		return name
	}
	k := &keeper{env: s.Env, cert: path(l.Args[0].Text), key: path(l.Args[1].Text), authentication: kinds()[authentication]}
	if len(l.Args) == 3 {
		k.ca = path(l.Args[2].Text)
	}
	if log != "" {
		k.keylog = &keylog{name: path(log)}
	}
	if err := k.load(); err != nil {
		return nil, corefile.Errorf(l.Args[0].Pos, "%v", err)
	}
	return k, nil
}

func options(authentication, log *string) corefile.Options {
	return corefile.Options{
		corefile.Enum("client_auth", authentication, "nocert", "request", "require", "verify_if_given", "require_and_verify"),
		corefile.Text("keylog", "FILE", log),
	}
}

func kinds() map[string]tls.ClientAuthType {
	return map[string]tls.ClientAuthType{
		"nocert": tls.NoClientCert, "request": tls.RequestClientCert, "require": tls.RequireAnyClientCert,
		"verify_if_given": tls.VerifyClientCertIfGiven, "require_and_verify": tls.RequireAndVerifyClientCert,
	}
}
