// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package coordtest is the Coordinator's side of the Marble API for tests of the data plane: a real gRPC server over
// TLS with the checks, codes and texts of marble-api §4 and credentials of the profiles of §6. It keeps no state
// beside its counters.
//
// Like the real one it identifies itself with the Marble Root, wants any client certificate, and takes evidence at
// its word if it begins with the client certificate's hash.
package coordtest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/marblerun/marblerun/api/marblepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Marble is what the server has for one Marble type.
type Marble struct {
	Parameters     *marblepb.Parameters
	MaxActivations int // 0 is unlimited
}

// Server is a running Coordinator. Its exported fields may be changed by Set only.
type Server struct {
	marblepb.UnimplementedMarbleServer
	// Addr is its mesh address.
	Addr string
	// Marbles by type.
	Marbles map[string]Marble
	// Simulation skips the check of evidence.
	Simulation bool
	// Before, if not nil, runs before each activation; its error is the answer.
	Before func(attempt int) error

	mu       sync.Mutex
	attempts int
	counts   map[string]int
	requests []*marblepb.ActivationReq
	peers    []*x509.Certificate

	root, marbleRoot, intermediate *x509.Certificate
	rootKey, key                   *ecdsa.PrivateKey
}

// New starts a server on a loopback port until the test ends.
func New(t testing.TB, marbles map[string]Marble) *Server {
	t.Helper()
	s := &Server{Marbles: marbles, Simulation: true, counts: map[string]int{}}
	if err := s.makeCA(); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Addr = listener.Addr().String()
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{s.marbleRoot.Raw}, PrivateKey: s.key}},
		ClientAuth:   tls.RequireAnyClientCert,
	})))
	marblepb.RegisterMarbleServer(server, s)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// Set changes the fields between requests.
func (s *Server) Set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// Requests are the activations asked for so far, and the client certificates they came with.
func (s *Server) Requests() ([]*marblepb.ActivationReq, []*x509.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests, s.peers
}

// Root is the Coordinator's root certificate.
func (s *Server) Root() *x509.Certificate { return s.root }

// Activate admits a Marble.
func (s *Server) Activate(ctx context.Context, request *marblepb.ActivationReq) (*marblepb.ActivationResp, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts++
	if s.Before != nil {
		if err := s.Before(s.attempts); err != nil {
			return nil, err
		}
	}
	from, _ := peer.FromContext(ctx)
	client := from.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0]
	s.requests, s.peers = append(s.requests, request), append(s.peers, client)

	const failed = "marble verification failed: "
	marble, ok := s.Marbles[request.GetMarbleType()]
	if !ok {
		return nil, status.Error(codes.PermissionDenied, failed+"unknown marble type requested")
	}
	digest := sha256.Sum256(client.Raw)
	if !s.Simulation && !bytes.HasPrefix(request.GetQuote(), digest[:]) {
		return nil, status.Error(codes.PermissionDenied, failed+"invalid quote: empty report")
	}
	if marble.MaxActivations > 0 && s.counts[request.GetMarbleType()] >= marble.MaxActivations {
		return nil, status.Errorf(codes.PermissionDenied, failed+"reached max activations count (%d) for marble type %q",
			marble.MaxActivations, request.GetMarbleType())
	}
	id, err := uuid.Parse(request.GetUUID())
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "invalid UUID: %v", err)
	}
	parameters, err := s.parameters(marble.Parameters, request, id)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "generating marble authentication secrets: %v", err)
	}
	s.counts[request.GetMarbleType()]++
	return &marblepb.ActivationResp{Parameters: parameters}, nil
}

func (s *Server) parameters(given *marblepb.Parameters, request *marblepb.ActivationReq, id uuid.UUID,
) (*marblepb.Parameters, error) {
	csr, err := x509.ParseCertificateRequest(request.GetCSR())
	if err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, err
	}
	leaf, key, err := s.Issue(request.GetMarbleType(), id.String(), csr)
	if err != nil {
		return nil, err
	}
	env := map[string][]byte{}
	for name, value := range given.GetEnv() {
		env[name] = value
	}
	env["MARBLE_PREDEFINED_ROOT_CA"] = Certificate(s.marbleRoot.Raw)
	env["MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"] = Certificate(s.root.Raw)
	env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"] = append(Certificate(leaf), Certificate(s.intermediate.Raw)...)
	env["MARBLE_PREDEFINED_PRIVATE_KEY"] = key
	return &marblepb.Parameters{Files: given.GetFiles(), Env: env, Argv: given.GetArgv()}, nil
}

// Certificate is a certificate in PEM.
func Certificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// Issue makes a Marble's certificate, DER, and its key, PEM. An empty type leaves the extension out.
func (s *Server) Issue(marbleType, id string, csr *x509.CertificateRequest) (der, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := profile(id)
	template.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement
	template.DNSNames, template.IPAddresses = csr.DNSNames, csr.IPAddresses
	if marbleType != "" {
		oid := asn1.ObjectIdentifier{1, 3, 9903, 2, 1}
		template.ExtraExtensions = []pkix.Extension{{Id: oid, Value: []byte(marbleType)}}
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, s.intermediate, private.Public(), s.key); err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	return der, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), err
}

func profile(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

func (s *Server) makeCA() (err error) {
	if s.rootKey, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
		return err
	}
	if s.key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
		return err
	}
	authority := func(name string, parent *x509.Certificate, public, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
		template := profile(name)
		template.IsCA, template.KeyUsage = true, x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
		if parent == nil {
			parent = template
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public.Public(), signer)
		if err != nil {
			return nil, err
		}
		return x509.ParseCertificate(der)
	}
	const intermediate = "MarbleRun Coordinator - Intermediate CA"
	if s.root, err = authority("MarbleRun Coordinator", nil, s.rootKey, s.rootKey); err != nil {
		return err
	}
	if s.intermediate, err = authority(intermediate, s.root, s.key, s.rootKey); err != nil {
		return err
	}
	s.marbleRoot, err = authority(intermediate, nil, s.key, s.key)
	return err
}
