// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package manifestcmd is 'marblerun manifest': check, set, verify, get, update and compare manifests.
//
// Invariants: a manifest file is checked before a Coordinator hears of it; a dry run sends nothing but requests to
// read; recovery data that was received is delivered, to a file or else to stdout, whatever else fails.
package manifestcmd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/internal/cli/session"
	"github.com/marblerun/marblerun/manifest"
)

// commands make the commands of one run.
type commands struct{ *session.Session }

// Command returns the command and its sub-commands.
func Command(s *session.Session) *cobra.Command {
	a := &commands{s}
	cmd := &cobra.Command{
		Use:   "manifest",
		Short: "Manage manifest for the MarbleRun Coordinator",
		Long:  "Manage manifest for the MarbleRun Coordinator. Used to set the manifest, update it, or retrieve it.",
	}
	session.Group(cmd)
	cmd.AddCommand(a.manifestCheckCmd(), a.manifestSetCmd(), a.manifestVerifyCmd(), a.manifestGetCmd(), a.manifestLogCmd(),
		a.manifestUpdateCmd(), a.manifestDiffCmd(), a.manifestSignatureCmd(), a.recoverySecretsCmd())
	return cmd
}

func (a *commands) manifestSetCmd() *cobra.Command {
	var recoveryFile string
	cmd := &cobra.Command{
		Use:   "set <manifest.json> <IP:PORT>",
		Short: "Set the manifest for the MarbleRun Coordinator",
		Long: "Set the manifest for the MarbleRun Coordinator.\n\n" +
			"The file is checked first, then the Coordinator is verified.",
		Example: "marblerun manifest set manifest.json $MARBLERUN --recoverydata=recovery-data.json --era-config=era.json",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.manifestSet(cmd, args[0], args[1], recoveryFile)
		},
	}
	addRecoveryData(cmd, &recoveryFile)
	return cmd
}

func (a *commands) manifestSet(cmd *cobra.Command, path, endpoint, recoveryFile string) error {
	doc, _, err := a.goodDocument(path, false)
	if err != nil {
		return err
	}
	client, chain, err := a.Verified(cmd.Context(), endpoint, nil)
	if err != nil {
		return err
	}
	a.Say("Successfully verified Coordinator, now uploading manifest")
	a.Say("Manifest signature: %s", manifest.Fingerprint(doc.data))
	secrets, err := client.ManifestSet(cmd.Context(), doc.data)
	if err != nil {
		return fmt.Errorf("setting manifest: %w", err)
	}
	a.Say("Manifest successfully set")
	// Each of the two is worth doing even if the other fails.
	return errors.Join(a.deliverRecoveryData(secrets, recoveryFile), a.Keep(endpoint, chain))
}

func (a *commands) manifestSignatureCmd() *cobra.Command {
	var output console.Format
	cmd := &cobra.Command{
		Use:   "signature <manifest.json>",
		Short: "Print the signature of a MarbleRun manifest",
		Long: "Print the signature of a MarbleRun manifest: the SHA-256 of its bytes, in hex.\n" +
			"If the file is YAML, it is that of the JSON that would be sent.",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			doc, err := a.loadDocument(args[0])
			if err != nil {
				return err
			}
			if output.JSON() {
				return a.WriteJSON(map[string]string{"signature": manifest.Fingerprint(doc.data)})
			}
			a.Say("%s", manifest.Fingerprint(doc.data))
			return nil
		},
	}
	output.Add(cmd)
	return cmd
}

func (a *commands) manifestVerifyCmd() *cobra.Command {
	var output console.Format
	cmd := &cobra.Command{
		Use:   "verify <manifest/signature> <IP:PORT>",
		Short: "Verify the signature of a MarbleRun manifest",
		Long: "Verify that the Coordinator is genuine and runs the given manifest, named by its file or its signature.\n\n" +
			"On success the Coordinator's certificates are kept for later commands.",
		Example: "marblerun manifest verify manifest.json $MARBLERUN\n" +
			"marblerun manifest verify 152493c4a85845480a04b95f79dd447a4573862e6e2d6e7ed1dbf8f2d3ec4b3b $MARBLERUN",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.manifestVerify(cmd, args[0], args[1], output)
		},
	}
	output.Add(cmd)
	return cmd
}

