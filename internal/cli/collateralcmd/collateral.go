// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package collateralcmd is 'marblerun collateral': take the collateral that verifications need to where there is no
// network.
//
// Invariants: nothing here is trusted or has to be kept safe, because every item is signed and checked at each use; a
// bundle is written as a whole or not at all.
package collateralcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/collateral"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/dcap/pck"
	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/internal/cli/evidencecmd"
	"github.com/marblerun/marblerun/internal/cli/session"
)

// commands make the commands of one run.
type commands struct{ *session.Session }

// Command returns the command and its sub-commands.
func Command(s *session.Session) *cobra.Command {
	a := &commands{s}
	cmd := &cobra.Command{
		Use:   "collateral",
		Short: "Export and import what verifications need from Intel and AMD",
		Long: "Export and import collateral: the signed TCB information, certificates and revocation lists of Intel and\n" +
			"AMD that the verification of evidence needs. It lives for about 30 days.",
	}
	session.Group(cmd)
	cmd.AddCommand(a.exportCmd(), a.importCmd(), a.showCmd())
	return cmd
}

func (a *commands) exportCmd() *cobra.Command {
	var output string
	var fmspcs []string
	cmd := &cobra.Command{
		Use:   "export [evidence]...",
		Short: "Get collateral from the services and write it to one file",
		Long: `Get collateral from the services and write it to one file.

It is that for the given evidence (quotes and reports in any form that 'marblerun evidence' reads), and for Intel's
platforms named by --fmspc.`,
		Example: "marblerun collateral export quote.bin report.bin -o bundle.json\n" +
			"marblerun collateral export --fmspc 00906ED50000 --fmspc tdx:B0C06F000000 -o bundle.json",
		RunE: func(cmd *cobra.Command, args []string) error { return a.export(cmd.Context(), args, fmspcs, output) },
	}
	cmd.Flags().StringSliceVar(&fmspcs, "fmspc", nil,
		"kind of platform, 12 hex digits, with tdx: before it for TDX")
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write to (required)")
	if err := cmd.MarkFlagRequired("output"); err != nil {
		panic(err) // the flag was just added
	}
	return cmd
}

func (a *commands) export(ctx context.Context, files, fmspcs []string, output string) error {
	var n needs
	for _, file := range files {
		if err := n.addEvidence(file); err != nil {
			return err
		}
	}
	for _, fmspc := range fmspcs {
		if err := n.addFMSPC(fmspc); err != nil {
			return err
		}
	}
	if len(n.intel)+len(n.amd) == 0 {
		return errors.New("name evidence files or --fmspc")
	}
	fetcher, err := a.Fetcher()
	if err != nil {
		return err
	}
	bundle, err := fetcher.Bundle(ctx, n.intel, n.amd)
	if err != nil {
		return session.Explain(fmt.Errorf("getting collateral: %w", err))
	}
	var content bytes.Buffer
	if err := bundle.Export(&content); err != nil {
		return err
	}
	if err := console.SavePublic(output, content.Bytes()); err != nil {
		return fmt.Errorf("saving collateral: %w", err)
	}
	a.Note("Collateral written to %s", output)
	a.Note("%s", validity(bundle, time.Now()))
	return nil
}

// needs are what to get.
type needs struct {
	intel []collateral.DCAPNeed
	amd   []collateral.SNPNeed
}

func (n *needs) addEvidence(path string) error {
	e, err := evidencecmd.Read(path)
	if err != nil {
		return err
	}
	if e.TEE == attest.SNP {
		return n.addReport(path, e)
	}
	need, err := dcap.Needs(e.Quote)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	n.intel = append(n.intel, collateral.DCAPNeed{Need: need})
	return nil
}

func (n *needs) addReport(path string, e attest.Evidence) error {
	report, err := snp.ParseReport(e.Quote)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	need, err := report.Needs()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	table, err := snp.ParseCertTable(e.CertTable)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	n.amd = append(n.amd, collateral.SNPNeed{Needs: need, Have: table.Certificates(need.Key)})
	return nil
}

