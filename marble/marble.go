// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package marble is the data plane as a library: it turns a process into a Marble.
//
//	config, err := marble.ConfigFromEnv(os.Getenv)  // EDG_MARBLE_TYPE, EDG_MARBLE_COORDINATOR_ADDR, …
//	config.Issuer = issuer                          // who gives evidence; nil asks for admission in simulation
//	params, err := marble.Activate(ctx, config)     // evidence to the Coordinator, secrets back
//	err = params.Apply(marble.ApplyConfig{})        // files and environment as the manifest says
//
// Programs that run behind premain-libos, EGo or Edgeless RT are activated already. They use only the other half:
//
//	config, err := marble.TLSConfig(true)           // mutual TLS among Marbles, from the environment
//	peer, err := marble.PeerOf(conn.ConnectionState())
//
// Invariants:
//   - The TLS key of an activation is made fresh, used for one activation, and never stored. The evidence carries the
//     SHA-256 of its certificate, so that evidence without a nonce cannot be replayed (marble-api §3).
//   - An activation is tried again only while the Coordinator is unavailable, with growing pauses, up to a deadline.
//     A refusal is final: the error says what was refused and what to do about it.
//   - The connection to the Coordinator does not authenticate the Coordinator, as the protocol has it (marble-api
//     §2). A Marble trusts its parameters as far as it trusts whoever started it; others trust the Marble because of
//     its certificate.
//   - No secret appears in an error or a log line. File and variable names do.
//
// It depends on gRPC, protobuf and the standard library.
package marble

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/marblerun/marblerun/api/marblepb"
)

// The variables that a data plane reads (marble-api §9). An empty value counts as unset.
const (
	EnvType            = "EDG_MARBLE_TYPE"
	EnvCoordinatorAddr = "EDG_MARBLE_COORDINATOR_ADDR"
	EnvDNSNames        = "EDG_MARBLE_DNS_NAMES"
	EnvUUIDFile        = "EDG_MARBLE_UUID_FILE"
	EnvWorkingDir      = "EDG_CWD"
	// EnvTimeout is additive: how long an activation may take, as a Go duration.
	EnvTimeout = "EDG_MARBLE_ACTIVATION_TIMEOUT"
)

// Defaults of Config.
const (
	DefaultCoordinatorAddr = "localhost:2001"
	DefaultDNSName         = "localhost"
	DefaultTimeout         = time.Minute
)

// Issuer gets evidence about this process. The issuers of package attest/issue fit.
type Issuer interface {
	// Issue returns evidence whose 64 bytes of report data are reportData.
	Issue(ctx context.Context, reportData [64]byte) ([]byte, error)
}

// Config says who asks for admission, and where.
type Config struct {
	// CoordinatorAddr is the gRPC target of the Coordinator's mesh port, e.g. "localhost:2001".
	CoordinatorAddr string
	// MarbleType is a key of the manifest's Marbles section.
	MarbleType string
	// DNSNames are asked for in the Marble's certificate; entries that parse as IP addresses become IP addresses.
	// 127.0.0.1 and ::1 are always added.
	DNSNames []string
	// UUIDFile keeps this Marble's identity, 36 characters. It is created with a random UUID if it does not exist; its
	// folder is not.
	UUIDFile string
	// Issuer gives evidence. If it is nil or fails, admission is asked for without evidence, which only a Coordinator in
	// simulation mode grants.
	Issuer Issuer
	// Timeout bounds the whole activation, evidence and retries included. 0 is DefaultTimeout.
	Timeout time.Duration
	// Log gets the lines that operators know (marble-api §9); nil is silence.
	Log *slog.Logger

	// Now and Rand are the clock and the randomness; nil are the real ones.
	Now  func() time.Time
	Rand io.Reader
}

// ConfigFromEnv reads the variables above. MarbleType is required.
func ConfigFromEnv(getenv func(string) string) (Config, error) {
	orDefault := func(name, value string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return value
	}
	config := Config{
		MarbleType:      getenv(EnvType),
		CoordinatorAddr: orDefault(EnvCoordinatorAddr, DefaultCoordinatorAddr),
		DNSNames:        strings.Split(orDefault(EnvDNSNames, DefaultDNSName), ","),
		UUIDFile:        getenv(EnvUUIDFile),
	}
	if config.MarbleType == "" {
		return Config{}, &Error{Text: "environment variable not set: " + EnvType,
			Hint: "set it to the name of this Marble in the manifest's Marbles section"}
	}
	timeout, err := time.ParseDuration(orDefault(EnvTimeout, DefaultTimeout.String()))
	if err != nil || timeout <= 0 {
		return Config{}, &Error{Text: "invalid value of " + EnvTimeout, Err: err,
			Hint: "use a positive duration such as 90s or 5m"}
	}
	config.Timeout = timeout
	if config.UUIDFile == "" {
		config.UUIDFile, err = defaultUUIDFile(getenv(EnvWorkingDir))
	}
	return config, err
}

func defaultUUIDFile(dir string) (string, error) {
	if dir == "" {
		var err error
		if dir, err = os.Getwd(); err != nil {
			return "", &Error{Text: "no folder for the UUID file", Hint: "set " + EnvUUIDFile, Err: err}
		}
	}
	return filepath.Join(dir, "uuid"), nil
}

func (c Config) withDefaults() Config {
	if c.CoordinatorAddr == "" {
		c.CoordinatorAddr = DefaultCoordinatorAddr
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	return c
}

// Activate asks the Coordinator for admission and returns what the manifest gives this Marble. Nothing but the UUID
// file is written; see Parameters.Apply. Errors are of type *Error where there is something to do about them, and
// carry the gRPC status.
func Activate(ctx context.Context, config Config) (*Parameters, error) {
	config = config.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, config.Timeout)
	defer cancel()

	config.Log.Info("loading TLS Credentials")
	identity, err := newIdentity(config)
	if err != nil {
		return nil, fmt.Errorf("generating TLS credentials: %w", err)
	}
	config.Log.Info("loading UUID")
	id, err := loadUUID(config.UUIDFile, config.Rand, config.Log)
	if err != nil {
		return nil, err
	}
	config.Log.Info("generating CSR")
	csr, err := identity.csr(config.Rand)
	if err != nil {
		return nil, fmt.Errorf("generating CSR: %w", err)
	}
	config.Log.Info("generating quote")
	request := &marblepb.ActivationReq{
		Quote: evidence(ctx, config, identity.certificate.Certificate[0]), CSR: csr, MarbleType: config.MarbleType, UUID: id,
	}
	config.Log.Info("activating marble of type " + config.MarbleType)
	response, err := call(ctx, config, identity.certificate, request)
	if err != nil {
		return nil, err
	}
	p := response.GetParameters()
	return &Parameters{UUID: id, Files: p.GetFiles(), Env: p.GetEnv(), Argv: p.GetArgv()}, nil
}

// evidence returns evidence over the certificate, none if there is no way to get it: the Coordinator decides what
// that is worth (marble-api §5).
func evidence(ctx context.Context, config Config, certificate []byte) []byte {
	var reportData [64]byte
	digest := sha256.Sum256(certificate)
	copy(reportData[:], digest[:]) // the other 32 bytes stay zero
	err := errNoIssuer
	if config.Issuer != nil {
		var quote []byte
		if quote, err = config.Issuer.Issue(ctx, reportData); err == nil {
			return quote
		}
	}
	config.Log.Warn("failed to get quote: " + err.Error() + ". Proceeding in simulation mode")
	return nil
}
