// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/internal/shares"
)

// holder is the holder of a recovery key, with the plain secret.
type holder struct {
	key    *rsa.PrivateKey
	secret []byte
}

func (h holder) sign(t *testing.T, secret []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(secret)
	signature, err := rsa.SignPKCS1v15(nil, h.key, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// sealedState makes a state directory that only its holders "k0", "k1" … can open.
func sealedState(t *testing.T, n, threshold int) (Config, []holder) {
	t.Helper()
	cfg := testConfig(filepath.Join(t.TempDir(), "state"))
	var holders []holder
	var keys []string
	for i := range n {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		keys = append(keys, fmt.Sprintf(`"k%d":%s`, i, jsonString(t, text)))
		holders = append(holders, holder{key: key})
	}
	c := newTestCoordinator(t, cfg.SealDir)
	encrypted, err := c.SetManifest(t.Context(), testManifest(fmt.Sprintf(
		`,"RecoveryKeys":{%s},"Config":{"RecoveryThreshold":%d}`, strings.Join(keys, ","), threshold)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range holders {
		holders[i].secret, err = shares.Decrypt(encrypted[fmt.Sprintf("k%d", i)], holders[i].key)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(cfg.SealDir, "sealed_key")); err != nil {
		t.Fatal(err)
	}
	return cfg, holders
}

func openSealed(t *testing.T, cfg Config) *Coordinator {
	t.Helper()
	c, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	if s := c.Status(); s.Code != StateRecovery {
		t.Fatalf("state %d", s.Code)
	}
	return c
}

func give(t *testing.T, c *Coordinator, h holder, remaining int) {
	t.Helper()
	if got, err := c.Recover(t.Context(), h.secret, h.sign(t, h.secret)); err != nil || got != remaining {
		t.Fatalf("remaining %d, want %d, error %v", got, remaining, err)
	}
}

// flaky is a source of evidence that fails when it is told to.
type flaky struct{ fail bool }

func (f *flaky) Issue(context.Context, [64]byte) ([]byte, error) {
	if f.fail {
		return nil, errors.New("no collateral today")
	}
	return []byte("quote"), nil
}

// What fails for a reason of its own, after the last secret, can be tried again with it.
func TestRecoveryAgainAfterOtherFailure(t *testing.T) {
	cfg, holders := sealedState(t, 2, 0)
	issuer := &flaky{}
	cfg.Issuer = issuer
	c := openSealed(t, cfg)
	give(t, c, holders[0], 1)
	issuer.fail = true
	last := holders[1]
	if _, err := c.Recover(t.Context(), last.secret, last.sign(t, last.secret)); CodeOf(err) != Internal {
		t.Fatal(err)
	}
	issuer.fail = false
	give(t, c, last, 0)
	if s := c.Status(); s.Code != StateAcceptingMarbles {
		t.Errorf("state %d", s.Code)
	}
}

// A bad signature is forgotten for good, and the good secret that showed it is kept, also over a restart.
func TestBadSignatureAndRestart(t *testing.T) {
	cfg, holders := sealedState(t, 2, 0)
	c := openSealed(t, cfg)
	if _, err := c.Recover(t.Context(), holders[0].secret, []byte("bad")); err != nil {
		t.Fatal(err)
	}
	_, err := c.Recover(t.Context(), holders[1].secret, holders[1].sign(t, holders[1].secret))
	const want = `recovery secret signature mismatch: the signature does not belong to the recovery key "k0" (`
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	c = openSealed(t, cfg)
	give(t, c, holders[0], 0)
}

// The header of sealed_data is in the clear. If it names fewer secrets than it takes, they are not called a success.
func TestEditedThreshold(t *testing.T) {
	cfg, holders := sealedState(t, 4, 3)
	path := filepath.Join(cfg.SealDir, "sealed_data")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, withThreshold(t, data, `"threshold":3`, `"threshold":2`), 0o600); err != nil {
		t.Fatal(err)
	}
	c := openSealed(t, cfg)
	give(t, c, holders[0], 1)
	for _, h := range holders[1:] {
		remaining, err := c.Recover(t.Context(), h.secret, h.sign(t, h.secret))
		if err == nil || !strings.Contains(err.Error(), "sealed_data was damaged or changed") {
			t.Errorf("remaining %d, error %v", remaining, err)
		}
	}
	if s := c.Status(); s.Code != StateRecovery {
		t.Errorf("state %d", s.Code)
	}
}

// withThreshold edits the recovery data in the header and corrects the checksums, of docs/design/journal.md.
func withThreshold(t *testing.T, file []byte, before, after string) []byte {
	t.Helper()
	const fixed = 80
	h := int(binary.BigEndian.Uint32(file[12:]))
	_, rest, _ := bytes.Cut(file[fixed:fixed+h], []byte(`"recovery":"`))
	old, _, found := bytes.Cut(rest, []byte(`"`))
	meta, err := base64.StdEncoding.DecodeString(string(old))
	if err != nil || !found || !bytes.Contains(meta, []byte(before)) {
		t.Fatalf("no threshold in %q, %v", meta, err)
	}
	edited := base64.StdEncoding.EncodeToString(bytes.Replace(meta, []byte(before), []byte(after), 1))
	copy(file[fixed:], bytes.Replace(file[fixed:fixed+h], old, []byte(edited), 1))
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	end := fixed + h + int(binary.BigEndian.Uint64(file[16:]))
	binary.BigEndian.PutUint32(file[72:], crc32.Checksum(file[fixed:end], castagnoli))
	binary.BigEndian.PutUint32(file[76:], crc32.Checksum(file[:76], castagnoli))
	return file
}
