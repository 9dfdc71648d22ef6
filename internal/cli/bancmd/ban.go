// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package bancmd is 'marblerun ban': keep single Marbles from being activated, as a user of the manifest.
//
// Invariant: whoever bans is told, each time, what a ban does not take back and how to take it back.
package bancmd

import (
	"context"
	"fmt"
	"text/tabwriter"

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
	cmd := &cobra.Command{
		Use:   "ban",
		Short: "Ban Marbles from activation",
		Long: "Ban Marbles from activation.\n\n" +
			"A ban is about one Marble type, and one UUID or one piece of evidence. It holds through restarts and updates\n" +
			"until it is removed.",
	}
	session.Group(cmd)
	cmd.AddCommand(a.addCmd(), a.removeCmd(), a.listCmd())
	return cmd
}

// change makes a command that adds or removes the ban that its flags describe.
func (a *commands) change(
	cmd *cobra.Command, do func(context.Context, *api.Client, api.BanTarget) error,
) *cobra.Command {
	var auth session.ClientAuth
	var target api.BanTarget
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.Authenticated(cmd.Context(), args[0], auth, func(client *api.Client) error {
			return do(cmd.Context(), client, target)
		})
	}
	auth.Add(cmd, cmd.Flags(), true)
	cmd.Flags().StringVar(&target.MarbleType, "type", "", "Marble type, as in the manifest")
	cmd.Flags().StringVar(&target.UUID, "uuid", "", "UUID of the Marble")
	cmd.Flags().StringVar(&target.EvidenceSHA256, "evidence", "", "SHA-256 of the Marble's evidence, 64 hex digits")
	cmd.MarkFlagsOneRequired("type")
	cmd.MarkFlagsOneRequired("uuid", "evidence")
	cmd.MarkFlagsMutuallyExclusive("uuid", "evidence")
	return cmd
}

func (a *commands) addCmd() *cobra.Command {
	return a.change(&cobra.Command{
		Use:   "add <IP:PORT>",
		Short: "Ban a Marble from activation",
		Long: `Ban a Marble from activation

'marblerun activations' shows UUIDs, with -o json also hashes of evidence.

A ban takes nothing back: certificates that the Marble already has stay valid until the CA is rotated and
the other Marbles are restarted, and secrets that it got stay known to it. The host of a Marble chooses its
UUID: a ban keeps that UUID with its keys out, not a host or a program.`,
		Example: "marblerun ban add --type web --uuid 0f0e0d0c-0b0a-4908-8706-050403020100 $MARBLERUN -c cert.pem -k key.pem",
	}, func(ctx context.Context, client *api.Client, target api.BanTarget) error {
		ban, err := client.BanAdd(ctx, target)
		if err != nil {
			return fmt.Errorf("banning Marble: %w", err)
		}
		a.Say("Banned since %s by %s: Marble type %s, %s", ban.Time, ban.BannedBy, ban.MarbleType, subject(ban.BanTarget))
		a.Note("%s", takesNothingBack)
		return nil
	})
}

const takesNothingBack = `Certificates that the Marble already has stay valid until the CA is rotated. To
rotate it, apply an update with 'marblerun manifest update apply'. One that sets
a package's SecurityVersion to its current value is enough:
  {"Packages":{"NAME":{"SecurityVersion":N}}}
Secrets that the Marble got stay known to it: rotate the shared ones with 'marblerun secret rotate'.
Then restart your Marbles.`

func (a *commands) removeCmd() *cobra.Command {
	return a.change(&cobra.Command{
		Use:   "remove <IP:PORT>",
		Short: "Lift the ban of a Marble",
		Example: "marblerun ban remove --type web --uuid 0f0e0d0c-0b0a-4908-8706-050403020100 $MARBLERUN " +
			"-c cert.pem -k key.pem",
	}, func(ctx context.Context, client *api.Client, target api.BanTarget) error {
		ban, err := client.BanLift(ctx, target)
		if err != nil {
			return fmt.Errorf("lifting ban: %w", err)
		}
		a.Say("Ban lifted: Marble type %s, %s", ban.MarbleType, subject(ban.BanTarget))
		return nil
	})
}

func subject(t api.BanTarget) string {
	if t.UUID != "" {
		return "UUID " + t.UUID
	}
	return "evidence " + t.EvidenceSHA256
}

func (a *commands) listCmd() *cobra.Command {
	var output console.Format
	cmd := &cobra.Command{
		Use:   "list <IP:PORT>",
		Short: "List the Marbles that are banned from activation",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.Trusted(cmd.Context(), args[0], nil)
			if err != nil {
				return err
			}
			bans, err := client.BanList(cmd.Context())
			if err != nil {
				return fmt.Errorf("retrieving bans: %w", err)
			}
			if output.JSON() {
				return a.WriteJSON(map[string]any{"bans": bans})
			}
			return a.print(bans)
		},
	}
	output.Add(cmd)
	return cmd
}

func (a *commands) print(bans []api.Ban) error {
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tMARBLE\tBANNED BY\tSUBJECT")
	for _, b := range bans {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", b.Time, b.MarbleType, b.BannedBy, subject(b.BanTarget))
	}
	return w.Flush()
}
