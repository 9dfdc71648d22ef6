// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"fmt"

	"github.com/marblerun/marblerun/ttls"
)

// ttls makes the transparent-TLS policy of the Marble's tags (marble-api §7). It is data, not a template (quirk Q14).
func (x *expansion) ttls(rootPEM, leafPEM, keyPEM string) (ttls.Config, error) {
	var c ttls.Config
	for _, tag := range x.in.Manifest.Marbles[x.in.MarbleType].TLS {
		for _, in := range x.in.Manifest.TLS[tag].Incoming {
			e := ttls.Incoming{CACert: rootPEM, Cert: leafPEM, Key: keyPEM, ClientAuth: true}
			if in.Cert != "" {
				var err error
				if e.Cert, e.Key, err = x.ownCertificate(in.Cert); err != nil {
					return c, fmt.Errorf("TLS tag %q, port %q: %w", tag, in.Port, err)
				}
				e.ClientAuth = !in.DisableClientAuth
			}
			if c.TLS.Incoming == nil {
				c.TLS.Incoming = map[string]ttls.Incoming{}
			}
			c.TLS.Incoming["*:"+in.Port] = e
		}
		for _, out := range x.in.Manifest.TLS[tag].Outgoing {
			if c.TLS.Outgoing == nil {
				c.TLS.Outgoing = map[string]ttls.Outgoing{}
			}
			c.TLS.Outgoing[out.Addr+":"+out.Port] = ttls.Outgoing{CACert: rootPEM, Cert: leafPEM, Key: keyPEM}
		}
	}
	return c, nil
}

// ownCertificate returns a secret's certificate and key as PEM.
func (x *expansion) ownCertificate(name string) (cert, key string, err error) {
	v, ok := x.current[name]
	switch {
	case !ok:
		return "", "", fmt.Errorf("the manifest does not define the secret %q", name)
	case !v.certificate():
		return "", "", fmt.Errorf("the secret %q is a %s, not a certificate", name, v.Type)
	case !v.uploaded():
		return "", "", fmt.Errorf("the user-defined secret %q is not uploaded yet", name)
	case len(v.Private) == 0:
		return "", "", fmt.Errorf("the user-defined secret %q was uploaded without its private key", name)
	}
	return string(pemBlock("CERTIFICATE", v.Cert)), string(pemBlock("PRIVATE KEY", v.Private)), nil
}
