// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package evidencecmd is 'marblerun evidence': explain quotes and reports of SGX, TDX and SEV-SNP, and verify them,
// online or offline.
//
// Invariants: 'show' says that nothing it prints is verified. 'verify' prints only what signed bytes say, and exits with
// 0 only if the evidence is genuine, has a TCB status and fulfills what was named; with JSON the result is printed on
// refusal, too, with all reasons. Evidence is foreign bytes: it never panics the program.
package evidencecmd

import (
	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/internal/cli/session"
)

// commands make the commands of one run.
type commands struct{ *session.Session }

// Command returns the command and its sub-commands.
func Command(s *session.Session) *cobra.Command {
	a := &commands{s}
	cmd := &cobra.Command{
		Use:   "evidence",
		Short: "Explain and verify quotes and reports",
		Long: "Explain and verify evidence: SGX quotes, TDX quotes and SEV-SNP reports.\n\n" +
			"A file may hold it in binary, hex or base64, with or without Open Enclave header, or be the JSON that a\n" +
			"Coordinator's /quote returns.",
	}
	session.Group(cmd)
	cmd.AddCommand(a.showCmd(), a.verifyCmd())
	return cmd
}

func (a *commands) showCmd() *cobra.Command {
	var output console.Format
	cmd := &cobra.Command{
		Use:   "show <file>",
		Short: "Explain a quote or report, without verifying it",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			in, err := readInput(args[0])
			if err != nil {
				return err
			}
			d, err := describe(in)
			if err != nil {
				return err
			}
			a.Note("Nothing of this is verified. 'marblerun evidence verify' does that.")
			if output.JSON() {
				return a.WriteJSON(d)
			}
			return a.Write(d.text())
		},
	}
	output.Add(cmd)
	return cmd
}
