// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/attest/collateral"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/snp"
)

const importedSuffix = ".bundle.json"

// collateralDir is the folder for fetched and imported collateral.
func (s *Session) collateralDir() (string, error) {
	if s.CacheDir == nil {
		return "", errors.New("no cache directory")
	}
	dir, err := s.CacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "marblerun", "collateral"), nil
}

// ReadBundle reads a collateral file.
func ReadBundle(path string) (*collateral.Bundle, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the collateral: %w", err)
	}
	defer f.Close() // only read
	bundle, err := collateral.Import(f)
	if err != nil {
		return nil, api.WithHint(fmt.Errorf("%s: %w", path, err),
			"The file must come from 'marblerun collateral export', or hold the collateral of one platform as JSON.")
	}
	return bundle, nil
}

// Import keeps a bundle for later commands and returns the file that it is in. What is kept already is not kept twice,
// and what has expired is kept no longer.
func (s *Session) Import(bundle *collateral.Bundle) (string, error) {
	dir, err := s.collateralDir()
	if err != nil {
		return "", api.WithHint(fmt.Errorf("no place for collateral: %w", err), "Pass the file with --collateral instead.")
	}
	var content bytes.Buffer
	if err := bundle.Export(&content); err != nil {
		return "", err
	}
	sum := sha256.Sum256(content.Bytes())
	path := filepath.Join(dir, hex.EncodeToString(sum[:8])+importedSuffix)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	tmp, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = tmp.Write(content.Bytes())
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(tmp.Name()))
	}
	return path, s.dropExpired(path, time.Now())
}

// dropExpired removes imported bundles of which something has expired, but for one.
func (s *Session) dropExpired(but string, now time.Time) error {
	var problems []error
	for _, path := range s.Imported() {
		bundle, err := ReadBundle(path)
		if err == nil && path != but && expired(bundle, now) {
			problems = append(problems, os.Remove(path))
		}
	}
	return errors.Join(problems...)
}

// expired tells whether something in the bundle is past its time.
func expired(b *collateral.Bundle, now time.Time) bool {
	next := b.NextUpdate()
	return !next.IsZero() && next.Before(now)
}

// Imported lists the files of imported bundles.
func (s *Session) Imported() []string {
	dir, err := s.collateralDir()
	if err != nil {
		return nil
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*"+importedSuffix))
	if err != nil {
		return nil // a folder whose name is a bad pattern has none
	}
	return slices.Sorted(slices.Values(paths))
}

// importedBundles reads those that are valid at the given time, those with the newest collateral first: what is older
// would not know the latest TCB recovery. One that cannot be read is warned of and passed over: the services are still
// there.
func (s *Session) importedBundles(now time.Time) []*collateral.Bundle {
	var bundles []*collateral.Bundle
	for _, path := range s.Imported() {
		bundle, err := ReadBundle(path)
		if err != nil {
			s.Warn("%v", err)
			continue
		}
		if !expired(bundle, now) && !newest(bundle).After(now) {
			bundles = append(bundles, bundle)
		}
	}
	slices.SortStableFunc(bundles, func(a, b *collateral.Bundle) int { return newest(b).Compare(newest(a)) })
	return bundles
}

// newest is when the newest of what expires in a bundle was issued.
func newest(b *collateral.Bundle) (issued time.Time) {
	for _, c := range b.Show() {
		if !c.NextUpdate.IsZero() && c.Issued.After(issued) {
			issued = c.Issued
		}
	}
	return issued
}

// imported is a Source that asks the services only for what no imported bundle has, or has no longer.
type imported struct {
	*collateral.Fetcher
	session *Session
	bundles []*collateral.Bundle // all in them is valid
}

func (i *imported) tell(b *collateral.Bundle) {
	i.session.Note("Using imported collateral, valid until %s", b.NextUpdate().Format(time.RFC3339))
}

// DCAP gets the collateral of a quote.
func (i *imported) DCAP(ctx context.Context, need collateral.DCAPNeed) (*dcap.Collateral, error) {
	for _, b := range i.bundles {
		if col, err := b.DCAP(ctx, need); err == nil && len(col.PCKCRL) > 0 && len(col.RootCACRL) > 0 {
			i.tell(b)
			return col, nil
		}
	}
	return i.Fetcher.DCAP(ctx, need)
}

// SNP gets the certificates of a report. A bundle is used if it has AMD's CRL.
func (i *imported) SNP(ctx context.Context, need collateral.SNPNeed) (snp.Certificates, error) {
	without := need
	without.Have.CRL = nil
	for _, b := range i.bundles {
		if certs, err := b.SNP(ctx, without); err == nil && len(certs.CRL) > 0 {
			i.tell(b)
			return certs, nil
		}
	}
	return i.Fetcher.SNP(ctx, need)
}

// withVEK is a Source of SNP certificates that has that of the signing key.
type withVEK struct {
	collateral.Source
	vek []byte
}

// SNP gets the certificates of a report.
func (w *withVEK) SNP(ctx context.Context, need collateral.SNPNeed) (snp.Certificates, error) {
	need.Have.VEK = w.vek
	return w.Source.SNP(ctx, need)
}
