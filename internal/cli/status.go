// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/cli/console"
)

func (a *app) statusCmd() *cobra.Command {
	var output console.Format
	cmd := &cobra.Command{
		Use:   "status <IP:PORT>",
		Short: "Retrieve information about the status of the MarbleRun Coordinator",
		Long: `Retrieve information about the status of the MarbleRun Coordinator

Possible statuses:
  1: recovery mode, upload recovery keys or set a new manifest
  2: waiting for a manifest
  3: accepting Marbles`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.Trusted(cmd.Context(), args[0], nil)
			if err != nil {
				return err
			}
			status, err := client.Status(cmd.Context())
			if err != nil {
				return fmt.Errorf("retrieving Coordinator status: %w", err)
			}
			if output.JSON() {
				return a.WriteJSON(status)
			}
			a.Say("%d: %s", status.Code, status.Message)
			if status.Detail != "" {
				a.Note("%s", status.Detail)
			}
			for _, note := range status.Notes {
				a.Note("%s", note)
			}
			return nil
		},
	}
	output.Add(cmd)
	return cmd
}

func (a *app) activationsCmd() *cobra.Command {
	var output console.Format
	cmd := &cobra.Command{
		Use:   "activations <IP:PORT>",
		Short: "List the Marbles that the Coordinator has activated, and by which claims",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.Trusted(cmd.Context(), args[0], nil)
			if err != nil {
				return err
			}
			all, collapsed, err := readActivations(cmd, client)
			if err != nil {
				return fmt.Errorf("retrieving activations: %w", err)
			}
			if output.JSON() {
				return a.WriteJSON(map[string]any{"activations": all, "collapsed": collapsed})
			}
			return a.printActivations(all, collapsed)
		},
	}
	output.Add(cmd)
	return cmd
}

// readActivations returns all pages and the number of older activations that the Coordinator no longer tells apart.
func readActivations(cmd *cobra.Command, client *api.Client) ([]api.Activation, uint64, error) {
	first, err := client.ActivationsPage(cmd.Context(), 0, 1000)
	if err != nil {
		return nil, 0, err
	}
	all := append([]api.Activation{}, first.Activations...)
	if first.Next == 0 {
		return all, first.Collapsed, nil
	}
	for activation, err := range client.Activations(cmd.Context(), first.Next) {
		if err != nil {
			return nil, 0, err
		}
		all = append(all, activation)
	}
	return all, first.Collapsed, nil
}

func (a *app) printActivations(all []api.Activation, collapsed uint64) error {
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tMARBLE\tUUID\tPACKAGE\tTCB STATUS")
	for _, activation := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", activation.Time, activation.MarbleType, activation.UUID,
			activation.Package, tcbStatus(activation.Claims))
	}
	if collapsed > 0 {
		a.Note("%d older activations are no longer kept one by one", collapsed)
	}
	return w.Flush()
}

// tcbStatus is that of the claims, "-" without any (simulation).
func tcbStatus(claims json.RawMessage) string {
	var c struct {
		TCBStatus string `json:"tcbStatus"`
	}
	if err := json.Unmarshal(claims, &c); err != nil || c.TCBStatus == "" {
		return "-"
	}
	return c.TCBStatus
}
