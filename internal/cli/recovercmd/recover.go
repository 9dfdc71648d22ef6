// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package recovercmd is 'marblerun recover' and 'marblerun recover-with-signature': decrypt, sign, encrypt and upload
// the recovery secrets of a Coordinator.
//
// Invariant: a secret leaves the program only towards a Coordinator that was verified, or encrypted.
package recovercmd

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/cli/credential"
	"github.com/marblerun/marblerun/internal/cli/session"
)

// commands make the commands of one run.
type commands struct{ *session.Session }

// Command returns the command and its sub-commands.
func Command(s *session.Session) *cobra.Command {
	a := &commands{s}
	var auth session.KeyAuth
	cmd := &cobra.Command{
		Use:   "recover <recovery_key_file> <IP:PORT>",
		Short: "Recover the MarbleRun Coordinator from a sealed state",
		Long: "Recover the MarbleRun Coordinator from a sealed state.\n\n" +
			"The file is one recovery secret as 'manifest set' returned it (encrypted), or decrypted. The key decrypts\n" +
			"and signs it. If there are several holders, each runs this command, against the same Coordinator instance.",
		Example: "marblerun recover recovery_key_encrypted $MARBLERUN --key=private_key.pem --era-config=era.json",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.recover(cmd.Context(), args[0], args[1], auth)
		},
	}
	auth.Add(cmd, true)
	return cmd
}

func (a *commands) recover(ctx context.Context, path, endpoint string, auth session.KeyAuth) error {
	data, err := readRecoveryFile(path)
	if err != nil {
		return err
	}
	options, err := a.VerifyOptions()
	if err != nil {
		return err
	}
	key, closeToken, err := auth.Load()
	if err != nil {
		return err
	}
	defer a.CloseToken(closeToken)
	secret, err := plainSecret(data, key)
	if err != nil {
		return err
	}
	client, _, err := a.Connect(ctx, endpoint, options, nil)
	if err != nil {
		return err
	}
	remaining, err := client.Recover(ctx, secret, key)
	if err != nil {
		return fmt.Errorf("recovering Coordinator: %w", err)
	}
	a.sayRemaining(remaining)
	return nil
}

func (a *commands) sayRemaining(remaining int) {
	if remaining == 0 {
		a.Say("Recovery successful.")
		return
	}
	a.Say("Secret was processed successfully. Upload the next secret. Remaining secrets: %d", remaining)
}

// isPlain: 16 bytes before MarbleRun 1.9, 32 bytes, or 33 for a Shamir share. No RSA ciphertext is that short.
func isPlain(data []byte) bool { return len(data) == 16 || len(data) == 32 || len(data) == 33 }

// readRecoveryFile returns raw bytes. The base64 text in which recovery data travels is decoded.
func readRecoveryFile(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil || isPlain(data) {
		return data, err
	}
	if names := recoveryDataOf(data); len(names) > 0 {
		return nil, api.WithHint(fmt.Errorf("%s holds the recovery secrets of all holders: %q", path, names),
			fmt.Sprintf("Each holder needs one of them alone, e.g.: jq -r '.RecoverySecrets[%q]' %s >FILE", names[0], path))
	}
	if decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(data))); err == nil && len(decoded) > 0 {
		return decoded, nil
	}
	return data, nil
}

// recoveryDataOf returns whose secrets are in a file of recovery data; none if it is no such file.
func recoveryDataOf(data []byte) []string {
	var file struct{ RecoverySecrets map[string]string }
	if json.Unmarshal(data, &file) != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(file.RecoverySecrets))
}

func plainSecret(data []byte, key credential.RecoveryKey) ([]byte, error) {
	switch {
	case isPlain(data):
		return data, nil
	case key == nil:
		return nil, errors.New(`recovery key appears to be encrypted, but no "--key" or "--pkcs11-config" flag was set ` +
			`to load a private key for decryption`)
	}
	secret, err := api.DecryptRecoveryData(data, key)
	if err != nil {
		return nil, api.WithHint(err, "Is the file meant for this key? It must hold one secret, raw or in base64.")
	}
	return secret, nil
}
