// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/internal/cli"
	"github.com/marblerun/marblerun/internal/cli/fakecoordinator"
)

func TestMain(m *testing.M) {
	cobra.EnableCommandSorting = false // as main does
	testscript.Main(m, map[string]func(){"marblerun": marblerun})
}

// marblerun is the program as the scripts run it: real but for the verifier, which reads the quotes of the fake
// Coordinator, unless TEST_REAL_VERIFIER is set. TEST_EMBEDDED_POLICY is what a release would have built in.
func marblerun() {
	cobra.EnableCommandSorting = false
	env := cli.OS("v2.3.4", strings.Repeat("c0", 20))
	if os.Getenv("TEST_REAL_VERIFIER") == "" {
		env.Verifier = fakecoordinator.Verifier{}
	}
	env.EmbeddedPolicy = []byte(os.Getenv("TEST_EMBEDDED_POLICY"))
	os.Exit(cli.Run(context.Background(), env))
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Values["fakes"] = fakes{}
			env.Setenv("HOME", env.WorkDir+"/home")
			env.Setenv("CACHE", env.WorkDir+"/home/.config/marblerun")
			return os.WriteFile(env.WorkDir+"/era.json", []byte(fakecoordinator.Policy), 0o644)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"coordinator": startCoordinator, "user": makeUser, "manifest": makeManifest, "rsakey": makeKey,
			"share": makeShare, "log": addLog, "mode": checkMode, "requests": checkRequests, "secret": setSecret,
		},
	})
}

// fakes are the Coordinators of one script by name.
type fakes map[string]*fakecoordinator.Coordinator

func fakesOf(ts *testscript.TestScript) fakes {
	all, _ := ts.Value("fakes").(fakes)
	return all
}

// startCoordinator: coordinator NAME [option…] starts a fake and sets $NAME to its endpoint. Options: v1, simulation,
// recovery=N, manifest=FILE, tcb=STATUS, note=TEXT.
func startCoordinator(ts *testscript.TestScript, _ bool, args []string) {
	c, err := fakecoordinator.New()
	ts.Check(err)
	for _, arg := range args[1:] {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "v1":
			c.OnlyV1 = true
		case "simulation":
			c.Simulation = true
		case "recovery":
			n, err := strconv.Atoi(value)
			ts.Check(err)
			ts.Check(c.SetRecovery(n))
		case "manifest":
			c.SetManifest([]byte(ts.ReadFile(value)))
		case "tcb":
			c.Claims.TCBStatus = attest.TCBStatus(value)
		case "note":
			c.Notes = append(c.Notes, value)
		default:
			ts.Fatalf("unknown option %s", arg)
		}
	}
	c.Start()
	ts.Defer(c.Close)
	fakesOf(ts)[args[0]] = c
	ts.Setenv(args[0], c.Endpoint())
}

// log NAME LINE appends to the update log.
func addLog(ts *testscript.TestScript, _ bool, args []string) { fakesOf(ts)[args[0]].AddLog(args[1]) }

// secret NAME SECRET JSON stores a secret.
func setSecret(ts *testscript.TestScript, _ bool, args []string) {
	var value wire.Secret
	ts.Check(json.Unmarshal([]byte(args[2]), &value))
	fakesOf(ts)[args[0]].SetSecret(args[1], value)
}

// requests NAME [METHOD-AND-PATH…] compares the requests that came.
func checkRequests(ts *testscript.TestScript, _ bool, args []string) {
	got := fakesOf(ts)[args[0]].Requests()
	if !slices.Equal(got, args[1:]) {
		ts.Fatalf("requests were %q", got)
	}
}

// mode OCTAL FILE compares the permissions of a file.
func checkMode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s", args[1], got)
	}
}

// user NAME… makes NAME-cert.pem and NAME-key.pem.
func makeUser(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		ts.Check(err)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().AddDate(1, 0, 0),
		}
		cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		ts.Check(err)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		ts.Check(err)
		writePEM(ts, name+"-cert.pem", "CERTIFICATE", cert)
		writePEM(ts, name+"-key.pem", "PRIVATE KEY", der)
	}
}

// rsakey NAME makes NAME.pem, a PKCS #8 private key, and NAME-pub.pem.
func makeKey(ts *testscript.TestScript, _ bool, args []string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	ts.Check(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	writePEM(ts, args[0]+".pem", "PRIVATE KEY", der)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	ts.Check(err)
	writePEM(ts, args[0]+"-pub.pem", "PUBLIC KEY", public)
}

func writePEM(ts *testscript.TestScript, name, kind string, der []byte) {
	data := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	ts.Check(os.WriteFile(ts.MkAbs(name), data, 0o600))
}

// share KEY BYTE makes KEY.share (32 times the byte), KEY.enc (encrypted to the key) and KEY.b64 (that in base64).
func makeShare(ts *testscript.TestScript, _ bool, args []string) {
	block, _ := pem.Decode([]byte(ts.ReadFile(args[0] + "-pub.pem")))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	ts.Check(err)
	share := bytes.Repeat([]byte(args[1]), 32)
	encrypted, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), share, nil)
	ts.Check(err)
	for suffix, data := range map[string][]byte{
		".share": share, ".enc": encrypted, ".b64": []byte(base64.StdEncoding.EncodeToString(encrypted) + "\n"),
	} {
		ts.Check(os.WriteFile(ts.MkAbs(args[0]+suffix), data, 0o600))
	}
}

// manifest FILE [USER…] makes a manifest with one Marble and users who may update it and use its secret "apiToken".
// Each of them has a recovery key, NAME-rsa-pub.pem, if that exists.
func makeManifest(ts *testscript.TestScript, _ bool, args []string) {
	m := map[string]map[string]any{
		"Packages": {"app": map[string]any{"SignerID": fakecoordinator.SignerID, "ProductID": 7, "SecurityVersion": 1}},
		"Marbles":  {"web": map[string]any{"Package": "app"}},
	}
	if users := args[1:]; len(users) > 0 {
		m["Secrets"] = map[string]any{"apiToken": map[string]any{"Type": "plain", "UserDefined": true}}
		m["Roles"] = map[string]any{
			"owner": map[string]any{"ResourceType": "Manifest", "Actions": []string{"UpdateManifest"}},
			"token": map[string]any{
				"ResourceType": "Secrets", "ResourceNames": []string{"apiToken"}, "Actions": []string{"ReadSecret", "WriteSecret"},
			},
		}
		m["Users"], m["RecoveryKeys"] = map[string]any{}, map[string]any{}
		for _, name := range users {
			m["Users"][name] = map[string]any{
				"Certificate": ts.ReadFile(name + "-cert.pem"), "Roles": []string{"owner", "token"},
			}
			if key, err := os.ReadFile(ts.MkAbs(name + "-rsa-pub.pem")); err == nil {
				m["RecoveryKeys"][name] = string(key)
			}
		}
	}
	data, err := json.MarshalIndent(m, "", "  ")
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), append(data, '\n'), 0o644))
}
