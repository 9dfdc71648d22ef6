// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

//go:build pkcs11

package credential_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ThalesGroup/crypto11"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/api/coordinatortest"
	"github.com/marblerun/marblerun/internal/cli/credential"
)

const pin = "31415926"

// softHSM is a new token of SoftHSM 2 with the label "test".
type softHSM struct {
	library, config string // config is the JSON file for the CLI
}

func newSoftHSM(t *testing.T) softHSM {
	t.Helper()
	if _, err := exec.LookPath("softhsm2-util"); err != nil {
		t.Skip("SKIP: SoftHSM 2 is not installed (apt-get install softhsm2)")
	}
	s := softHSM{}
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so",
		"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib/pkcs11/libsofthsm2.so"} {
		if _, err := os.Stat(path); err == nil {
			s.library = path
		}
	}
	if s.library == "" {
		t.Skip("SKIP: libsofthsm2.so is at none of the known places")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "softhsm2.conf"), []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\n"))
	t.Setenv("SOFTHSM2_CONF", filepath.Join(dir, "softhsm2.conf"))
	softhsm(t, "--init-token", "--free", "--label", "test", "--pin", pin, "--so-pin", "0000")
	s.config = s.configure(t, map[string]any{"Path": s.library, "Pin": pin, "TokenLabel": "test"})
	return s
}

func (s softHSM) configure(t *testing.T, config map[string]any) string {
	t.Helper()
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "token.json")
	write(t, path, data)
	return path
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func softhsm(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("softhsm2-util", args...).CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util %v: %v\n%s", args, err, out)
	}
}

// add imports a key under a literal ID and a label, with a self-signed certificate, which it returns as PEM.
func (s softHSM) add(t *testing.T, id, label string, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := keyFile(t, "PRIVATE KEY", der)
	softhsm(t, "--import", file, "--token", "test", "--pin", pin, "--label", label, "--id", hex.EncodeToString([]byte(id)))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: label},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	certDER, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		t.Fatal(err)
	}
	context, err := crypto11.ConfigureFromFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := context.ImportCertificateWithLabel([]byte(id), []byte(label), cert); err != nil {
		t.Fatal(err)
	}
	if err := context.Close(); err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certDER}))
}

// keys that the tests share: making RSA keys is slow.
func newKeys(t *testing.T) (*rsa.PrivateKey, *ecdsa.PrivateKey) {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return rsaKey, ecKey
}

