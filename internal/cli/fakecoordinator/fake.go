// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package fakecoordinator is a small Coordinator for the tests of the client and the CLI: the client API of both
// versions, its envelopes, status codes and messages per contract/client-api.md, over HTTPS on loopback, with state in
// memory.
//
// What it leaves out: it does not check manifests or roles (every user may do everything), it does not encrypt recovery
// secrets (it returns "secret of <name>") and its quotes are JSON, which Verifier reads, unless Evidence is set.
// Invariant: replies have the shape, code and message of the contract, so that a client that works here works with a
// real Coordinator.
package fakecoordinator

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"time"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/attest"
)

// Coordinator is a running fake. Fields may be set before the first request.
type Coordinator struct {
	// OnlyV1 answers 405 to version 2, as old Coordinators do.
	OnlyV1 bool
	// Simulation sends no quote.
	Simulation bool
	// Claims go into the quote.
	Claims attest.Claims
	// Evidence, if set, makes the quote in place of Claims: real evidence with that report data.
	Evidence func(reportData [64]byte) ([]byte, error)
	// QuoteRoot, if set, is served by /quote in place of the root (an impostor's doing).
	QuoteRoot *x509.Certificate
	// Tamper, if set, may change the data of any reply.
	Tamper func(path string, data any) any
	// Notes are those of the status.
	Notes []string

	Root, Intermediate *x509.Certificate
	rootKey            *ecdsa.PrivateKey
	ephemeral          *rsa.PrivateKey
	server             *httptest.Server

	mu       sync.Mutex
	code     int
	manifest []byte
	log      []string
	secrets  map[string]wire.Secret
	pending  []byte
	acks     map[string]bool
	shares   int
	got      map[string]bool
	counters map[string]uint64
	bans     []wire.Ban
	requests []string
}

// Fixed identity of the fake enclave.
const (
	UniqueID        = "1111111111111111111111111111111111111111111111111111111111111111"
	SignerID        = "2222222222222222222222222222222222222222222222222222222222222222"
	ProductID       = 3
	SecurityVersion = 2
)

// Policy is the era file that fits.
const Policy = `{"SecurityVersion":2,"SignerID":"` + SignerID + `","ProductID":3}`

// New returns a fake in state 2. Start it, then Close it.
func New() (*Coordinator, error) {
	c := &Coordinator{
		code:    2,
		secrets: map[string]wire.Secret{}, counters: map[string]uint64{},
		Claims: attest.Claims{
			TEE: attest.SGX, TCBStatus: attest.UpToDate, PlatformStatus: attest.UpToDate,
			SGX: &attest.SGXClaims{
				MRENCLAVE: UniqueID, MRSIGNER: SignerID, ISVPRODID: ProductID, ISVSVN: SecurityVersion,
			},
		},
	}
	if err := c.makeCA(); err != nil {
		return nil, err
	}
	c.server = httptest.NewUnstartedServer(http.HandlerFunc(c.serve))
	c.server.TLS = &tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert,
		Certificates: []tls.Certificate{{Certificate: [][]byte{c.Root.Raw}, PrivateKey: c.rootKey}},
	}
	c.server.EnableHTTP2 = true
	return c, nil
}

// Start listens on a random loopback port.
func (c *Coordinator) Start() { c.server.StartTLS() }

// Close stops the fake.
func (c *Coordinator) Close() { c.server.Close() }

// Endpoint is host:port.
func (c *Coordinator) Endpoint() string { return c.server.Listener.Addr().String() }

// SetRecovery puts the fake into state 1, waiting for n shares, with a key to which they may be encrypted.
func (c *Coordinator) SetRecovery(n int) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	c.code, c.shares, c.ephemeral, c.got = 1, n, key, map[string]bool{}
	return err
}

// SetManifest puts the fake into state 3, as if the manifest had been set by somebody.
func (c *Coordinator) SetManifest(manifest []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setManifest(manifest)
}

func (c *Coordinator) setManifest(manifest []byte) {
	c.code, c.manifest = 3, manifest
	c.log = append(c.log, `{"time":"2026-01-02T03:04:05.000Z","update":"Initial manifest set"}`)
}

// AddLog appends a line to the update log.
func (c *Coordinator) AddLog(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, line)
}

// SetSecret stores a value.
func (c *Coordinator) SetSecret(name string, value wire.Secret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secrets[name] = value
}

// Requests are "METHOD path" of all that came.
func (c *Coordinator) Requests() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

func (c *Coordinator) makeCA() error {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return err
	}
	intermediateKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return err
	}
	c.rootKey = key
	root := caTemplate("MarbleRun Coordinator")
	if c.Root, err = sign(root, root, &key.PublicKey, key); err != nil {
		return err
	}
	intermediate := caTemplate("MarbleRun Coordinator - Intermediate CA")
	c.Intermediate, err = sign(intermediate, c.Root, &intermediateKey.PublicKey, key)
	return err
}

// caTemplate has no names at all, so that tests notice if a client relies on them.
func caTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(200, 0, 0),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
}

func sign(template, parent *x509.Certificate, public any, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func certPEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// quote is what Verifier reads.
type quote struct {
	ReportData string
	Claims     attest.Claims
}

func (c *Coordinator) makeQuote(nonce []byte) []byte {
	if c.Simulation {
		return nil
	}
	h := sha256.New()
	h.Write(c.Root.Raw)
	h.Write(nonce)
	if c.Evidence != nil {
		var reportData [64]byte
		h.Sum(reportData[:0])
		evidence, err := c.Evidence(reportData)
		if err != nil {
			panic(err) // the request is a test's
		}
		return evidence
	}
	data, err := json.Marshal(quote{ReportData: hex.EncodeToString(h.Sum(nil)), Claims: c.Claims})
	if err != nil {
		panic(err) // the claims are a test's
	}
	return data
}

// Verifier reads the quotes of the fake. It stands in for the verification of signatures and collateral.
type Verifier struct{}

// Verify returns the claims in the evidence.
func (Verifier) Verify(_ context.Context, evidence []byte) (*attest.Claims, error) {
	var q quote
	if err := json.Unmarshal(evidence, &q); err != nil {
		return nil, errors.New("not genuine")
	}
	data, err := hex.DecodeString(q.ReportData)
	copy(q.Claims.ReportData[:], data)
	return &q.Claims, err
}
