// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package secretcmd is 'marblerun secret': set and read secrets as a user of the manifest.
//
// Invariant: values are printed or written only by 'secret get', and never appear in an error.
package secretcmd

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/internal/cli/session"
)

// commands make the commands of one run.
type commands struct{ *session.Session }

// Command returns the command and its sub-commands.
func Command(s *session.Session) *cobra.Command {
	a := &commands{s}
	var auth session.ClientAuth
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Manage secrets for the MarbleRun Coordinator",
		Long: "Manage secrets for the MarbleRun Coordinator.\n\n" +
			"Set the values of user-defined secrets, or read secrets, as a user of the manifest.",
	}
	session.Group(cmd)
	auth.Add(cmd, cmd.PersistentFlags(), true)
	cmd.AddCommand(a.secretSetCmd(&auth), a.secretGetCmd(&auth), a.secretRotateCmd(&auth))
	return cmd
}

func (a *commands) secretSetCmd(auth *session.ClientAuth) *cobra.Command {
	var fromPEM string
	cmd := &cobra.Command{
		Use:   "set <secret_file> <IP:PORT>",
		Short: "Set a secret for the MarbleRun Coordinator",
		Long: `Set a secret for the MarbleRun Coordinator

The file is JSON. Binary values are base64, certificates and private keys are DER in base64:
  {"symmetric-or-plain": {"Key": "<base64>"}, "certificate": {"Cert": "<base64>", "Private": "<base64>"}}
With --from-pem it is a PEM file with a certificate, its private key, or both.`,
		Example: "marblerun secret set secret.json $MARBLERUN -c cert.pem -k key.pem\n" +
			"marblerun secret set certificate.pem $MARBLERUN -c cert.pem -k key.pem --from-pem certificateSecret",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			secrets, err := readSecrets(args[0], fromPEM)
			if err != nil {
				return err
			}
			return a.Authenticated(cmd.Context(), args[1], *auth, func(client *api.Client) error {
				if err := client.SecretSet(cmd.Context(), secrets); err != nil {
					return fmt.Errorf("setting secret: %w", err)
				}
				a.Say("Secret successfully set")
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&fromPEM, "from-pem", "", "name of the certificate secret that the PEM file is for")
	return cmd
}

func readSecrets(path, fromPEM string) (map[string]api.UserSecret, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if fromPEM != "" {
		secret, err := secretFromPEM(data)
		return map[string]api.UserSecret{fromPEM: secret}, err
	}
	secrets := map[string]api.UserSecret{}
	if err := json.Unmarshal(data, &secrets); err != nil {
		return nil, api.WithHint(fmt.Errorf("parsing %s: %w", path, err),
			"The file maps names to {\"Key\": …} or {\"Cert\": …, \"Private\": …}, values in base64. See --from-pem for PEM.")
	}
	return secrets, checkSecrets(path, secrets)
}

// checkSecrets refuses what cannot be meant: a file that sets nothing.
func checkSecrets(path string, secrets map[string]api.UserSecret) error {
	if len(secrets) == 0 {
		return fmt.Errorf("%s contains no secret", path)
	}
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		if s := secrets[name]; s.Key == nil && s.Cert == nil && s.Private == nil {
			return api.WithHint(fmt.Errorf("%s: secret %q has no value", path, name),
				`Give it "Key", or "Cert" and "Private".`)
		}
	}
	return nil
}

// secretFromPEM takes the first certificate and the first private key.
func secretFromPEM(data []byte) (api.UserSecret, error) {
	var secret api.UserSecret
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "CERTIFICATE":
			if secret.Cert == nil {
				secret.Cert = block.Bytes
			}
		case strings.Contains(block.Type, "PRIVATE"):
			if secret.Private == nil {
				secret.Private = block.Bytes
			}
		default:
			return secret, fmt.Errorf("unrecognized PEM type for secret: %s", block.Type)
		}
	}
	if secret.Cert == nil && secret.Private == nil {
		return secret, errors.New("found no certificate or private key in PEM data")
	}
	return secret, nil
}

func (a *commands) secretGetCmd(auth *session.ClientAuth) *cobra.Command {
	var output console.Target
	cmd := &cobra.Command{
		Use:   "get SECRETNAME ... <IP:PORT>",
		Short: "Retrieve secrets from the MarbleRun Coordinator",
		Long: "Retrieve secrets from the MarbleRun Coordinator.\n\n" +
			"Keys and data are printed in base64, certificates in PEM. A file gets JSON, with certificates in DER in base64.",
		Example: "marblerun secret get genericSecret symmetricKeyShared $MARBLERUN -c cert.pem -k key.pem",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			names, endpoint := args[:len(args)-1], args[len(args)-1]
			return a.Authenticated(cmd.Context(), endpoint, *auth, func(client *api.Client) error {
				secrets, err := client.SecretGet(cmd.Context(), names)
				if err != nil {
					return fmt.Errorf("retrieving secret: %w", err)
				}
				return a.deliverSecrets(secrets, output)
			})
		},
	}
	output.Add(cmd, "")
	return cmd
}

func (a *commands) deliverSecrets(secrets map[string]api.Secret, output console.Target) error {
	if output.JSON() {
		return a.WriteJSON(secrets)
	}
	if output.File() == "" {
		return printSecrets(a.Out, secrets)
	}
	data, err := json.Marshal(secrets)
	if err != nil {
		return err
	}
	if err := console.SaveSecret(output.File(), data); err != nil {
		return fmt.Errorf("saving secrets: %w", err)
	}
	a.Say("Saved secrets to: %s", output.File())
	return nil
}

// printSecrets prints secrets for people, in order of their names, each followed by an empty line.
func printSecrets(w io.Writer, secrets map[string]api.Secret) error {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		if err := formatSecret(&text, name, secrets[name]); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func formatSecret(w *strings.Builder, name string, s api.Secret) error {
	line := func(label string, value any) { formatLine(w, label, fmt.Sprint(value)) }
	fmt.Fprintf(w, "%s:\n", name)
	line("Type:", s.Type)
	switch s.Type {
	case "symmetric-key":
		line("UserDefined:", s.UserDefined)
		line("Size:", s.Size)
		line("Key:", base64.StdEncoding.EncodeToString(s.Private))
	case "plain":
		line("Data:", base64.StdEncoding.EncodeToString(s.Private))
	case "cert-rsa", "cert-ecdsa", "cert-ed25519":
		line("UserDefined:", s.UserDefined)
		if s.Type != "cert-ed25519" {
			line("Size:", s.Size)
		}
		line("Valid For:", s.ValidFor)
		formatCertificate(w, s)
	default:
		return fmt.Errorf("%s: unknown secret type %q", name, s.Type)
	}
	w.WriteByte('\n')
	return nil
}

// formatLine prints a label column of 14 characters, and no blanks at the end.
func formatLine(w *strings.Builder, label, value string) {
	w.WriteString("\t" + strings.TrimRight(fmt.Sprintf("%-14s %s", label, value), " ") + "\n")
}

// formatCertificate prints PEM without indentation, so that it can be copied.
func formatCertificate(w *strings.Builder, s api.Secret) {
	formatLine(w, "Certificate:", "")
	if s.Cert != nil {
		w.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Cert}))
	}
	formatLine(w, "Public Key:", base64.StdEncoding.EncodeToString(s.Public))
	formatLine(w, "Private Key:", base64.StdEncoding.EncodeToString(s.Private))
}
