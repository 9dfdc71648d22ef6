// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package secretcmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/cli/session"
)

func (a *commands) secretRotateCmd(auth *session.ClientAuth) *cobra.Command {
	return &cobra.Command{
		Use:   "rotate SECRETNAME ... <IP:PORT>",
		Short: "Give generated shared secrets new values",
		Long: `Give generated shared secrets new values

Keys are made anew, certificates are re-issued from the manifest's template. All named secrets are rotated, or
none. Marbles get the new values when they start; templates find the ones before in .Previous.Secrets.`,
		Example: "marblerun secret rotate sessionKey serverCert $MARBLERUN -c cert.pem -k key.pem",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			names, endpoint := args[:len(args)-1], args[len(args)-1]
			return a.Authenticated(cmd.Context(), endpoint, *auth, func(client *api.Client) error {
				rotated, err := client.SecretRotate(cmd.Context(), names)
				if err != nil {
					return fmt.Errorf("rotating secrets: %w", err)
				}
				for _, name := range rotated {
					a.Say("Rotated secret: %s", name)
				}
				a.Say("Please restart your Marbles to give them the new secrets.")
				return nil
			})
		},
	}
}
