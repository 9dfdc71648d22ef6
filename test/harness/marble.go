// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/marblerun/marblerun/api/marblepb"
)

// Identity is a self-signed TLS certificate and a CSR with the same key, as a Marble makes them.
type Identity struct {
	TLS tls.Certificate
	CSR []byte
}

// NewIdentity makes an identity with the given DNS names.
func NewIdentity(t testing.TB, names ...string) Identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "MarbleRun Marble"}, DNSNames: names,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{DNSNames: names, IPAddresses: template.IPAddresses}, key)
	if err != nil {
		t.Fatal(err)
	}
	return Identity{TLS: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, CSR: csr}
}

// Activate sends one activation over a new connection.
func (c *Coordinator) Activate(ctx context.Context, id Identity, marbleType, uuid string) (*marblepb.Parameters, error) {
	return c.ActivateWith(ctx, id, &marblepb.ActivationReq{CSR: id.CSR, MarbleType: marbleType, UUID: uuid})
}

// ActivateWith sends the given request over a new connection.
func (c *Coordinator) ActivateWith(ctx context.Context, id Identity, req *marblepb.ActivationReq,
) (*marblepb.Parameters, error) {
	creds := credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{id.TLS}})
	conn, err := grpc.NewClient("passthrough:///"+c.MeshAddr, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	resp, err := marblepb.NewMarbleClient(conn).Activate(ctx, req)
	return resp.GetParameters(), err
}

// UserCertificate makes a self-signed client certificate and returns it also as PEM.
func UserCertificate(t testing.TB, name string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
