// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/cli/credential"
)

// ClientAuth are the flags of commands that act for a user of the manifest.
type ClientAuth struct {
	cert, key string
	token     credential.Token
}

// Add adds the flags to a set of cmd's: its own, or those that its sub-commands share. Unless they are required, the
// command goes without a user, or calls Require before it runs.
func (c *ClientAuth) Add(cmd *cobra.Command, flags *pflag.FlagSet, required bool) {
	flags.StringVarP(&c.cert, "cert", "c", "", "PEM file with the certificate of the user")
	flags.StringVarP(&c.key, "key", "k", "", "PEM file with the private key of the user")
	addToken(flags, &c.token)
	flags.StringVar(&c.token.CertID, "pkcs11-cert-id", "", "ID of the certificate in the PKCS #11 token")
	flags.StringVar(&c.token.CertLabel, "pkcs11-cert-label", "", "label of the certificate in the PKCS #11 token")
	cmd.MarkFlagsRequiredTogether("key", "cert")
	cmd.MarkFlagsMutuallyExclusive("pkcs11-config", "cert")
	cmd.MarkFlagsMutuallyExclusive("pkcs11-config", "key")
	if required {
		c.Require(cmd)
	}
	adviseFlags(cmd, "Name the user by --cert FILE --key FILE, both PEM, or by a PKCS #11 token (--pkcs11-config).")
}

// Require makes the flags required. Cobra checks that after PreRun, so a command can decide there.
func (c *ClientAuth) Require(cmd *cobra.Command) {
	cmd.MarkFlagsOneRequired("pkcs11-key-id", "pkcs11-key-label", "cert")
	cmd.MarkFlagsOneRequired("pkcs11-cert-id", "pkcs11-cert-label", "cert")
	cmd.MarkFlagsOneRequired("pkcs11-config", "cert")
	cmd.MarkFlagsOneRequired("pkcs11-config", "key")
}

// flagAdvice is the annotation of a command that says what to do if its flags do not go together.
const flagAdvice = "marblerun_flag_advice"

func adviseFlags(cmd *cobra.Command, advice string) {
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	cmd.Annotations[flagAdvice] = advice
}

// FlagHint is the hint for an error of cmd if it is that flags for credentials are missing or exclude each other; empty
// otherwise. Each group of those has one whose name contains key or cert, and the other groups have none.
func FlagHint(cmd *cobra.Command, err error) string {
	wrong := cmd.ValidateFlagGroups()
	if wrong == nil || wrong.Error() != err.Error() {
		return ""
	}
	if text := wrong.Error(); !strings.Contains(text, "key") && !strings.Contains(text, "cert") {
		return ""
	}
	for ; cmd != nil; cmd = cmd.Parent() { // flags may be those of a parent
		if advice := cmd.Annotations[flagAdvice]; advice != "" {
			return advice
		}
	}
	return ""
}

// addToken adds the flags that select a key in a token.
func addToken(flags *pflag.FlagSet, token *credential.Token) {
	flags.StringVar(&token.Config, "pkcs11-config", "", "JSON file that configures the PKCS #11 token")
	flags.StringVar(&token.KeyID, "pkcs11-key-id", "", "ID of the private key in the PKCS #11 token")
	flags.StringVar(&token.KeyLabel, "pkcs11-key-label", "", "label of the private key in the PKCS #11 token")
}

// Authenticated calls do with a client that acts for the user.
func (s *Session) Authenticated(ctx context.Context, endpoint string, c ClientAuth, do func(*api.Client) error) error {
	certificate, closeToken, err := credential.LoadClient(c.cert, c.key, c.token)
	if err != nil {
		return err
	}
	defer s.CloseToken(closeToken)
	client, err := s.Trusted(ctx, endpoint, certificate)
	if err != nil {
		return err
	}
	return do(client)
}

// CloseToken only reports a failure: what the command was run for is done.
func (s *Session) CloseToken(closeToken credential.Close) {
	if err := closeToken(); err != nil {
		s.Note("Failed to close PKCS #11 session: %v", err)
	}
}

// KeyAuth are the flags of commands that act for the holder of a recovery key.
type KeyAuth struct {
	key   string
	token credential.Token
}

// Add adds the flags. With required, one of them must be given.
func (k *KeyAuth) Add(cmd *cobra.Command, required bool) {
	cmd.Flags().StringVarP(&k.key, "key", "k", "", "PEM file with the RSA private key of the recovery key's holder")
	addToken(cmd.Flags(), &k.token)
	if required {
		cmd.MarkFlagsOneRequired("pkcs11-key-id", "pkcs11-key-label", "key")
	}
	cmd.MarkFlagsMutuallyExclusive("pkcs11-config", "key")
	adviseFlags(cmd, "Name the private key of the recovery key's holder by --key FILE, PEM, or by a PKCS #11 token "+
		"(--pkcs11-config).")
}

// Given tells whether a key is named at all.
func (k *KeyAuth) Given() bool { return k.key != "" || k.token.Config != "" }

// Load returns the key. It must be named.
func (k *KeyAuth) Load() (credential.RecoveryKey, credential.Close, error) {
	if !k.Given() {
		return nil, func() error { return nil }, errors.New(`signing requires setting either "--key" or "--pkcs11-config"`)
	}
	return credential.LoadRecoveryKey(k.key, k.token)
}
