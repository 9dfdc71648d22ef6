// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"context"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/internal/cli/session"
)

type verifyFlags struct {
	time, vek, manifest, pkg, reportData, root string
	allowMissingCRLs                           bool
	output                                     console.Format
}

func (a *commands) verifyCmd() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify <file>",
		Short: "Verify a quote or report",
		Long: `Verify a quote or report: that it is genuine, its TCB status, and whether a policy accepts it.

With --collateral nothing is fetched; the file is a bundle of 'marblerun collateral export', or the collateral of one
platform as JSON (tcb_info, qe_identity, …). Without it, Intel's or AMD's services are asked.

The exit code is 0 if the evidence is genuine, has a TCB status and, if --manifest, --era-config or --report-data are
given, fulfills them. Otherwise it is 1, and every reason is printed.`,
		Example: "marblerun evidence verify quote.bin --manifest manifest.json --package backend\n" +
			"marblerun evidence verify quote.bin --collateral bundle.json --time 2025-06-30T12:00:00Z -o json\n" +
			"marblerun evidence verify report.bin --vek vcek.der",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.verify(cmd.Context(), args[0], f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.time, "time", "", "time of the verification, RFC 3339 or Unix seconds (default: now)")
	flags.StringVar(&f.vek, "vek", "", "certificate of the key that signed an SNP report (VCEK or VLEK), DER or PEM;\n"+
		"without --collateral, AMD's revocation list is then not looked at")
	flags.StringVar(&f.manifest, "manifest", "", "manifest with a package that the evidence must fulfill")
	flags.StringVar(&f.pkg, "package", "", "name of that package (default: any)")
	flags.StringVar(&f.reportData, "report-data", "", "wanted report data in hex, at most 64 bytes; zeros follow")
	flags.StringVar(&f.root, "root", "", "same as --software-tee-root")
	flags.BoolVar(&f.allowMissingCRLs, "allow-missing-crls", false,
		"go without revocation lists that cannot be had: a stolen and revoked key would pass")
	f.output.Add(cmd)
	return cmd
}

func (a *commands) verify(ctx context.Context, path string, f verifyFlags) error {
	in, err := readInput(path)
	if err != nil {
		return err
	}
	policies, err := a.policies(f)
	if err != nil {
		return err
	}
	want, err := parseReportData(f.reportData)
	if err != nil {
		return err
	}
	v, err := a.verification(f)
	if err != nil {
		return err
	}
	r, cause := a.judge(ctx, in, v)
	r.apply(policies)
	if r.verdict != nil && want != nil {
		if reason := attest.CheckReportData(r.verdict, *want); reason != nil {
			r.refuse("", *reason)
		}
	}
	if f.output.JSON() {
		err = a.WriteJSON(r)
	} else {
		err = a.Write(r.text())
	}
	if err != nil || r.Accepted {
		return err
	}
	return r.failure(path, cause)
}

// verification turns flags into settings.
func (a *commands) verification(f verifyFlags) (session.Verification, error) {
	v := session.Verification{AllowMissingCRLs: f.allowMissingCRLs, SoftwareRoot: f.root, Time: time.Now().UTC()}
	var err error
	if f.time != "" {
		if v.Time, err = parseTime(f.time); err != nil {
			return v, err
		}
	}
	if f.vek == "" {
		return v, nil
	}
	if v.VEK, err = os.ReadFile(f.vek); err != nil {
		return v, err
	}
	if len(v.VEK) == 0 {
		return v, fmt.Errorf("%s is empty", f.vek)
	}
	// Tools write the chain after the certificate. Who issued it is known.
	if first, rest := pem.Decode(v.VEK); first != nil && len(rest) > 0 {
		v.VEK = pem.EncodeToMemory(first)
	}
	return v, nil
}

func parseTime(text string) (time.Time, error) {
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(seconds, 0).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("--time: %q is neither RFC 3339, e.g. 2025-06-30T12:00:00Z, nor Unix seconds", text)
	}
	return t.UTC(), nil
}

// parseReportData returns nil if nothing is wanted.
func parseReportData(text string) (*[64]byte, error) {
	if text == "" {
		return nil, nil
	}
	data, err := hex.DecodeString(strings.TrimPrefix(text, "0x"))
	if err != nil || len(data) > 64 {
		return nil, errors.New("--report-data must be at most 64 bytes in hex")
	}
	var want [64]byte
	copy(want[:], data)
	return &want, nil
}

// judge verifies the evidence. It returns the error of the verification besides the result, for its hint.
func (a *commands) judge(ctx context.Context, in input, v session.Verification) (*result, error) {
	r := &result{Time: v.Time, Reasons: []reason{}, Advisories: []string{}}
	e, err := in.parse()
	if err != nil {
		r.refuse("", attest.Reason{Code: attest.CodeQuoteFormat, Text: err.Error()})
		return r, err
	}
	r.TEE = e.TEE
	if a.onlyVEK(e, v) {
		v.AllowMissingCRLs = true
	}
	verifier, err := a.NewVerifier(v)
	if err != nil {
		r.refuse("", attest.Reason{Code: codeSetup, Text: err.Error()})
		return r, err
	}
	claims, err := verifier.Verify(ctx, in.raw)
	if err == nil {
		r.genuine(claims)
		return r, nil
	}
	r.refused(err)
	if wantsCRLs(err) {
		v.AllowMissingCRLs, v.Trial = true, true
		a.tryWithoutCRLs(ctx, in, v, r)
	}
	return r, err
}

// onlyVEK: the user vouches for the certificate of the signing key, and there is nowhere to take a CRL from but the
// evidence.
func (a *commands) onlyVEK(e attest.Evidence, v session.Verification) bool {
	return e.TEE == attest.SNP && len(v.VEK) > 0 && !a.FlagSet("collateral") && !v.AllowMissingCRLs
}

// wantsCRLs tells whether there would be a status, or none for such a platform, if CRLs were not missing.
func wantsCRLs(err error) bool {
	var refusal *attest.Refusal
	return errors.As(err, &refusal) && refusal.HasCode(attest.CodeCRLMissing) &&
		!slices.ContainsFunc(refusal.Reasons, func(r attest.Reason) bool {
			return r.Code != attest.CodeCRLMissing && r.Code != attest.CodeNotSupported
		})
}

// tryWithoutCRLs shows what the evidence would be worth if the CRLs had nothing against it. It stays refused.
func (a *commands) tryWithoutCRLs(ctx context.Context, in input, v session.Verification, r *result) {
	verifier, err := a.NewVerifier(v)
	if err != nil {
		return
	}
	claims, err := verifier.Verify(ctx, in.raw)
	var refusal *attest.Refusal
	switch {
	case err == nil:
		r.show(claims)
	case errors.As(err, &refusal) && refusal.Claims != nil:
		r.show(refusal.Claims)
	default:
		return
	}
	r.Notes = append(r.Notes, "all else holds: with revocation lists, or with --allow-missing-crls, the status would be "+
		string(r.TCBStatus))
}

// failure is the error of a refusal; the reasons were printed.
func (r *result) failure(path string, cause error) error {
	what := "is not accepted"
	if !r.Genuine {
		what = "is not verified"
	}
	err := fmt.Errorf("%s %s: %s", path, what, r.Reasons[0].Text)
	if n := len(r.Reasons) - 1; n > 0 {
		err = fmt.Errorf("%w (and %d more)", err, n)
	}
	if hint := api.Hint(cause); hint != "" {
		return api.WithHint(err, hint)
	}
	return err
}
