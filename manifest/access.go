// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Feature reports whether a feature gate is open. Gates are case-insensitive.
func (m *Manifest) Feature(gate string) bool { return containsFold(m.Config.FeatureGates, gate) }

// SealMode is the effective seal mode.
func (m *Manifest) SealMode() string {
	if m.Config.SealMode == "" {
		return SealProductKey
	}
	return m.Config.SealMode
}

// DER is the user's certificate.
func (u User) DER() ([]byte, error) {
	block, _ := pem.Decode([]byte(u.Certificate))
	if block == nil {
		return nil, errors.New("not PEM")
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return nil, fmt.Errorf("parsing certificate: %w", err)
	}
	return block.Bytes, nil
}

// UserByDER returns the user with that certificate, "" if there is none. Whole certificates are compared and nothing
// else about them, so that expired ones work.
func (m *Manifest) UserByDER(der []byte) string {
	for _, name := range sortedKeys(m.Users) {
		block, _ := pem.Decode([]byte(m.Users[name].Certificate))
		if block != nil && bytes.Equal(block.Bytes, der) {
			return name
		}
	}
	return ""
}

// Can reports whether one of the user's roles permits the action on the resource. The name is "" for the manifest
// itself.
func (m *Manifest) Can(user, resourceType, action, name string) bool {
	for _, role := range m.Users[user].Roles {
		r := m.Roles[role]
		if r.ResourceType != resourceType || !containsFold(r.Actions, action) {
			continue
		}
		if resourceType == ResourceManifest || slices.Contains(r.ResourceNames, name) {
			return true
		}
	}
	return false
}

// Updaters are the users who may propose and acknowledge a full update, sorted.
func (m *Manifest) Updaters() []string {
	grants := make(map[string]bool)
	for name, r := range m.Roles {
		grants[name] = r.ResourceType == ResourceManifest && containsFold(r.Actions, ActionUpdateManifest)
	}
	var users []string
	for _, name := range sortedKeys(m.Users) {
		if slices.ContainsFunc(m.Users[name].Roles, func(role string) bool { return grants[role] }) {
			users = append(users, name)
		}
	}
	return users
}

// RequiredAcknowledgments is how many Updaters a full update needs, its proposer included.
func (m *Manifest) RequiredAcknowledgments() int {
	if m.Config.UpdateThreshold > 0 {
		return int(min(m.Config.UpdateThreshold, 1<<31-1))
	}
	return len(m.Updaters())
}

// RecoveryScheme is how many of how many recovery keys recover the state; 0 of 0 without keys.
func (m *Manifest) RecoveryScheme() (threshold, n int) {
	n = len(m.RecoveryKeys)
	if t := m.Config.RecoveryThreshold; t > 0 && n > 0 {
		return int(min(t, 1<<31-1)), n
	}
	return n, n
}

// AllowsName reports whether the Marble's certificate may contain the DNS name or IP address.
func (m Marble) AllowsName(name string) bool {
	if m.AllowedNames == nil {
		return true
	}
	return slices.ContainsFunc(m.AllowedNames, func(pattern string) bool { return matchName(pattern, name) })
}

func matchName(pattern, name string) bool {
	if a, b := net.ParseIP(pattern), net.ParseIP(name); a != nil || b != nil {
		return a != nil && a.Equal(b)
	}
	if suffix, ok := strings.CutPrefix(pattern, "*."); ok {
		label, rest, found := strings.Cut(name, ".")
		return found && label != "" && label != "*" && strings.EqualFold(rest, suffix)
	}
	return strings.EqualFold(pattern, name)
}

func containsFold(list []string, word string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, word) })
}
