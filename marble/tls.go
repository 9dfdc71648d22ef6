// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package marble

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
)

// The variables in which the Coordinator delivers a Marble's credentials, all PEM (marble-api §7, §11).
const (
	// MarbleEnvironmentCertificateChain names the Marble's certificate and the intermediate that also signs it.
	MarbleEnvironmentCertificateChain = "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"
	// MarbleEnvironmentRootCA names the Marble Root, the anchor among Marbles.
	MarbleEnvironmentRootCA = "MARBLE_PREDEFINED_ROOT_CA"
	// MarbleEnvironmentPrivateKey names the key of the Marble's certificate, PKCS #8.
	MarbleEnvironmentPrivateKey = "MARBLE_PREDEFINED_PRIVATE_KEY"
	// MarbleEnvironmentCoordinatorRootCA names the Coordinator's root, the anchor for clients.
	MarbleEnvironmentCoordinatorRootCA = "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"
)

// marbleTypeOID marks a Marble's certificate; the extension's value is the raw bytes of the type (marble-api §6).
var marbleTypeOID = asn1.ObjectIdentifier{1, 3, 9903, 2, 1}

// TLSConfig returns a configuration made of the credentials in the environment, for clients and servers: it offers
// this Marble's certificate and trusts servers that have one of the same mesh. With verifyClientCerts a server also
// requires such a certificate of its clients.
//
// Every Marble of the mesh is trusted equally, whatever its type: see PeerOf and OnlyTypes.
func TLSConfig(verifyClientCerts bool) (*tls.Config, error) {
	return TLSConfigFrom(os.Getenv, verifyClientCerts)
}

// GetTLSConfig is TLSConfig under the name that programs written for EGo's package marble use.
func GetTLSConfig(verifyClientCerts bool) (*tls.Config, error) { return TLSConfig(verifyClientCerts) }

// TLSConfigFrom is TLSConfig with an environment of the caller's choice.
func TLSConfigFrom(getenv func(string) string, verifyClientCerts bool) (*tls.Config, error) {
	var pem [3]string
	for i, name := range []string{
		MarbleEnvironmentCertificateChain, MarbleEnvironmentRootCA, MarbleEnvironmentPrivateKey,
	} {
		if pem[i] = getenv(name); pem[i] == "" {
			return nil, &Error{Text: "environment variable not set: " + name,
				Hint: "the program must be started as a Marble, e.g. by premain-libos"}
		}
	}
	certificate, err := tls.X509KeyPair([]byte(pem[0]), []byte(pem[2]))
	if err != nil {
		return nil, fmt.Errorf("reading %s and its key: %w", MarbleEnvironmentCertificateChain, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(pem[1])) {
		return nil, fmt.Errorf("reading %s: no certificate found", MarbleEnvironmentRootCA)
	}
	config := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	if verifyClientCerts {
		config.ClientCAs, config.ClientAuth = roots, tls.RequireAndVerifyClientCert
	}
	return config, nil
}

// Listen opens a port for Marbles of the same mesh: mutual TLS, peers restricted to the given types if there are any.
func Listen(network, addr string, types ...string) (net.Listener, error) {
	config, err := TLSConfig(true)
	if err != nil {
		return nil, err
	}
	config.VerifyConnection = OnlyTypes(types...)
	return tls.Listen(network, addr, config)
}

// Dial connects to a Marble of the same mesh by mutual TLS and checks its name, and its type if types are given.
func Dial(ctx context.Context, network, addr string, types ...string) (*tls.Conn, error) {
	config, err := TLSConfig(false)
	if err != nil {
		return nil, err
	}
	config.VerifyConnection = OnlyTypes(types...)
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil
}

// Peer is who a Marble is.
type Peer struct {
	// Type is the key of the manifest's Marbles section.
	Type string
	// UUID is in canonical form.
	UUID string
}

// PeerOf says which Marble is at the other end of a connection made with a configuration of this package. A peer with a
// certificate that is not a Marble's, such as a certificate secret of the manifest, is an error.
func PeerOf(state tls.ConnectionState) (Peer, error) {
	if len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return Peer{}, errors.New("the peer showed no verified certificate")
	}
	leaf := state.PeerCertificates[0]
	for _, extension := range leaf.Extensions {
		if extension.Id.Equal(marbleTypeOID) {
			return Peer{Type: string(extension.Value), UUID: leaf.Subject.CommonName}, nil
		}
	}
	return Peer{}, errors.New("the peer's certificate is not a Marble's")
}

// OnlyTypes returns a tls.Config.VerifyConnection that accepts Marbles of the given types, and everybody if none is
// given.
func OnlyTypes(types ...string) func(tls.ConnectionState) error {
	if len(types) == 0 {
		return nil
	}
	return func(state tls.ConnectionState) error {
		peer, err := PeerOf(state)
		if err != nil {
			return err
		}
		if !slices.Contains(types, peer.Type) {
			return fmt.Errorf("the peer is a Marble of type %q; only %s may", peer.Type, strings.Join(types, ", "))
		}
		return nil
	}
}
