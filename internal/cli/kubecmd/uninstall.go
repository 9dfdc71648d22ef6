// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package kubecmd

import (
	"cmp"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/internal/kube/install"
)

// uninstallCmd makes the command uninstall.
func (k Kube) uninstallCmd() *cobra.Command {
	var where place
	var output console.Format
	var r install.Removal
	var yes bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove MarbleRun from a Kubernetes cluster",
		Long: `Remove MarbleRun from a Kubernetes cluster

The sealed state of the Coordinator stays, and a new installation goes on with it. To delete it, too, give
--delete-state and --yes: secrets that Marbles have encrypted data with are lost then.

It says what it removed, and what it left with the command that removes it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.DeleteState && !yes {
				return api.WithHint(errors.New("--delete-state deletes the Coordinator's state for good, and needs --yes"),
					"All secrets of the manifest are lost with it, and what Marbles have encrypted with them.")
			}
			c, installer, err := k.installer(where)
			if err != nil {
				return err
			}
			line := k.Line()
			removed, err := installer.Uninstall(cmd.Context(), r, line.Set)
			line.Clear()
			if output.JSON() && removed != nil {
				err = cmp.Or(err, k.WriteJSON(removed))
			} else if removed != nil {
				k.removed(removed)
			}
			if err == nil && !output.JSON() {
				k.Say("MarbleRun successfully removed from your cluster")
			}
			return c.Explain(err)
		},
	}
	cmd.Flags().BoolVar(&r.DeleteState, "delete-state", false, "delete the sealed state, too; needs --yes")
	cmd.Flags().BoolVar(&yes, "yes", false, "confirm --delete-state")
	cmd.Flags().DurationVar(&r.Timeout, "timeout", 5*time.Minute, "how long to wait until everything is gone")
	output.Add(cmd)
	where.add(cmd)
	return cmd
}

// removed says what is gone and what is not, also of an uninstallation that was not completed.
func (k Kube) removed(r *install.Removed) {
	for _, key := range r.Objects {
		k.Note("removed %s", key)
	}
	for _, left := range r.Left {
		k.Note("left    %s: %s", left.Key, left.Why)
		k.Note("          %s", left.Command)
	}
}
