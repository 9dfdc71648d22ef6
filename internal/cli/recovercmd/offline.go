// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package recovercmd

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/internal/cli/credential"
	"github.com/marblerun/marblerun/internal/cli/session"
)

// SignedCommand returns the command for secrets that were signed offline, and its sub-commands.
func SignedCommand(s *session.Session) *cobra.Command {
	a := &commands{s}
	var signature string
	cmd := &cobra.Command{
		Use:   "recover-with-signature <recovery_key_file> <IP:PORT>",
		Short: "Recover the MarbleRun Coordinator with a secret that was signed offline",
		Long: "Recover the MarbleRun Coordinator with a secret that was signed offline.\n\n" +
			"The file holds the decrypted secret, or the secret encrypted for the Coordinator: see the sub-commands.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.recoverSigned(cmd.Context(), args[0], signature, args[1])
		},
	}
	cmd.Flags().StringVarP(&signature, "signature", "s", "", "file with the signature of the decrypted secret")
	if err := cmd.MarkFlagRequired("signature"); err != nil {
		panic(err) // the flag is defined above
	}
	cmd.AddCommand(a.recoverPublicKeyCmd(), a.signSecretCmd(), a.encryptSecretCmd())
	return cmd
}

func (a *commands) recoverSigned(ctx context.Context, path, signaturePath, endpoint string) error {
	secret, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	signature, err := os.ReadFile(signaturePath)
	if err != nil {
		return err
	}
	client, _, err := a.Verified(ctx, endpoint, nil)
	if err != nil {
		return err
	}
	remaining, err := client.RecoverWithSignature(ctx, secret, signature)
	if err != nil {
		return fmt.Errorf("recovering Coordinator: %w", err)
	}
	a.sayRemaining(remaining)
	return nil
}

func (a *commands) recoverPublicKeyCmd() *cobra.Command {
	var output console.Target
	cmd := &cobra.Command{
		Use:   "public-key <IP:PORT>",
		Short: "Retrieve the key to which a recovery secret can be encrypted",
		Long: "Retrieve the Coordinator's ephemeral public key, to which a recovery secret can be encrypted.\n\n" +
			"It belongs to one run of one Coordinator instance.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, _, err := a.Verified(cmd.Context(), args[0], nil)
			if err != nil {
				return err
			}
			key, err := client.RecoveryPublicKey(cmd.Context())
			if err != nil {
				return fmt.Errorf("retrieving recovery public key: %w", err)
			}
			der, err := x509.MarshalPKIXPublicKey(key)
			if err != nil {
				return err
			}
			return a.deliverPublicKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), output)
		},
	}
	output.Add(cmd, "")
	return cmd
}

func (a *commands) deliverPublicKey(key []byte, output console.Target) error {
	switch {
	case output.JSON():
		return a.WriteJSON(map[string]string{"publicKey": string(key)})
	case output.File() == "":
		return a.Write(append(key, '\n'))
	}
	if err := console.SaveNew(output.File(), key); err != nil {
		return fmt.Errorf("writing public key to file: %w", err)
	}
	return nil
}

func (a *commands) signSecretCmd() *cobra.Command {
	var output string
	var auth session.KeyAuth
	cmd := &cobra.Command{
		Use:   "sign-secret <recovery_key_file>",
		Short: "Sign a recovery secret, offline",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			data, err := readRecoveryFile(args[0])
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
			signature, err := api.SignRecoverySecret(secret, key)
			if err != nil {
				return err
			}
			return wrap("writing signature to file", console.SaveNew(output, signature))
		},
	}
	requireOutput(cmd, &output, "file to write the signature to; it must not exist")
	auth.Add(cmd, true)
	return cmd
}

func requireOutput(cmd *cobra.Command, output *string, usage string) {
	cmd.Flags().StringVarP(output, "output", "o", "", usage)
	if err := cmd.MarkFlagRequired("output"); err != nil {
		panic(err) // the flag is defined above
	}
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (a *commands) encryptSecretCmd() *cobra.Command {
	var output, publicKey string
	var auth session.KeyAuth
	cmd := &cobra.Command{
		Use:   "encrypt-secret <recovery_key_file>",
		Short: "Encrypt a recovery secret for the Coordinator, offline",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			encrypted, err := a.encryptSecret(args[0], publicKey, auth)
			if err != nil {
				return err
			}
			return wrap("writing encrypted secret to file", console.SaveNew(output, encrypted))
		},
	}
	requireOutput(cmd, &output, "file to write the encrypted secret to; it must not exist")
	cmd.Flags().StringVar(&publicKey, "coordinator-pub-key", "", "PEM file with the Coordinator's recovery public key")
	if err := cmd.MarkFlagRequired("coordinator-pub-key"); err != nil {
		panic(err) // the flag is defined above
	}
	auth.Add(cmd, false)
	return cmd
}

func (a *commands) encryptSecret(path, publicKeyPath string, auth session.KeyAuth) ([]byte, error) {
	data, err := readRecoveryFile(path)
	if err != nil {
		return nil, err
	}
	var key credential.RecoveryKey
	if auth.Given() {
		loaded, closeToken, err := auth.Load()
		if err != nil {
			return nil, err
		}
		defer a.CloseToken(closeToken)
		key = loaded
	}
	secret, err := plainSecret(data, key)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(publicKeyPath)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%q did not contain a valid PEM block", publicKeyPath)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing %s: %w", publicKeyPath, err)
	}
	return api.EncryptRecoverySecretWithEphemeralKey(secret, public)
}
