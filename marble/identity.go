// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package marble

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math"
	"math/big"
	"net"
)

// identity is the key that one activation is made with.
type identity struct {
	key         *ecdsa.PrivateKey
	certificate tls.Certificate
	names       []string
	addresses   []net.IP
}

// newIdentity makes a P-384 key and the self-signed certificate of marble-api §9.2.
func newIdentity(config Config) (*identity, error) {
	id := &identity{}
	for _, name := range config.DNSNames {
		if ip := net.ParseIP(name); ip != nil {
			id.addresses = append(id.addresses, ip)
		} else if name != "" {
			id.names = append(id.names, name)
		}
	}
	id.addresses = append(id.addresses, net.IPv4(127, 0, 0, 1), net.IPv6loopback)

	var err error
	if id.key, err = ecdsa.GenerateKey(elliptic.P384(), config.Rand); err != nil {
		return nil, err
	}
	der, err := id.selfSign(config)
	if err != nil {
		return nil, &Error{Text: "self-signing a certificate", Hint: "check " + EnvDNSNames, Err: err}
	}
	id.certificate = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: id.key}
	return id, nil
}

func (id *identity) selfSign(config Config) ([]byte, error) {
	serial, err := rand.Int(config.Rand, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, err
	}
	now := config.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "MarbleRun Marble"},
		NotBefore:             now,
		NotAfter:              now.Add(math.MaxInt64), // 292 years; it lives for one connection
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		DNSNames:              id.names,
		IPAddresses:           id.addresses,
	}
	return x509.CreateCertificate(config.Rand, template, template, id.key.Public(), id.key)
}

// csr asks for the names. Its key is the activation's; the Coordinator makes another one for the Marble.
func (id *identity) csr(rand io.Reader) ([]byte, error) {
	template := &x509.CertificateRequest{DNSNames: id.names, IPAddresses: id.addresses}
	return x509.CreateCertificateRequest(rand, template, id.key)
}
