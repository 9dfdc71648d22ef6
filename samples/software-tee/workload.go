// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/softtee"
)

// workload is a program as this TEE measures it.
type workload struct {
	name    string
	kind    softtee.Kind
	machine softtee.Machine
	// content is what is measured: that of the program, or else the name.
	content []byte
	signer  string
	product uint16
	svn     uint16
	// bySigner has a package pin signer, product id and security version instead of the measurement.
	bySigner bool
	measured softtee.Workload
}

// names can be file names and names of Marbles.
var names = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// parseWorkloads reads the arguments and finds all problems in them.
func parseWorkloads(args []string) (list []workload, err error) {
	if len(args) == 0 {
		return nil, errors.New("no workloads. Example: software-tee coordinator=sgx-v3 web=tdx-v4,program=bin/web")
	}
	seen := map[string]bool{}
	for _, arg := range args {
		w, problem := parseWorkload(arg)
		if problem == nil && seen[w.name] {
			problem = errors.New("there is a workload of this name already")
		}
		if problem != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", arg, problem))
		}
		seen[w.name] = true
		list = append(list, w)
	}
	return list, err
}

func parseWorkload(arg string) (w workload, err error) {
	name, rest, _ := strings.Cut(arg, "=")
	parts := strings.Split(rest, ",")
	w = workload{name: name, kind: softtee.Kind(parts[0]), machine: softtee.Machine{Name: "machine"},
		content: []byte(name), signer: "samples", product: 1, svn: 1}
	if !names.MatchString(name) {
		return w, errors.New("a workload is NAME=KIND[,OPTION]..., with letters, digits and _.- in its name")
	}
	if !slices.Contains(softtee.Kinds(), w.kind) {
		return w, fmt.Errorf("unknown kind %q, must be one of %v", w.kind, softtee.Kinds())
	}
	for _, option := range parts[1:] {
		key, value, _ := strings.Cut(option, "=")
		if problem := w.set(key, value); problem != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", option, problem))
		}
	}
	w.measure()
	return w, err
}

// set sets an option.
func (w *workload) set(key, value string) (err error) {
	if slices.Contains([]string{"signer", "product", "svn"}, key) {
		if w.kind.TEE() != attest.SGX {
			return errors.New("only SGX has this")
		}
		w.bySigner = true
	}
	switch key {
	case "program":
		w.content, err = os.ReadFile(value)
	case "signer":
		w.signer = value
	case "product":
		w.product, err = number(value)
	case "svn":
		w.svn, err = number(value)
	case "status":
		w.machine = softtee.Machine{Name: "machine " + value, Status: attest.TCBStatus(value)}
	case "debug":
		w.measured.Debug = true
	default:
		return errors.New("unknown option, must be program, signer, product, svn, status or debug")
	}
	return err
}

// number reads 1 to 65535: the software TEE takes 0 for unset.
func number(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("must be a number from 1 to 65535")
	}
	return uint16(n), nil
}

// measure does what a TEE does when it loads a program. In a confidential VM that is the firmware; here it is the
// program in all TEEs.
func (w *workload) measure() {
	short, long := sha256.Sum256(w.content), sha512.Sum384(w.content)
	signer := sha256.Sum256([]byte(w.signer))
	switch w.kind.TEE() {
	case attest.SGX:
		w.measured.SGX = attest.SGXClaims{MRENCLAVE: hex.EncodeToString(short[:]),
			MRSIGNER: hex.EncodeToString(signer[:]), ISVPRODID: w.product, ISVSVN: w.svn}
	case attest.TDX:
		w.measured.TDX = attest.TDXClaims{MRTD: hex.EncodeToString(long[:])}
	case attest.SNP:
		w.measured.SNP = attest.SNPClaims{Measurement: hex.EncodeToString(long[:])}
	}
}

// request asks for evidence that says nothing but what is measured.
func (w workload) request() softtee.Request {
	return softtee.Request{Kind: w.kind, Machine: w.machine, Workload: w.measured}
}

// The package of a workload, and likewise the policy of a Coordinator, as JSON.
type (
	pinned struct {
		Debug           bool       `json:",omitempty"`
		UniqueID        string     `json:",omitempty"`
		SignerID        string     `json:",omitempty"`
		ProductID       uint16     `json:",omitempty"`
		SecurityVersion uint16     `json:",omitempty"`
		TDX             *pinnedTDX `json:",omitempty"`
		SNP             *pinnedSNP `json:",omitempty"`
	}
	pinnedTDX struct{ MRTD string }
	pinnedSNP struct{ Measurement string }
)

func (w workload) pinned() pinned {
	p := pinned{Debug: w.measured.Debug}
	switch sgx := w.measured.SGX; {
	case w.kind.TEE() == attest.TDX:
		p.TDX = &pinnedTDX{w.measured.TDX.MRTD}
	case w.kind.TEE() == attest.SNP:
		p.SNP = &pinnedSNP{w.measured.SNP.Measurement}
	case w.bySigner:
		p.SignerID, p.ProductID, p.SecurityVersion = sgx.MRSIGNER, sgx.ISVPRODID, sgx.ISVSVN
	default:
		p.UniqueID = sgx.MRENCLAVE
	}
	return p
}
