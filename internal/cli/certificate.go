// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/internal/cli/session"
	"github.com/marblerun/marblerun/internal/cli/trust"
)

func (a *app) certificateCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certificate",
		Short: "Retrieve the certificates of the MarbleRun Coordinator",
		Long: "Retrieve the certificates of the MarbleRun Coordinator.\n\n" +
			"The Coordinator's quote is verified, and its root certificate must be the one in the local cache.",
	}
	session.Group(cmd)
	cmd.AddCommand(
		a.certificateKind("root", "root certificate", "Root certificate", "marblerunRootCA.crt",
			func(c trust.Chain) []byte { return trust.CertificatePEM(c.Root) }),
		a.certificateKind("intermediate", "intermediate certificate", "Intermediate certificate",
			"marblerunIntermediateCA.crt", func(c trust.Chain) []byte { return trust.CertificatePEM(c.Intermediate) }),
		a.certificateKind("chain", "certificate chain, intermediate and root", "Certificate chain",
			"marblerunChainCA.crt", trust.Chain.PEM),
	)
	return cmd
}

func (a *app) certificateKind(name, what, title, file string, pem func(trust.Chain) []byte) *cobra.Command {
	var output console.Target
	cmd := &cobra.Command{
		Use:   name + " <IP:PORT>",
		Short: "Retrieve the Coordinator's " + what,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output == "" {
				return errors.New("output flag must not be empty")
			}
			chain, err := a.certificates(cmd, args[0])
			if err != nil {
				return err
			}
			if output.JSON() {
				return a.WriteJSON(map[string]string{name: string(pem(chain))})
			}
			if err := console.SaveSecret(output.File(), pem(chain)); err != nil {
				return err
			}
			a.Say("%s written to %s", title, output.File())
			return nil
		},
	}
	output.Add(cmd, file)
	return cmd
}

const rootChanged = "root certificate of Coordinator changed. " +
	"Run 'marblerun manifest verify' to verify the instance and update the local cache"

// certificates returns the verified chain, which in secure mode must have the root that the cache has.
func (a *app) certificates(cmd *cobra.Command, endpoint string) (trust.Chain, error) {
	var cached trust.Chain
	if !a.Insecure {
		chain, err := a.Cached(endpoint)
		if err != nil {
			return chain, err
		}
		cached = chain
	}
	_, chain, err := a.Verified(cmd.Context(), endpoint, nil)
	if err != nil {
		return chain, fmt.Errorf("retrieving certificate from Coordinator: %w", err)
	}
	if cached.Root != nil && !cached.Root.Equal(chain.Root) {
		return chain, errors.New(rootChanged)
	}
	return chain, nil
}