// addFMSPC adds a kind of platform, for both of the CAs that may have issued its PCK certificates.
func (n *needs) addFMSPC(text string) error {
	tee := attest.SGX
	fmspc := text
	if prefix, rest, ok := strings.Cut(text, ":"); ok {
		tee, fmspc = attest.TEE(strings.ToLower(prefix)), rest
	}
	isHex := strings.Trim(fmspc, "0123456789abcdefABCDEF") == ""
	if (tee != attest.SGX && tee != attest.TDX) || len(fmspc) != 12 || !isHex {
		return fmt.Errorf("--fmspc %q: want 12 hex digits, with sgx: or tdx: before them", text)
	}
	for _, ca := range []pck.CA{pck.PlatformCA, pck.ProcessorCA} {
		need := dcap.Need{TEE: tee, FMSPC: strings.ToUpper(fmspc), CA: ca}
		n.intel = append(n.intel, collateral.DCAPNeed{Need: need})
	}
	return nil
}

func (a *commands) importCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "import <bundle>...",
		Short: "Keep collateral for later verifications on this machine",
		Long: `Keep collateral for later verifications on this machine.

Until the first item of a bundle expires, what is in it is not asked for at the services. Without importing, pass the
file with --collateral.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			for _, path := range args {
				bundle, err := session.ReadBundle(path)
				if err != nil {
					return err
				}
				kept, err := a.Import(bundle)
				if err != nil {
					return fmt.Errorf("importing %s: %w", path, err)
				}
				a.Note("%s is kept as %s", path, kept)
				a.Note("%s", validity(bundle, time.Now()))
			}
			return nil
		},
	}
}

func (a *commands) showCmd() *cobra.Command {
	var output console.Format
	cmd := &cobra.Command{
		Use:   "show [bundle]...",
		Short: "List what is in collateral files, and when it expires",
		Long:  "List what is in collateral files, and when it expires. Without a file: in what was imported.",
		RunE:  func(_ *cobra.Command, args []string) error { return a.show(args, output) },
	}
	output.Add(cmd)
	return cmd
}

// shown is a bundle as JSON.
type shown struct {
	File       string               `json:"file"`
	Created    time.Time            `json:"created,omitzero"`
	NextUpdate time.Time            `json:"nextUpdate,omitzero"`
	Expired    bool                 `json:"expired"`
	Content    []collateral.Content `json:"content"`
}

func (a *commands) show(files []string, output console.Format) error {
	imported := len(files) == 0
	if imported {
		files = a.Imported()
	}
	now := time.Now()
	all := []shown{}
	for _, file := range files {
		bundle, err := session.ReadBundle(file)
		if err != nil {
			return err
		}
		next := bundle.NextUpdate()
		all = append(all, shown{file, bundle.Created, next, !next.IsZero() && next.Before(now), bundle.Show()})
		if !output.JSON() {
			if err := a.table(file, bundle, now); err != nil {
				return err
			}
		}
	}
	if output.JSON() {
		return a.WriteJSON(all)
	}
	if imported && len(files) == 0 {
		a.Note("No collateral was imported")
	}
	return nil
}

func (a *commands) table(file string, bundle *collateral.Bundle, now time.Time) error {
	first := bundle.NextUpdate()
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s\n", file)
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KIND\tOF\tISSUED\tNEXT UPDATE\tEVALUATION\t")
	for _, c := range bundle.Show() {
		mark, number := "", "-"
		if !c.NextUpdate.IsZero() && c.NextUpdate.Equal(first) {
			mark = "expires first"
		}
		if !c.NextUpdate.IsZero() && c.NextUpdate.Before(now) {
			mark = "expired"
		}
		if c.TCBEvaluationDataNumber != 0 {
			number = fmt.Sprint(c.TCBEvaluationDataNumber)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", c.Kind, c.Of, day(c.Issued), day(c.NextUpdate), number, mark)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(&text, "%s\n", validity(bundle, now))
	return a.Write(text.Bytes())
}

func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.DateOnly)
}

// validity says how long the bundle is good for.
func validity(bundle *collateral.Bundle, now time.Time) string {
	next := bundle.NextUpdate()
	switch {
	case next.IsZero():
		return "Nothing in it expires"
	case next.Before(now):
		return fmt.Sprintf("Its first item expired at %s: export it anew", next.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("Valid until %s", next.UTC().Format(time.RFC3339))
}
