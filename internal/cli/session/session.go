// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package session is what the commands of the CLI share: the flags that every command accepts, and the ways to a client
// of a Coordinator.
//
// Invariant: there are three anchors of trust and no fourth. Verified trusts the quote that it verifies, Trusted the
// cache of earlier verifications, and with --insecure both trust whoever answers. In each case the connection is pinned
// to the root certificate, and what --insecure saw never enters the cache of what was verified.
package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/internal/cli/trust"
)

// Session is one run of the program.
type Session struct {
	console.Console
	// ConfigDir returns the user's configuration directory.
	ConfigDir func() (string, error)
	// CacheDir returns the user's cache directory; nil: there is none.
	CacheDir func() (string, error)
	// QCNLPath is the machine's sgx_default_qcnl.conf; it need not exist. Empty: none.
	QCNLPath string
	// Verifier, if set, verifies quotes in place of the real one (tests).
	Verifier api.Verifier
	// EmbeddedPolicy is the release's; empty: none.
	EmbeddedPolicy []byte
	// FlagSet tells whether the user gave a flag. It is set once the flags are parsed.
	FlagSet func(name string) bool

	// Insecure, Namespace and the fields below hold the flags.
	Insecure  bool
	Namespace string

	coordinatorCert    string
	eraConfig          string
	acceptedStatuses   []string
	acceptedAdvisories []string
	nonce              string
	saveQuoteTo        string
	collateral         collateralFlags
}

// AddFlags adds the flags that every command accepts, even those that have no use for them.
func (s *Session) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&s.coordinatorCert, "coordinator-cert", "", "file with the certificates of the verified Coordinator "+
		"(default: by endpoint, below <user config dir>/marblerun)")
	f.StringVar(&s.eraConfig, "era-config", "", "policy that the Coordinator's quote must fulfill, a JSON file "+
		"(default: ./era-config.json, ./coordinator-era.json, or that of the release)")
	f.BoolVarP(&s.Insecure, "insecure", "i", false,
		"skip the verification of the quote: believe whoever answers (for tests)")
	f.StringSliceVar(&s.acceptedStatuses, "accepted-tcb-statuses", []string{"UpToDate", "SWHardeningNeeded"},
		"TCB statuses to accept, in place of the policy's")
	f.StringSliceVar(&s.acceptedAdvisories, "accepted-advisories", nil,
		"advisories to accept with SWHardeningNeeded, in place of the policy's (default: all)")
	f.StringVarP(&s.Namespace, "namespace", "n", "marblerun", "Kubernetes namespace of the MarbleRun installation")
	f.StringVar(&s.nonce, "nonce", "", "text that a fresh quote must contain (taken literally)")
	f.StringVar(&s.saveQuoteTo, "save-sgx-quote", "", "file to save the Coordinator's quote to")
	s.collateral.add(f)
}

func (s *Session) cache() trust.Cache {
	return trust.Cache{File: s.coordinatorCert, ConfigDir: s.ConfigDir, Insecure: s.Insecure}
}

// Verified verifies the Coordinator's quote and returns a client pinned to the root that it speaks for. It saves the
// quote if asked to. With --insecure the quote is not looked at. A user is who the client acts for, nil for nobody.
func (s *Session) Verified(
	ctx context.Context, endpoint string, user *tls.Certificate,
) (*api.Client, trust.Chain, error) {
	options, err := s.VerifyOptions()
	if err != nil {
		return nil, trust.Chain{}, err
	}
	return s.Connect(ctx, endpoint, options, user)
}

// Connect is Verified with options that were made before.
func (s *Session) Connect(
	ctx context.Context, endpoint string, options api.VerifyOptions, user *tls.Certificate,
) (*api.Client, trust.Chain, error) {
	client, coordinator, err := api.Connect(ctx, endpoint, options, api.Options{ClientCertificate: user})
	if errors.Is(err, api.ErrNoQuote) {
		err = api.WithHint(err, "It may run in simulation, which only --insecure accepts.")
	}
	if err != nil {
		return nil, trust.Chain{}, err
	}
	for _, note := range coordinator.Notes {
		s.Note("%s", note)
	}
	chain := trust.Chain{Root: coordinator.Root, Intermediate: coordinator.Intermediate}
	s.watchInsecure(endpoint, chain)
	return client, chain, s.saveQuote(coordinator.Quote)
}