func (a *commands) manifestVerify(cmd *cobra.Command, arg, endpoint string, output console.Format) error {
	fingerprint, err := a.fingerprintOf(arg)
	if err != nil {
		return err
	}
	client, chain, err := a.Verified(cmd.Context(), endpoint, nil)
	if err != nil {
		return err
	}
	if err := client.CheckManifest(cmd.Context(), fingerprint); err != nil {
		return verifyError(err)
	}
	if err := a.Keep(endpoint, chain); err != nil {
		return err
	}
	if output.JSON() {
		return a.WriteJSON(map[string]any{"verified": !a.Insecure, "signature": fingerprint})
	}
	a.Say("OK")
	return nil
}

// fingerprintOf is that of a file's content, or the argument itself.
func (a *commands) fingerprintOf(arg string) (string, error) {
	_, err := os.Stat(arg)
	switch {
	case err == nil:
		doc, err := a.loadDocument(arg)
		return manifest.Fingerprint(doc.data), err
	case !errors.Is(err, fs.ErrNotExist) && len(arg) != 64:
		return "", err
	case len(arg) != 64:
		return "", fmt.Errorf("%s is not a file and of invalid length to be a signature (needs to be 32 bytes)", arg)
	}
	sum, err := hex.DecodeString(arg)
	if err != nil {
		return "", fmt.Errorf("%s is not a file and not a valid signature (needs to be in hex format)", arg)
	}
	return hex.EncodeToString(sum), nil
}

func verifyError(err error) error {
	switch {
	case errors.Is(err, api.ErrNoManifest):
		return errors.New("Coordinator returned no manifest signature. Is the Coordinator in the correct state?")
	case errors.Is(err, api.ErrManifestMismatch):
		return fmt.Errorf("MarbleRun deployment is using a different manifest than expected: %w", err)
	}
	return err
}

func (a *commands) manifestCheckCmd() *cobra.Command {
	var output console.Format
	var strict bool
	cmd := &cobra.Command{
		Use:   "check <manifest.json>",
		Short: "Check a manifest without a Coordinator",
		Long: "Check a manifest without a Coordinator, and print all problems as file:line:column: path: text (hint).\n" +
			"Templates are executed on placeholders, once there are no other errors.\n" +
			"A file that names nothing but packages is taken for an update of their versions.\n\n" +
			"The exit code is 1 if a Coordinator would refuse the manifest; with --strict also if there are warnings, e.g.\n" +
			"about misspelled fields, which a Coordinator ignores.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.manifestCheck(cmd.Context(), args[0], output, strict)
		},
	}
	cmd.Flags().BoolVar(&strict, "strict", false, "treat warnings as errors")
	output.Add(cmd)
	return cmd
}

// checkProblem is a problem as JSON.
type checkProblem struct {
	Path    string `json:"path"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Text    string `json:"text"`
	Hint    string `json:"hint,omitempty"`
	Warning bool   `json:"warning"`
}

func (a *commands) manifestCheck(ctx context.Context, path string, output console.Format, strict bool) error {
	doc, err := a.loadDocument(path)
	if err != nil {
		return err
	}
	m, problems := doc.read()
	if m != nil {
		if m.UpdateKind() == manifest.PackageUpdate {
			a.Note("%s names nothing but packages, so it is checked as an update of their versions; a manifest to set needs "+
				"Marbles, too", path)
		}
		problems = doc.check(ctx, m)
	}
	failures := len(problems.Errors())
	warnings := len(problems) - failures
	if output.JSON() {
		err = a.WriteJSON(map[string]any{"problems": listed(problems), "errors": failures, "warnings": warnings})
	} else {
		a.printProblems(a.Out, doc, problems, a.ColorOut)
	}
	switch {
	case err != nil:
		return err
	case failures > 0:
		return fmt.Errorf("%s has %s and %s", path, count(failures, "error"), count(warnings, "warning"))
	case strict && warnings > 0:
		return fmt.Errorf("%s has %s", path, count(warnings, "warning"))
	}
	a.Note("%s: no errors, %s", path, count(warnings, "warning"))
	return nil
}
