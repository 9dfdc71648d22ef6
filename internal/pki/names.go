// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// localhost names nobody but the machine itself, so that every Marble may carry it.
const localhost = "localhost"

// reservedNames are the Coordinator's own names: a Marble that carried one could pass as the Coordinator to a client
// that trusts the root certificate.
type reservedNames struct {
	dns []string // lower case, no trailing dot
	ips []netip.Addr
}

func newReservedNames(root *x509.Certificate) reservedNames {
	var r reservedNames
	for _, name := range root.DNSNames {
		if name = canonicalName(name); name != localhost {
			r.dns = append(r.dns, name)
		}
	}
	for _, ip := range root.IPAddresses {
		if addr := toAddr(ip); !addr.IsLoopback() {
			r.ips = append(r.ips, addr)
		}
	}
	return r
}

// nameFilter decides which names of a CSR a leaf may carry.
type nameFilter struct {
	reserved   reservedNames
	allowed    []string // lower case; nil allows every name that is not reserved
	allowedIPs []netip.Addr
	limited    bool
}

func newNameFilter(reserved reservedNames, allowed []string) nameFilter {
	f := nameFilter{reserved: reserved, limited: allowed != nil}
	for _, name := range allowed {
		if addr, err := netip.ParseAddr(name); err == nil {
			f.allowedIPs = append(f.allowedIPs, addr.Unmap())
		} else {
			f.allowed = append(f.allowed, canonicalName(name))
		}
	}
	return f
}

// split returns the names of csr that the leaf carries, in their order and spelling, and those that were dropped.
func (f nameFilter) split(csr *CSR) (dns []string, ips []net.IP, dropped []string) {
	for _, name := range csr.DNSNames {
		if f.dnsOK(name) {
			dns = append(dns, name)
		} else {
			dropped = append(dropped, name)
		}
	}
	for _, ip := range csr.IPs {
		if f.ipOK(toAddr(ip)) {
			ips = append(ips, ip)
		} else {
			dropped = append(dropped, ip.String())
		}
	}
	return dns, ips, dropped
}

func (f nameFilter) dnsOK(raw string) bool {
	name := canonicalName(raw)
	if name == "" || strings.ContainsFunc(name, isControl) {
		return false // such a name only confuses verifiers; NUL is the classic
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		return f.ipOK(addr.Unmap()) // old verifiers compare an IP with DNS SANs
	}
	if name == localhost {
		return true
	}
	if slices.ContainsFunc(f.reserved.dns, func(own string) bool { return own == name || covers(name, own) }) {
		return false
	}
	if strings.Contains(name, "*") {
		return !f.limited // a wildcard in the list stands for one label, not for a wildcard
	}
	return !f.limited || slices.ContainsFunc(f.allowed, func(p string) bool { return p == name || covers(p, name) })
}

func (f nameFilter) ipOK(addr netip.Addr) bool {
	if addr.IsLoopback() {
		return true
	}
	return !slices.Contains(f.reserved.ips, addr) && (!f.limited || slices.Contains(f.allowedIPs, addr))
}

// covers tells whether pattern is a wildcard that matches name. The star stands for exactly one label, as in TLS, or, as
// OpenSSL has it by default, for a part of the first label.
func covers(pattern, name string) bool {
	first, suffix, ok := strings.Cut(pattern, ".")
	before, after, wild := strings.Cut(first, "*")
	if !ok || !wild {
		return false
	}
	label, rest, ok := strings.Cut(name, ".")
	return ok && label != "" && rest == suffix && len(label) >= len(before)+len(after) &&
		strings.HasPrefix(label, before) && strings.HasSuffix(label, after)
}

func canonicalName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

// toAddr returns the zero Addr for an address that is neither 4 nor 16 bytes long.
func toAddr(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}
