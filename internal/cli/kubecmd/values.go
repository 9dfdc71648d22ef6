// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package kubecmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/kube/install/values"
)

// givenFlags are values in Helm's notation.
type givenFlags struct{ files, json, set, setString, setFile []string }

func (f *givenFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.files, "values", "f", nil,
		`YAML file with values of the chart, "-" for stdin (can be repeated)`)
	flags.StringArrayVar(&f.set, "set", nil, "value of the chart, as NAME=VALUE in Helm's notation (can be repeated)")
	flags.StringArrayVar(&f.setString, "set-string", nil, "the same, always as a string")
	flags.StringArrayVar(&f.setFile, "set-file", nil, "the same, from a file: NAME=FILE")
	flags.StringArrayVar(&f.json, "set-json", nil, "the same, as JSON: NAME=JSON")
}

func (f *givenFlags) given(stdin io.Reader) values.Given {
	return values.Given{Files: f.files, JSON: f.json, Set: f.set, String: f.setString, File: f.setFile, Stdin: stdin}
}

// valueFlags are all flags of install that become values of the chart.
type valueFlags struct {
	givenFlags
	domains                          []string
	simulation, noInjection          bool
	distributed                      bool
	tee, resourceKey, quantity       string
	qcnlFile, pccsURL, secureCert    string
	meshServerPort, clientServerPort int
	changed                          func(string) bool
}

// Defaults of the chart that the help shows.
const (
	defaultPCCS       = "https://global.acccache.azure.net/sgx/certification/v4/"
	defaultSecureCert = "TRUE"
	defaultMeshPort   = 2001
	defaultClientPort = 4433
)

func (f *valueFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.domains, "domain", nil,
		"domain names and addresses by which clients from outside reach the Coordinator")
	flags.BoolVar(&f.simulation, "simulation", false, "run without a TEE: nothing is protected")
	flags.StringVar(&f.tee, "tee", values.SGX, "what the Coordinator runs in: sgx, tdx or sev-snp")
	flags.StringVar(&f.resourceKey, "resource-key", "", "resource of the SGX device plugin (default: that of the nodes)")
	flags.StringVar(&f.quantity, "resource-quantity", "",
		"how much of it the Coordinator and each Marble get (default: 10Mi of Intel's, 10 of others)")
	flags.BoolVar(&f.noInjection, "disable-auto-injection", false,
		"install without the injector: Pods have to be made Marbles by hand")
	flags.IntVar(&f.meshServerPort, "mesh-server-port", defaultMeshPort, "port for Marbles")
	flags.IntVar(&f.clientServerPort, "client-server-port", defaultClientPort, "port for clients")
	flags.StringVar(&f.pccsURL, "dcap-pccs-url", defaultPCCS, "PCCS that collateral for SGX and TDX comes from")
	flags.StringVar(&f.secureCert, "dcap-secure-cert", defaultSecureCert,
		"TRUE: the PCCS must have a certificate that is trusted")
	flags.StringVar(&f.qcnlFile, "dcap-qcnl-config-file", "", "sgx_default_qcnl.conf in place of these two")
	flags.BoolVar(&f.distributed, "distributed-deployment", false, "several Coordinators on one state (not supported yet)")
	f.givenFlags.add(cmd)
	cmd.MarkFlagsMutuallyExclusive("dcap-qcnl-config-file", "dcap-pccs-url")
	cmd.MarkFlagsMutuallyExclusive("dcap-qcnl-config-file", "dcap-secure-cert")
	cmd.MarkFlagsMutuallyExclusive("simulation", "tee")
	f.changed = flags.Changed
}

// wishes checks the flags, and reports all that is wrong with them.
func (f *valueFlags) wishes(stdin io.Reader) (values.Wishes, error) {
	w := values.Wishes{
		Domains: f.domains, Simulation: f.simulation, ResourceKey: f.resourceKey, ResourceQuantity: f.quantity,
		NoInjection: f.noInjection, Given: f.given(stdin),
	}
	if f.changed("tee") {
		w.TEE = f.tee
	}
	if f.changed("dcap-pccs-url") {
		w.PCCSURL = f.pccsURL
	}
	if f.changed("dcap-secure-cert") {
		w.SecureCert = f.secureCert
	}
	if f.changed("mesh-server-port") {
		w.MeshPort = f.meshServerPort
	}
	if f.changed("client-server-port") {
		w.ClientPort = f.clientServerPort
	}
	return w, errors.Join(f.checkDistributed(), f.checkDomains(), f.checkTEE(), f.checkResource(), f.checkPorts(),
		f.checkDCAP(&w))
}

func (f *valueFlags) checkDistributed() error {
	if !f.distributed {
		return nil
	}
	return api.WithHint(errors.New("--distributed-deployment is not supported yet"),
		"One Coordinator is restarted by Kubernetes if it fails, with its state.")
}

func (f *valueFlags) checkDomains() error {
	var errs []error
	for _, domain := range f.domains {
		if domain == "" || strings.ContainsAny(domain, "/ \t") || strings.Count(domain, ":") == 1 {
			errs = append(errs, fmt.Errorf("--domain: %q is not a domain name or address", domain))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return api.WithHint(errors.Join(errs...), "A domain has no scheme, path or port: mycluster.example.com.")
}

func (f *valueFlags) checkTEE() error {
	switch f.tee {
	case values.SGX, values.TDX, values.SEVSNP:
		return nil
	}
	return fmt.Errorf("--tee must be %s, %s or %s", values.SGX, values.TDX, values.SEVSNP)
}

func (f *valueFlags) checkResource() error {
	if f.quantity == "" {
		return nil
	}
	if q, err := resource.ParseQuantity(f.quantity); err != nil || q.Sign() <= 0 {
		return fmt.Errorf("--resource-quantity: %q is not an amount like 10 or 10Mi", f.quantity)
	}
	return nil
}

func (f *valueFlags) checkPorts() error {
	var errs []error
	for _, p := range []struct {
		name string
		port int
	}{{"mesh", f.meshServerPort}, {"client", f.clientServerPort}} {
		if p.port < 1 || p.port > 65535 {
			errs = append(errs, fmt.Errorf("--%s-server-port: %d is not a port", p.name, p.port))
		}
	}
	if len(errs) == 0 && f.meshServerPort == f.clientServerPort {
		errs = append(errs, fmt.Errorf("--mesh-server-port and --client-server-port are both %d", f.meshServerPort))
	}
	return errors.Join(errs...)
}

// checkDCAP also reads the file, whose text is a value.
func (f *valueFlags) checkDCAP(w *values.Wishes) error {
	if _, err := strconv.ParseBool(strings.ToLower(f.secureCert)); err != nil {
		return fmt.Errorf("--dcap-secure-cert must be TRUE or FALSE, not %q", f.secureCert)
	}
	if f.qcnlFile == "" {
		return nil
	}
	data, err := os.ReadFile(f.qcnlFile)
	if err != nil {
		return fmt.Errorf("--dcap-qcnl-config-file: %w", err)
	}
	w.QCNLConfig = string(data)
	return nil
}