// NoteVerified says to stderr what comes next, and whether the Coordinator was verified.
func (s *Session) NoteVerified(next string) {
	if s.Insecure {
		s.Note("Coordinator not verified (--insecure), now %s", next)
		return
	}
	s.Note("Successfully verified Coordinator, now %s", next)
}

// watchInsecure warns if an unverified Coordinator is not the one that --insecure met before.
func (s *Session) watchInsecure(endpoint string, chain trust.Chain) {
	if !s.Insecure {
		return
	}
	before, err := s.cache().Load(endpoint)
	if err == nil && !before.Root.Equal(chain.Root) {
		s.Warn("the Coordinator at %s has another root certificate than the one last saved with --insecure", endpoint)
	}
}

func (s *Session) saveQuote(quote []byte) error {
	switch {
	case s.saveQuoteTo == "":
		return nil
	case len(quote) == 0:
		s.Warn("the Coordinator sent no quote, so %s is not written", s.saveQuoteTo)
		return nil
	}
	return console.SaveSecret(s.saveQuoteTo, quote)
}

// Trusted returns a client pinned to the root of an earlier verification. With --insecure the root is fetched instead.
func (s *Session) Trusted(ctx context.Context, endpoint string, user *tls.Certificate) (*api.Client, error) {
	if s.Insecure {
		client, _, err := s.Verified(ctx, endpoint, user)
		return client, err
	}
	chain, err := s.Cached(endpoint)
	if err != nil {
		return nil, err
	}
	return api.NewClient(endpoint, api.Options{Root: chain.Root, ClientCertificate: user})
}

// Cached returns the chain of an earlier verification.
func (s *Session) Cached(endpoint string) (trust.Chain, error) {
	chain, err := s.cache().Load(endpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return chain, api.WithHint(err, "Run 'marblerun manifest verify' first. It verifies the deployment and keeps the "+
			"Coordinator's certificates. In simulation, pass --insecure.")
	}
	return chain, err
}

// Keep stores the chain of a Coordinator for later commands. Without a configuration directory it only warns: what the
// command was run for is done.
func (s *Session) Keep(endpoint string, chain trust.Chain) error {
	err := s.cache().Save(endpoint, chain)
	if errors.Is(err, trust.ErrNoConfigDir) {
		s.Warn("the Coordinator's certificates are not kept: %v; use --coordinator-cert", err)
		return nil
	}
	return err
}

// VerifyOptions are the policy and the flags that overrule it.
func (s *Session) VerifyOptions() (api.VerifyOptions, error) {
	if s.Insecure {
		s.Warn("skipping quote verification")
		return api.VerifyOptions{InsecureSkipVerify: true, Nonce: []byte(s.nonce)}, nil
	}
	options, err := s.Policy()
	if err != nil {
		return api.VerifyOptions{}, err
	}
	if s.FlagSet("nonce") {
		options.Nonce = []byte(s.nonce)
	}
	options.Verifier, err = s.NewVerifier(Verification{})
	return options, err
}

// PolicyGiven tells whether a flag names the policy.
func (s *Session) PolicyGiven() bool { return s.eraConfig != "" }

// Policy is the policy with what flags overrule, without a verifier.
func (s *Session) Policy() (api.VerifyOptions, error) {
	policy, err := trust.FindPolicy(s.eraConfig, ".", s.EmbeddedPolicy)
	if err != nil {
		return api.VerifyOptions{}, err
	}
	s.Note("Using policy %s (SHA-256 %s)", policy.Source, policy.SHA256)
	options := policy.Options
	if s.FlagSet("accepted-tcb-statuses") {
		options.AcceptedTCBStatuses = s.acceptedStatuses
	}
	if s.FlagSet("accepted-advisories") {
		options.AcceptedAdvisories = s.acceptedAdvisories
	}
	return options, nil
}

// Group makes cmd a mere holder of sub-commands: alone it prints its help, and an unknown sub-command is an error.
func Group(cmd *cobra.Command) {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return pflag.ErrHelp
		}
		return fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
	}
	cmd.RunE = func(*cobra.Command, []string) error { return nil } // Args never lets it come so far
	cmd.DisableFlagsInUseLine = true
}