// A user whose key is in the token reads a secret from a Coordinator (cli.md §1.2).
func TestTokenClient(t *testing.T) {
	s := newSoftHSM(t)
	rsaKey, ecKey := newKeys(t)
	certs := map[string]string{"alice": s.add(t, "id of alice", "alice", ecKey), "bob": s.add(t, "id of bob", "bob",
		rsaKey)}
	users := map[string]any{}
	for name, cert := range certs {
		users[name] = map[string]any{"Certificate": cert, "Roles": []string{"r"}}
	}
	manifest, err := json.Marshal(map[string]any{
		"Packages": map[string]any{"p": map[string]any{"UniqueID": strings.Repeat("00", 32)}},
		"Marbles":  map[string]any{"m": map[string]any{"Package": "p"}},
		"Secrets":  map[string]any{"key": map[string]any{"Type": "symmetric-key", "Size": 128, "Shared": true}},
		"Users":    users,
		"Roles": map[string]any{"r": map[string]any{"ResourceType": "Secrets", "ResourceNames": []string{"key"},
			"Actions": []string{"ReadSecret"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := coordinatortest.New(t, coordinatortest.Options{Manifest: manifest})
	for name := range certs {
		for how, token := range map[string]credential.Token{
			"by label": {KeyLabel: name, CertLabel: name},
			"by ID":    {KeyID: "id of " + name, CertID: "id of " + name},
			"by both":  {KeyID: "id of " + name, KeyLabel: name, CertID: "id of " + name, CertLabel: name},
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				token.Config = s.config
				certificate, closeToken, err := credential.LoadClient("", "", token)
				if err != nil {
					t.Fatal(err)
				}
				user := c.ClientAs(coordinatortest.User{Certificate: *certificate})
				got, err := user.SecretGet(t.Context(), []string{"key"})
				if err != nil || len(got["key"].Private) != 16 {
					t.Errorf("%v %v", got, err)
				}
				if err := closeToken(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	handshakes(t, s)
}

// handshakes connects with both versions of TLS, which sign in different ways (RSA: PKCS #1 v1.5 or PSS).
func handshakes(t *testing.T, s softHSM) {
	t.Helper()
	server := coordinatortest.NewUser(t, "server").Certificate
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, name := range []string{"alice", "bob"} {
			certificate, closeToken, err := credential.LoadClient("", "",
				credential.Token{Config: s.config, KeyLabel: name, CertLabel: name})
			if err != nil {
				t.Fatal(err)
			}
			l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
				Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: version,
			})
			if err != nil {
				t.Fatal(err)
			}
			presented := make(chan []byte, 1)
			go func() {
				conn, err := l.Accept()
				if err == nil {
					defer conn.Close()
					if err = conn.(*tls.Conn).Handshake(); err == nil {
						presented <- conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw
						return
					}
				}
				presented <- fmt.Append(nil, err)
			}()
			conn, err := tls.Dial("tcp", l.Addr().String(),
				&tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*certificate}})
			if err != nil {
				t.Fatal(err)
			}
			if got := <-presented; !bytes.Equal(got, certificate.Certificate[0]) {
				t.Errorf("%s, %s: %q", name, tls.VersionName(version), got)
			}
			conn.Close()
			l.Close()
			if err := closeToken(); err != nil {
				t.Error(err)
			}
		}
	}
}

// A holder whose recovery key is in the token decrypts and signs (cli.md §7).
func TestTokenRecoveryKey(t *testing.T) {
	s := newSoftHSM(t)
	rsaKey, ecKey := newKeys(t)
	s.add(t, "01", "holder", rsaKey)
	s.add(t, "02", "no RSA", ecKey)
	key, closeToken, err := credential.LoadRecoveryKey("", credential.Token{Config: s.config, KeyID: "01"})
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("0123456789abcdef0123456789abcdef")
	ciphertext, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &rsaKey.PublicKey, secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		plain, err := api.DecryptRecoveryData(ciphertext, key)
		if err != nil || !bytes.Equal(plain, secret) {
			t.Fatalf("%q %v", plain, err)
		}
	}
	signature, err := api.SignRecoverySecret(secret, key)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(secret)
	if err := rsa.VerifyPKCS1v15(&rsaKey.PublicKey, crypto.SHA256, digest[:], signature); err != nil {
		t.Error(err)
	}
	for name, damage := range map[string]func([]byte){
		"first byte": func(c []byte) { c[0] ^= 1 }, "last byte": func(c []byte) { c[len(c)-1] ^= 1 },
	} {
		bad := bytes.Clone(ciphertext)
		damage(bad)
		if plain, err := api.DecryptRecoveryData(bad, key); err == nil {
			t.Errorf("%s: %q", name, plain)
		}
	}
	if err := closeToken(); err != nil {
		t.Error(err)
	}
	_, _, err = credential.LoadRecoveryKey("", credential.Token{Config: s.config, KeyID: "02"})
	if err == nil || !strings.HasPrefix(err.Error(), "loaded private key does not support decryption") {
		t.Errorf("an EC key: %v", err)
	}
}

// cli.md §1.2: what is not found, and configurations that select no token or two.
func TestTokenRefusals(t *testing.T) {
	s := newSoftHSM(t)
	_, ecKey := newKeys(t)
	s.add(t, "1", "one", ecKey)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.add(t, "2", "two", other)
	for want, token := range map[string]credential.Token{
		`no key pair found for id "" and label "x"`:  {Config: s.config, KeyLabel: "x", CertLabel: "one"},
		`no key pair found for id "31" and label ""`: {Config: s.config, KeyID: "31", CertLabel: "one"},
		`no key pair found for id "1" and label "two"`: {Config: s.config, KeyID: "1", KeyLabel: "two",
			CertID: "1"},
		`no certificate found for id "3" and label ""`:                 {Config: s.config, KeyID: "1", CertID: "3"},
		`the key in the PKCS #11 token is not that of the certificate`: {Config: s.config, KeyID: "1", CertID: "2"},
		`reading the configuration of the PKCS #11 token: `:            {Config: "missing.json", KeyID: "1", CertID: "1"},
		`opening the PKCS #11 token of `: {KeyID: "1", CertID: "1",
			Config: s.configure(t, map[string]any{"Path": s.library, "Pin": pin, "TokenLabel": "test", "SlotNumber": 0})},
		`decoding `: {KeyID: "1", CertID: "1", Config: s.configure(t, map[string]any{"Pin": 31415926})},
	} {
		_, _, err := credential.LoadClient("", "", token)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	wrong := s.configure(t, map[string]any{"Path": s.library, "Pin": "27182818", "TokenLabel": "test"})
	_, _, err = credential.LoadClient("", "", credential.Token{Config: wrong, KeyID: "1", CertID: "1"})
	if err == nil || strings.Contains(err.Error(), "27182818") {
		t.Errorf("a wrong PIN: %v", err)
	}
	// After all these failures the token still works.
	if _, closeToken, err := credential.LoadClient("", "", credential.Token{Config: s.config, KeyID: "1",
		CertID: "1"}); err != nil {
		t.Error(err)
	} else if err := closeToken(); err != nil {
		t.Error(err)
	}
}
