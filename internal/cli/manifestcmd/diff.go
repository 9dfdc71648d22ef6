// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifestcmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/manifest"
	"github.com/marblerun/marblerun/manifest/diff/effect"
)

func (a *commands) manifestDiffCmd() *cobra.Command {
	var output console.Format
	cmd := &cobra.Command{
		Use:   "diff <old.json> <new.json>",
		Short: "Say in words what an update from one manifest to another does",
		Long: "Say in words what an update from one manifest to another does: who must agree, and what changes for\n" +
			"packages, Marbles, secrets, certificates, users and recovery. The second file may be a package update.\n\n" +
			"Nothing is asked of a Coordinator. 'manifest update apply --dry-run' compares with the manifest in force and\n" +
			"also tells which running Marbles are affected. The server checks again when an update is submitted.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.manifestDiff(cmd.Context(), args[0], args[1], output)
		},
	}
	output.Add(cmd)
	return cmd
}

func (a *commands) manifestDiff(ctx context.Context, before, after string, output console.Format) error {
	_, current, err := a.goodDocument(before, false)
	if err != nil {
		return err
	}
	doc, err := a.loadDocument(after)
	if err != nil {
		return err
	}
	update, problems := doc.read()
	if update != nil {
		problems = doc.updateProblems(ctx, current, update)
	}
	if err := a.refuseProblems(doc, problems, output); err != nil {
		return err
	}
	return a.printReport(report{Report: effect.Of(current, update), Problems: listed(problems)}, output)
}

// report is what -o json prints.
type report struct {
	effect.Report
	// Manifest is the fingerprint of the manifest in force; only a dry run has it.
	Manifest string `json:"manifestSignature,omitempty"`
	// Pending are the users who may still acknowledge, if this very update is pending already.
	Pending *[]string `json:"pendingMissingUsers,omitempty"`
	// Problems are warnings: with errors there is nothing else than problems.
	Problems []checkProblem `json:"problems"`
}

// printReport says what an update does. That nothing changes is said to stderr, unless Marbles were looked at.
func (a *commands) printReport(r report, output console.Format) error {
	switch {
	case output.JSON():
		return a.WriteJSON(r)
	case r.Changed() || r.Running != nil:
		return a.Write([]byte(r.Text()))
	}
	a.Note("No changes")
	a.Note("Applied as an update, the manifest would still rotate the certificates of all Marbles.")
	return nil
}

// listed are problems as -o json prints them.
func listed(problems manifest.Problems) []checkProblem {
	list := make([]checkProblem, len(problems))
	for i, p := range problems {
		list[i] = checkProblem{p.Path, p.Line, p.Column, p.Text, p.Hint, p.Warning}
	}
	return list
}
