// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/api/wire"
)

func testManifest(sections string) []byte {
	return []byte(`{"Packages":{"p":{"UniqueID":"` + strings.Repeat("ab", 32) + `"}},"Marbles":{"m":{"Package":"p"},` +
		`"limited":{"Package":"p","MaxActivations":3}},"Secrets":{"token":{"Type":"plain","UserDefined":true},` +
		`"key":{"Type":"symmetric-key","Size":128,"Shared":true},` +
		`"cert":{"Type":"cert-ecdsa","Size":256,"Shared":true}}` + sections + `}`)
}

// running returns a Coordinator with a manifest, and its kernel.
func runningCoordinator(t *testing.T, dir string, sections string) (*Coordinator, *kernel) {
	t.Helper()
	c := newTestCoordinator(t, dir)
	if _, err := c.SetManifest(t.Context(), testManifest(sections)); err != nil {
		t.Fatal(err)
	}
	return c, c.phase.Load().kernel
}

func encoded(t *testing.T, c *Coordinator) string {
	t.Helper()
	data, err := c.phase.Load().kernel.state.Load().encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func reopen(t *testing.T, c *Coordinator) *Coordinator {
	t.Helper()
	if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	return newTestCoordinator(t, c.cfg.SealDir)
}

// activationEvent is a decision that admits a Marble without the cryptography.
func activationEvent(marbleType string) decision {
	return func(s *State) (outcome, error) {
		return outcome{events: []event{&marbleActivated{Number: s.activationCount + 1, Type: marbleType, UUID: "u", Package: "p"}}}, nil
	}
}

// Replaying the journal yields the state that was live, with and without a snapshot in between.
func TestReplayYieldsLiveState(t *testing.T) {
	c, k := runningCoordinator(t, filepath.Join(t.TempDir(), "state"), "")
	for i := range 20 {
		decide := activationEvent("m")
		if i%3 == 0 {
			decide = func(*State) (outcome, error) {
				return outcome{events: []event{&counterRaised{Key: fmt.Sprint(i), Value: uint64(i)}}}, nil
			}
		}
		if _, err := k.submit(t.Context(), "alice", decide); err != nil {
			t.Fatal(err)
		}
		if i == 10 {
			s := k.state.Load()
			data, err := s.encode()
			if err == nil {
				err = c.vault.Snapshot(t.Context(), s.position, data)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	live := encoded(t, c)
	c = reopen(t, c)
	if d := cmp.Diff(live, encoded(t, c)); d != "" {
		t.Error(d)
	}
}

// Decisions that are made in one group see each other's effects: a budget is never exceeded.
func TestBudgetHoldsInGroups(t *testing.T) {
	_, k := runningCoordinator(t, filepath.Join(t.TempDir(), "state"), "")
	var wg sync.WaitGroup
	var mu sync.Mutex
	admitted, refused := 0, 0
	for range 64 {
		wg.Go(func() {
			a := &activation{req: ActivateRequest{MarbleType: "limited"}, uuid: "u"}
			_, err := k.submit(t.Context(), "", func(s *State) (outcome, error) {
				a.read = s.generations
				return a.decide(s)
			})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				admitted++
			case CodeOf(err) == RefusedMarble:
				refused++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if admitted != 3 || refused != 61 {
		t.Errorf("admitted %d, refused %d; want 3 and 61", admitted, refused)
	}
}

// A preparation whose read set changed is prepared again, and not for ever.
func TestStalePreparation(t *testing.T) {
	_, k := runningCoordinator(t, filepath.Join(t.TempDir(), "state"), "")
	tries := 0
	_, err := k.propose(t.Context(), "", func(*State) (decision, error) {
		tries++
		stale := tries < 3
		return func(*State) (outcome, error) {
			if stale {
				return outcome{}, errStale
			}
			return outcome{}, nil
		}, nil
	})
	if err != nil || tries != 3 {
		t.Errorf("%d tries, %v; want 3", tries, err)
	}
	_, err = k.propose(t.Context(), "", func(*State) (decision, error) {
		return func(*State) (outcome, error) { return outcome{}, errStale }, nil
	})
	if CodeOf(err) != Unavailable || !errors.Is(err, errStale) {
		t.Errorf("always stale: %v", err)
	}
}

// Event time never goes backwards, whatever the host's clock does.
func TestTimeIsMonotonic(t *testing.T) {
	c, k := runningCoordinator(t, filepath.Join(t.TempDir(), "state"), "")
	before := k.state.Load().time
	k.now = func() (z timeType) { return before.Add(-1e12) }
	s, err := k.submit(t.Context(), "", activationEvent("m"))
	if err != nil {
		t.Fatal(err)
	}
	if s.time.Before(before) {
		t.Errorf("event time went from %v back to %v", before, s.time)
	}
	_ = c
}

// An event that a newer program wrote is refused with advice, not skipped.
func TestUnknownRecords(t *testing.T) {
	for _, payload := range []string{`{"v":2,"e":[]}`, `{"v":1,"e":[{"k":"from-the-future","d":{}}]}`} {
		if _, err := decodeRecord([]byte(payload)); err == nil || !strings.Contains(err.Error(), "newer program") {
			t.Errorf("%s: %v", payload, err)
		}
	}
}

// The update log keeps its order over "Secret set" lines, which live in the history only.
func TestUpdateLog(t *testing.T) {
	c, k := runningCoordinator(t, filepath.Join(t.TempDir(), "state"), "")
	write := func(name string) {
		t.Helper()
		_, err := k.submit(t.Context(), "alice", func(s *State) (outcome, error) {
			v := s.stored.Value(name).Value
			v.Private = []byte("x")
			return outcome{events: []event{&secretsWritten{Number: s.secretLineCount + 1,
				Secrets: map[string]secretValue{name: v}}}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	write("token")
	if _, err := k.submit(t.Context(), "bob", func(s *State) (outcome, error) {
		return outcome{events: []event{&updateProposed{Update: pendingUpdate{
			Manifest: []byte("{}"), Eligible: []string{"alice", "bob"}, Required: 2, Acknowledged: []string{"bob"}}}}}, nil
	}); err != nil {
		t.Fatal(err)
	}
	write("token")
	var got []string
	if err := c.UpdateLog(t.Context(), func(l string) error {
		_, rest, _ := strings.Cut(l, `"update":`)
		got = append(got, rest)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`"Initial manifest set"}`,
		`"Secret set","user":"alice","secret":"token","type":"plain"}`,
		`"Complete Manifest update initiated by user. Waiting for acknowledgments to apply the update","user":"bob",` +
			`"missingAcknowledgments":1,"missingUsers":["alice"],` +
			`"manifestFingerprint":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}`,
		`"Secret set","user":"alice","secret":"token","type":"plain"}`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Activations are paged by position.
func TestActivationsPaging(t *testing.T) {
	c, k := runningCoordinator(t, filepath.Join(t.TempDir(), "state"), "")
	for range 7 {
		if _, err := k.submit(t.Context(), "", activationEvent("m")); err != nil {
			t.Fatal(err)
		}
	}
	var sizes []int
	for after := uint64(0); ; {
		page, err := c.Activations(t.Context(), after, 3)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(page.Activations))
		if after = page.Next; after == 0 {
			break
		}
	}
	if d := cmp.Diff([]int{3, 3, 1}, sizes); d != "" {
		t.Error(d)
	}
}

// What a closed Coordinator is asked fails, and does not hang.
func TestClosedKernel(t *testing.T) {
	c, k := runningCoordinator(t, filepath.Join(t.TempDir(), "state"), "")
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := k.submit(t.Context(), "", activationEvent("m")); CodeOf(err) != Unavailable {
		t.Errorf("submit after close: %v", err)
	}
}

// Operators learn of a disk that takes no more, once, and of what Marbles are told to try again for.
func TestFailedWritesAreLogged(t *testing.T) {
	c, k := runningCoordinator(t, filepath.Join(t.TempDir(), "state"), "")
	log := &strings.Builder{}
	c.log = slog.New(slog.NewTextHandler(log, nil))
	if err := c.Close(t.Context()); err != nil { // nobody else uses the kernel from here on
		t.Fatal(err)
	}
	k.log = c.log
	group := &group{state: k.state.Load(), payloads: [][]byte{{}}}
	for range 2 {
		k.flush(group) // the vault is closed
	}
	if text := log.String(); strings.Count(text, "Cannot store changes") != 1 || !strings.Contains(text, "error=") {
		t.Errorf("failed writes: %s", text)
	}
	k.note(nil)
	k.note(nil)
	if text := log.String(); strings.Count(text, "can be stored again") != 1 {
		t.Errorf("mended: %s", text)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Activate(t.Context(), ActivateRequest{
		PeerCertificate: []byte("x"), CSR: csr, MarbleType: "m", UUID: "0f0e0d0c-0b0a-4908-8706-050403020100",
	})
	if CodeOf(err) != Unavailable || !strings.Contains(log.String(), `msg="Marble Activation failed"`) {
		t.Errorf("activation: %v, log %s", err, log)
	}
}

// A manifest that cannot be accepted changes nothing, and names all its problems.
func TestInvalidManifestChangesNothing(t *testing.T) {
	c := newTestCoordinator(t, filepath.Join(t.TempDir(), "state"))
	root := c.ClientTLS().Certificate[0]
	for manifest, want := range map[string]string{
		`{`:  "unmarshaling manifest: ",
		`{}`: "checking manifest: ",
		string(testManifest(`,"RecoveryKeys":{"a":"no PEM"}`)):                           "",
		string(testManifest(`,"TLS":{"t":{"Incoming":[{"Port":"1","Cert":"nope"}]}}`)):   "checking manifest: ",
		strings.Replace(string(testManifest("")), `"Package":"p"}`, `"Package":"q"}`, 1): "checking manifest: ",
		// What only the execution of a template finds has a place, too.
		"\n" + `{"Packages":{"p":{"UniqueID":"00","Debug":true}},"Secrets":{"k":{"Type":"symmetric-key","Size":128}},` + "\n" +
			`"Marbles":{"m":{"Package":"p","Parameters":{"Env":{"E":"{{pem .Secrets.k}}"}}}}}`: `running manifest template dry run: ` +
			`$.Marbles["m"].Parameters.Env["E"] (line 3, column 56): `,
	} {
		_, err := c.SetManifest(t.Context(), []byte(manifest))
		if err == nil || !strings.HasPrefix(err.Error(), want) || CodeOf(err) != Invalid {
			t.Errorf("%s: %v, want prefix %q", manifest, err, want)
		}
	}
	if c.Status().Code != StateAcceptingManifest || !bytes.Equal(root, c.ClientTLS().Certificate[0]) {
		t.Error("a refused manifest changed the state")
	}
}

// Secrets that are read are those that were written, by whom the manifest allows, and survive a restart.
func TestSecretsVerbs(t *testing.T) {
	_, pemText := userCertificate(t, "alice")
	c, _ := runningCoordinator(t, filepath.Join(t.TempDir(), "state"), `,"Users":{"alice":{"Certificate":`+jsonString(t, pemText)+
		`,"Roles":["r"]}},"Roles":{"r":{"ResourceType":"Secrets","ResourceNames":["token"],"Actions":["ReadSecret","WriteSecret"]}}`)
	write := map[string]wire.UserSecret{"token": {Key: []byte("value")}}
	if err := c.WriteSecrets(t.Context(), "mallory", write); CodeOf(err) != Forbidden {
		t.Errorf("mallory wrote: %v", err)
	}
	if err := c.WriteSecrets(t.Context(), "alice", write); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReadSecrets(t.Context(), "alice", []string{"token", "key"}); CodeOf(err) != Forbidden {
		t.Errorf("alice read a secret without permission: %v", err)
	}
	c = reopen(t, c)
	got, err := c.ReadSecrets(t.Context(), "alice", []string{"token"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]wire.Secret{"token": {Type: "plain", UserDefined: true, Private: []byte("value"), Public: []byte("value")}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
