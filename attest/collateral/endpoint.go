// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/collateral/internal/item"
)

// IntelPCS is Intel's provisioning certification service.
const IntelPCS = "https://api.trustedservices.intel.com/sgx/certification/v4/"

const (
	intelPCSHost = "api.trustedservices.intel.com"
	// intelRootCRL is where Intel has the root CRL; only a PCCS has it beside the rest.
	intelRootCRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
)

// endpoint is a PCS or PCCS (FORMATS §1.8).
type endpoint struct {
	name    string // for people, without credentials
	sgx     string // e.g. https://host/sgx/certification/v4
	tdx     string
	rootCRL string
	updates bool // knows the parameter "update": version 4
}

// newEndpoint reads a base URL, with or without the path /sgx/certification/v4/. Version 3, which has no TDX of its
// own, works too.
func newEndpoint(base string) (endpoint, error) {
	u, err := parseBase(base)
	if err != nil {
		return endpoint{}, err
	}
	version := "4"
	for _, v := range []string{"3", "4"} {
		if prefix, ok := strings.CutSuffix(u.Path, "/sgx/certification/v"+v); ok {
			u.Path, version = prefix, v
		}
	}
	root := u.String()
	ep := endpoint{name: u.Redacted(), sgx: root + "/sgx/certification/v" + version, tdx: root + "/tdx/certification/v4",
		updates: version != "3"}
	ep.rootCRL = ep.sgx + "/rootcacrl"
	if u.Host == intelPCSHost {
		ep.rootCRL = intelRootCRL
	}
	return ep, nil
}

// parseBase reads the URL of a service.
func parseBase(base string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(base))
	if err != nil {
		return nil, errors.New("URL of a collateral service cannot be read") // the error would show a password in it
	}
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("URL of a collateral service %q: want http(s)://host[:port][/path]", u.Redacted())
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	return u, nil
}

// dataset is which of Intel's data sets is wanted.
type dataset struct {
	update string // "standard" or "early"
	number int    // a TCB evaluation data number instead, if not 0
}

func (d dataset) query(ep endpoint) string {
	switch {
	case d.number != 0:
		return "tcbEvaluationDataNumber=" + strconv.Itoa(d.number)
	case ep.updates:
		return "update=" + d.update
	}
	return ""
}

// urls are those of the items of a need at an endpoint.
func (ep endpoint) urls(need DCAPNeed, d dataset) map[item.Kind]string {
	base := ep.sgx
	if need.TEE == attest.TDX {
		base = ep.tdx
	}
	query := d.query(ep)
	tcb, identity := base+"/tcb?fmspc="+url.QueryEscape(need.FMSPC), base+"/qe/identity"
	if query != "" {
		tcb, identity = tcb+"&"+query, identity+"?"+query
	}
	return map[item.Kind]string{
		item.TCBInfo: tcb, item.QEIdentity: identity,
		item.PCKCRL:  ep.sgx + "/pckcrl?ca=" + url.QueryEscape(string(need.CA)) + "&encoding=der",
		item.RootCRL: ep.rootCRL,
	}
}
