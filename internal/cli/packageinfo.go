// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/internal/sigstruct"
)

// packageInfo makes the command package-info. It needs no Coordinator.
func packageInfo(c *console.Console) *cobra.Command {
	var output console.Format
	cmd := &cobra.Command{
		Use:   "package-info <path>",
		Short: "Print what a manifest must say about an SGX package",
		Long: `Print what a manifest must say about an SGX package: UniqueID, SignerID, ProductID, SecurityVersion.

The path is one of
  an EGo or Open Enclave executable
  a Gramine directory or .sig file
  an Occlum image, or a signed library of the SGX SDK

The values are those of the enclave's signature, which is verified.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			found, err := sigstruct.Inspect(args[0])
			if err != nil {
				return packageError(c, err)
			}
			if output.JSON() {
				return c.WriteJSON(packageJSON(args[0], found))
			}
			printPackage(c, args[0], found)
			return nil
		},
	}
	output.Add(cmd)
	return cmd
}

// packageError says which ways were tried, and why each led to nothing.
func packageError(c *console.Console, err error) error {
	var tried sigstruct.DetectionError
	if !errors.As(err, &tried) {
		return err
	}
	c.Note("%s", console.Paint(c.ColorErr, console.Red, "ERROR:")+
		" Failed to automatically determine SGX package signature properties.")
	for _, t := range tried {
		c.Note("  %s: %v", t.Method, t.Err)
	}
	return errors.New("unable to determine enclave properties")
}

func printPackage(c *console.Console, path string, p *sigstruct.Package) {
	subject := "'" + path + "'"
	if p.Directory {
		noun := map[sigstruct.Kind]string{sigstruct.Gramine: "Gramine instance", sigstruct.Occlum: "Occlum image"}[p.Kind]
		c.Say("Detected %s.", noun)
		subject = noun + " at " + subject
	}
	c.Say("PackageProperties for %s:", subject)
	c.Say("UniqueID (MRENCLAVE)      : %x", p.UniqueID)
	c.Say("SignerID (MRSIGNER)       : %x", p.SignerID)
	c.Say("ProductID (ISVPRODID)     : %d", p.ProductID)
	c.Say("SecurityVersion (ISVSVN)  : %d", p.SecurityVersion)
	c.Note("Date of the signature: %s. Debug mode: %s.", signatureDate(p.Structure), p.Debug())
	for _, warning := range p.Warnings {
		c.Warn("%s", warning)
	}
}

func signatureDate(s *sigstruct.Structure) string {
	if s.Date().IsZero() {
		return "none"
	}
	return s.Date().Format("2006-01-02")
}

// packageReport is the JSON form. Package can be copied into the Packages of a manifest.
type packageReport struct {
	Path           string          `json:"path"`
	File           string          `json:"file"`
	Kind           string          `json:"kind"`
	Package        packageProperty `json:"package"`
	Date           string          `json:"date"`
	Debug          string          `json:"debug"`
	SignatureValid bool            `json:"signatureValid"`
	Warnings       []string        `json:"warnings"`
}

type packageProperty struct {
	UniqueID, SignerID         string
	ProductID, SecurityVersion uint16
}

func packageJSON(path string, p *sigstruct.Package) packageReport {
	return packageReport{
		Path: path, File: p.File, Kind: string(p.Kind),
		Package: packageProperty{
			UniqueID: hex.EncodeToString(p.UniqueID[:]), SignerID: hex.EncodeToString(p.SignerID[:]),
			ProductID: p.ProductID, SecurityVersion: p.SecurityVersion,
		},
		Date: signatureDate(p.Structure), Debug: fmt.Sprint(p.Debug()), SignatureValid: p.Verify() == nil,
		Warnings: append([]string{}, p.Warnings...),
	}
}
