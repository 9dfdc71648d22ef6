// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifestcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/internal/cli/session"
)

func (a *commands) manifestUpdateCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Manage manifest updates for the MarbleRun Coordinator",
		Long: "Manage manifest updates for the MarbleRun Coordinator.\n\n" +
			"An update that only raises SecurityVersions of packages is applied at once. Any other update is a complete\n" +
			"manifest and may have to be acknowledged by other users.",
	}
	session.Group(cmd)
	cmd.AddCommand(a.updateApplyCmd(), a.updateAcknowledgeCmd(), a.updateCancelCmd(), a.updateGetCmd())
	return cmd
}

func (a *commands) updateApplyCmd() *cobra.Command {
	var recoveryFile string
	var dryRun bool
	var output console.Format
	var auth session.ClientAuth
	cmd := &cobra.Command{
		Use:   "apply <manifest.json> <IP:PORT>",
		Short: "Update the MarbleRun Coordinator with the specified manifest",
		Long: "Update the MarbleRun Coordinator with the specified manifest.\n\n" +
			"With --dry-run nothing is sent, and no user is needed: the update is checked here, all problems are listed,\n" +
			"and it is said in words what it would do to packages, secrets, certificates, users and running Marbles.\n" +
			"The server checks again when the update is submitted, and when it is applied.",
		Example: "marblerun manifest update apply update-manifest.json $MARBLERUN --cert=admin-cert.pem " +
			"--key=admin-key.pem\n" +
			"marblerun manifest update apply update-manifest.json $MARBLERUN --dry-run",
		Args: cobra.ExactArgs(2),
		PreRun: func(cmd *cobra.Command, _ []string) {
			if !dryRun {
				auth.Require(cmd)
			}
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case dryRun:
				return a.updateDryRun(cmd.Context(), args[0], args[1], output)
			case output.JSON():
				return errors.New("--output json is for --dry-run only")
			}
			return a.withUser(cmd.Context(), auth, args, func(client *api.Client, doc document) error {
				result, err := client.UpdateApply(cmd.Context(), doc.data)
				if err != nil {
					return fmt.Errorf("applying update: %w", err)
				}
				a.sayApplied(result)
				return a.deliverRecoveryData(result.RecoverySecrets, recoveryFile)
			})
		},
	}
	auth.Add(cmd, cmd.Flags(), false)
	addRecoveryData(cmd, &recoveryFile)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only check the update and say what it would do")
	output.Add(cmd)
	cmd.Flags().Lookup("output").Usage += " of --dry-run"
	return cmd
}

func (a *commands) sayApplied(result api.UpdateResult) {
	n := result.MissingAcknowledgments
	if n == 0 {
		a.Say("Update manifest set successfully")
		return
	}
	a.Say("Update manifest submitted successfully.")
	a.Say("Changes are pending and have not been applied yet.")
	a.Say("%s need%s to acknowledge the update manifest.", usersStill(n), singular(n))
	if len(result.MissingUsers) > 0 {
		a.Say("The following users may acknowledge the update: %s", strings.Join(result.MissingUsers, ", "))
	}
}

func usersStill(n int) string { return count(n, "user") + " still" }

// singular is the ending of a verb that n users do.
func singular(n int) string {
	if n == 1 {
		return "s"
	}
	return ""
}

func (a *commands) updateAcknowledgeCmd() *cobra.Command {
	var recoveryFile string
	var auth session.ClientAuth
	cmd := &cobra.Command{
		Use:   "acknowledge <manifest.json> <IP:PORT>",
		Short: "Acknowledge a pending update for the MarbleRun Coordinator",
		Long: "Acknowledge a pending update for the MarbleRun Coordinator.\n\n" +
			"The file must be the very manifest that was submitted: read it before you acknowledge it.",
		Example: "marblerun manifest update acknowledge update-manifest.json $MARBLERUN --cert=cert.pem --key=key.pem",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withUser(cmd.Context(), auth, args, func(client *api.Client, doc document) error {
				result, err := client.UpdateAcknowledge(cmd.Context(), doc.data)
				if err != nil {
					return fmt.Errorf("acknowledging update manifest: %w", err)
				}
				a.sayAcknowledged(result)
				return a.deliverRecoveryData(result.RecoverySecrets, recoveryFile)
			})
		},
	}
	auth.Add(cmd, cmd.Flags(), true)
	addRecoveryData(cmd, &recoveryFile)
	return cmd
}

func (a *commands) sayAcknowledged(result api.UpdateResult) {
	a.Say("Acknowledgement successful:")
	n := result.MissingAcknowledgments
	if n == 0 {
		a.Say("All users have acknowledged the update manifest. Update successfully applied")
		return
	}
	a.Say("%s need%s to acknowledge the update manifest.", usersStill(n), singular(n))
	if len(result.MissingUsers) > 0 {
		a.Say("The following users have not yet accepted: %s", strings.Join(result.MissingUsers, ", "))
	}
}

// withUser loads the manifest and the user's credentials, and calls do with a client of them.
func (a *commands) withUser(
	ctx context.Context, auth session.ClientAuth, args []string, do func(*api.Client, document) error,
) error {
	doc, _, err := a.goodDocument(args[0], true)
	if err != nil {
		return err
	}
	return a.Authenticated(ctx, args[1], auth, func(client *api.Client) error { return do(client, doc) })
}

func (a *commands) updateCancelCmd() *cobra.Command {
	var auth session.ClientAuth
	cmd := &cobra.Command{
		Use:     "cancel <IP:PORT>",
		Short:   "Cancel a pending manifest update for the MarbleRun Coordinator",
		Example: "marblerun manifest update cancel $MARBLERUN --cert=admin-cert.pem --key=admin-key.pem",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.Authenticated(cmd.Context(), args[0], auth, func(client *api.Client) error {
				if err := client.UpdateCancel(cmd.Context()); err != nil {
					return fmt.Errorf("canceling update: %w", err)
				}
				a.Say("Cancellation successful")
				return nil
			})
		},
	}
	auth.Add(cmd, cmd.Flags(), true)
	return cmd
}

func (a *commands) updateGetCmd() *cobra.Command {
	var output console.Target
	var missing bool
	cmd := &cobra.Command{
		Use:   "get <IP:PORT>",
		Short: "View a pending manifest update",
		Long:  "View a pending manifest update: exactly the bytes that were submitted, without a newline at the end.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.updateGet(cmd.Context(), args[0], output, missing)
		},
	}
	output.Add(cmd, "")
	cmd.Flags().BoolVar(&missing, "missing", false, "print who has not yet acknowledged, in place of the manifest")
	return cmd
}

func (a *commands) updateGet(ctx context.Context, endpoint string, output console.Target, missing bool) error {
	client, err := a.Trusted(ctx, endpoint, nil)
	if err != nil {
		return err
	}
	pending, err := client.UpdateGet(ctx)
	if err != nil {
		return fmt.Errorf("retrieving pending update: %w", err)
	}
	if output.JSON() {
		return a.WriteJSON(map[string]any{
			"manifest": json.RawMessage(pending.Manifest), "manifestBytes": pending.Manifest,
			"missingUsers": append([]string{}, pending.MissingUsers...), "message": pending.Message,
		})
	}
	data := pending.Manifest
	if missing {
		data = fmt.Appendf(nil, "The following users have not yet acknowledged the update: %v\n", pending.MissingUsers)
	}
	if output.File() == "" {
		return a.Write(data)
	}
	return console.SavePublic(output.File(), data)
}
