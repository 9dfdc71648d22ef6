// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
)

// The resource keys of the SGX device plugins that are known by their name.
const (
	IntelEPC   = "sgx.intel.com/epc"
	AzureEPC   = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
	AlibabaEPC = "alibabacloud.com/sgx_epc_MiB"

	// NoResource stands for a cluster without SGX: nothing is asked for, as the scheduler would never find it.
	NoResource = "none"

	intelEnclave   = "sgx.intel.com/enclave"
	intelProvision = "sgx.intel.com/provision"
)

// Config of an Injector.
type Config struct {
	// CoordinatorAddr is host:port of the Coordinator's Marble API, as Marbles reach it.
	CoordinatorAddr string
	// ClusterDomain is the DNS domain of the cluster, usually cluster.local.
	ClusterDomain string
	// Resource is the extended resource of the SGX device plugin: one of the constants above, or another plugin's.
	// With NoResource no Pod gets resources or tolerations.
	Resource string
	// Quantity is how much of Resource a container gets if it says nothing, as a Kubernetes quantity; "" means 10Mi for
	// Intel's plugin and 10 for any other. Azure's and Alibaba's plugins count MiB.
	Quantity string
}

// Injector decides about Pods. It is immutable.
type Injector struct {
	cfg    Config
	plugin plugin
}

// plugin is how one SGX device plugin wants its resources asked for.
type plugin struct {
	// It is empty if there is no plugin.
	key string
	// quantity is the default amount of key.
	quantity string
	// devices are further resources, one each: those of every enclave, and those of an enclave that makes its own quotes.
	enclave, provision string
	// fromSize turns a requested EPC size into an amount of key.
	fromSize func(quantity) (string, error)
}

// New checks the configuration. The error names all problems.
func New(cfg Config) (*Injector, error) {
	if cfg.Quantity == "" {
		cfg.Quantity = "10"
		if cfg.Resource == IntelEPC {
			cfg.Quantity = "10Mi"
		}
	}
	if err := errors.Join(checkAddress(cfg.CoordinatorAddr), checkDomain(cfg.ClusterDomain),
		checkResource(cfg.Resource), checkQuantity(cfg.Quantity)); err != nil {
		return nil, err
	}
	p := plugin{key: cfg.Resource, quantity: cfg.Quantity, fromSize: verbatim}
	switch cfg.Resource {
	case NoResource:
		p.key = ""
	case IntelEPC:
		p.enclave, p.provision, p.fromSize = intelEnclave, intelProvision, inBytes
	case AzureEPC, AlibabaEPC:
		p.fromSize = inMiB
	}
	return &Injector{cfg: cfg, plugin: p}, nil
}

func checkAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if n, convErr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || convErr != nil || n == 0 {
		return fmt.Errorf("Coordinator address %q: want host:port, e.g. coordinator-mesh-api.marblerun:2001", addr)
	}
	return nil
}

func checkDomain(domain string) error {
	for label := range strings.SplitSeq(domain, ".") {
		if !isDNSLabel(strings.ToLower(label)) {
			return fmt.Errorf("cluster domain %q: want a DNS name, e.g. cluster.local", domain)
		}
	}
	return nil
}

// An extended resource is a DNS name, a slash and a name of at most 63 characters.
func checkResource(key string) error {
	if key == NoResource {
		return nil
	}
	domain, name, found := strings.Cut(key, "/")
	if !found || len(domain) > 253 || checkDomain(domain) != nil || !isLabelValue(name) {
		return fmt.Errorf("SGX resource %q: want an extended resource of a device plugin, e.g. %s, or %s", key, IntelEPC,
			NoResource)
	}
	return nil
}

func checkQuantity(text string) error {
	if _, err := parseQuantity(text); err != nil {
		return fmt.Errorf("SGX quantity: %w", err)
	}
	return nil
}

var (
	labelValue = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$`)
	dnsLabel   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

// isLabelValue tells whether s is a non-empty value of a Kubernetes label.
func isLabelValue(s string) bool { return labelValue.MatchString(s) }

// isDNSLabel tells whether s is a label of RFC 1123, as the name of a Service or a volume must be.
func isDNSLabel(s string) bool { return dnsLabel.MatchString(s) }
