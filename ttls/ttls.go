// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package ttls is the transparent-TLS policy: the JSON document in the environment variable MARBLE_TTLS_CONFIG, by
// which the Coordinator tells a Marble's runtime which of its connections to wrap in TLS, and with which certificates
// (contract marble-api §7).
//
//	{"tls":{
//	  "Incoming":{"*:8080":{"cacrt":"…","clicrt":"…","clientAuth":true,"clikey":"…"}},
//	  "Outgoing":{"service:4242":{"cacrt":"…","clicrt":"…","clikey":"…"}}}}
//
// Certificates and keys are PEM. The document holds private keys: it must not be logged; Config.Listen and Config.Dial
// name the connections without them.
//
// # Invariants
//
//   - Marshal is compact JSON with sorted keys and escaped HTML characters; both maps are always present.
//   - What Marshal writes, Parse reads back, if every entry is complete.
//   - The package is pure: no I/O, no state, the standard library only.
package ttls

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// MaxBytes is the largest document that Parse reads: a Marble's parameters travel in one message of 4 MiB.
const MaxBytes = 4 << 20

// Config is the document.
type Config struct {
	TLS Policy `json:"tls"`
}

// Policy says which connections are wrapped.
type Policy struct {
	// Incoming is keyed by "*:PORT", the port that the application listens on.
	Incoming map[string]Incoming `json:"Incoming"`
	// Outgoing is keyed by "ADDRESS:PORT", as the application dials it.
	Outgoing map[string]Outgoing `json:"Outgoing"`
}

// Incoming is what a listener presents and demands. The fields are in the order of their JSON names.
type Incoming struct {
	CACert string `json:"cacrt"`  // PEM: clients are verified against it
	Cert   string `json:"clicrt"` // PEM: a single certificate, no intermediate
	// ClientAuth demands a client certificate under CACert.
	ClientAuth bool   `json:"clientAuth"`
	Key        string `json:"clikey"` // PEM of PKCS #8
}

// Outgoing is what a dialer presents and demands.
type Outgoing struct {
	CACert string `json:"cacrt"`  // PEM: the server is verified against it
	Cert   string `json:"clicrt"` // PEM: a single certificate, no intermediate
	Key    string `json:"clikey"` // PEM of PKCS #8
}

// Empty tells whether the policy wraps nothing.
func (c Config) Empty() bool { return len(c.TLS.Incoming) == 0 && len(c.TLS.Outgoing) == 0 }

// Listen returns the keys of Incoming, sorted.
func (c Config) Listen() []string { return slices.Sorted(maps.Keys(c.TLS.Incoming)) }

// Dial returns the keys of Outgoing, sorted.
func (c Config) Dial() []string { return slices.Sorted(maps.Keys(c.TLS.Outgoing)) }

// Marshal returns the document.
func (c Config) Marshal() ([]byte, error) {
	if c.TLS.Incoming == nil {
		c.TLS.Incoming = map[string]Incoming{}
	}
	if c.TLS.Outgoing == nil {
		c.TLS.Outgoing = map[string]Outgoing{}
	}
	return json.Marshal(c)
}

// Parse reads a document of at most MaxBytes. Unknown fields are ignored; every entry must name an address and a port
// and hold a CA certificate, a certificate and a key as PEM. The error lists all problems, without the values.
func Parse(data []byte) (*Config, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("parsing the TLS policy: it has %d bytes, at most %d are allowed", len(data), MaxBytes)
	}
	var c *Config
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&c); err != nil {
		return nil, fmt.Errorf("parsing the TLS policy: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("parsing the TLS policy: there is more after the document")
	}
	if c == nil {
		return nil, errors.New("parsing the TLS policy: it is null")
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("parsing the TLS policy: %w", err)
	}
	return c, nil
}

func (c *Config) check() error {
	var problems []error
	for _, address := range c.Listen() {
		e := c.TLS.Incoming[address]
		problems = append(problems, checkEntry("Incoming", address, e.CACert, e.Cert, e.Key)...)
	}
	for _, address := range c.Dial() {
		e := c.TLS.Outgoing[address]
		problems = append(problems, checkEntry("Outgoing", address, e.CACert, e.Cert, e.Key)...)
	}
	return errors.Join(problems...)
}

func checkEntry(list, address, ca, cert, key string) (problems []error) {
	report := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s %q: "+format, append([]any{list, address}, args...)...))
	}
	if i := strings.LastIndexByte(address, ':'); i <= 0 || i == len(address)-1 {
		report("it is not of the form ADDRESS:PORT")
	}
	for _, c := range []struct{ name, text string }{{"cacrt", ca}, {"clicrt", cert}} {
		if block, _ := pem.Decode([]byte(c.text)); block == nil || block.Type != "CERTIFICATE" {
			report("%s is not a PEM certificate", c.name)
		}
	}
	if block, _ := pem.Decode([]byte(key)); block == nil || !strings.HasSuffix(block.Type, "PRIVATE KEY") {
		report("clikey is not a PEM private key")
	}
	return problems
}
