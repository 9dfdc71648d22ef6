// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifestcmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/manifest"
	"github.com/marblerun/marblerun/manifest/diff/effect"
)

// updateDryRun says what the update would do to the deployment. It changes nothing, asks only for what everybody may
// read, and needs no user.
func (a *commands) updateDryRun(ctx context.Context, path, endpoint string, output console.Format) error {
	doc, err := a.loadDocument(path)
	if err != nil {
		return err
	}
	update, problems := doc.read()
	full := update != nil && update.UpdateKind() == manifest.FullUpdate
	if full {
		problems = doc.updateProblems(ctx, nil, update) // they do not depend on the Coordinator
	}
	if err := a.refuseProblems(doc, problems, output); err != nil {
		return err
	}
	client, err := a.Trusted(ctx, endpoint, nil)
	if err != nil {
		return err
	}
	now, err := observe(ctx, client)
	if err != nil {
		return err
	}
	if !full {
		problems = doc.updateProblems(ctx, now.manifest, update)
		if err := a.refuseProblems(doc, problems, output); err != nil {
			return err
		}
	}
	r := report{Report: effect.Of(now.manifest, update), Manifest: now.fingerprint, Problems: listed(problems)}
	if now.activations != nil {
		r.Running = effect.OnRunning(now.manifest, update, *now.activations)
	} else {
		a.Note("The Coordinator does not tell which Marbles it activated")
	}
	return a.printDryRun(r, now.pending, doc, output)
}

// printDryRun prints the report. It is an error if the update would be refused in spite of it.
func (a *commands) printDryRun(r report, pending *api.PendingUpdate, doc document, output console.Format) error {
	same := pending != nil && bytes.Equal(pending.Manifest, doc.data)
	if same {
		missing := append([]string{}, pending.MissingUsers...)
		r.Pending = &missing
		a.Note("This very update is pending. These users may still acknowledge it: %s", effect.Names(missing))
	}
	if err := a.printReport(r, output); err != nil {
		return err
	}
	switch {
	case pending != nil && !same:
		return api.WithHint(errors.New("the Coordinator would refuse this update now: another one is pending"),
			"'marblerun manifest update get' shows it. It must be acknowledged or canceled first.")
	case len(r.Needs.Users) == 0:
		return fmt.Errorf("the Coordinator would refuse this update: no user has the permission %s", r.Needs.Permission)
	}
	return nil
}

// updateProblems are all problems for which a Coordinator would refuse the update, and warnings: of a package update
// those with the current manifest, of a full update those of its text and then of executing its templates. What only
// the Coordinator knows (its environment, uploaded secrets) is left out.
func (d document) updateProblems(ctx context.Context, current, update *manifest.Manifest) manifest.Problems {
	if update.UpdateKind() == manifest.PackageUpdate {
		return d.locate(manifest.Locate(d.data, manifest.CheckPackageUpdate(current, update)))
	}
	problems := manifest.Check(d.data, update, nil)
	if len(problems.Errors()) == 0 {
		problems = append(problems, manifest.Locate(d.data, update.DryRun(ctx, nil))...)
		problems.Sort()
	}
	return d.locate(problems)
}

// refuseProblems prints problems to stderr, or errors as JSON to stdout, and is an error if there is one among them.
func (a *commands) refuseProblems(d document, problems manifest.Problems, output console.Format) error {
	n := len(problems.Errors())
	if !output.JSON() {
		a.printProblems(a.Err, d, problems, a.ColorErr)
	}
	if n == 0 {
		return nil
	}
	if output.JSON() {
		if err := a.WriteJSON(map[string]any{"problems": listed(problems)}); err != nil {
			return err
		}
	}
	return fmt.Errorf("the Coordinator would refuse this update: %s", count(n, "problem"))
}

// observed is what a Coordinator tells everybody about its deployment.
type observed struct {
	manifest    *manifest.Manifest // in force, package updates folded in
	fingerprint string
	activations *effect.Activations // nil: it does not tell
	pending     *api.PendingUpdate  // nil: none
}

func observe(ctx context.Context, client *api.Client) (*observed, error) {
	m, err := client.ManifestGet(ctx)
	if err != nil {
		return nil, fmt.Errorf("getting manifest: %w", err)
	}
	lines, err := client.ManifestLog(ctx)
	if err != nil {
		return nil, fmt.Errorf("retrieving update log: %w", err)
	}
	log, err := readLog(lines)
	if err != nil {
		return nil, fmt.Errorf("update log: %w", err)
	}
	if log.fingerprint != "" && log.fingerprint != m.Fingerprint {
		return nil, errors.New("the manifest was updated in this very moment; try again")
	}
	now := &observed{fingerprint: m.Fingerprint}
	if now.manifest, err = manifest.Parse(m.Bytes); err != nil {
		return nil, fmt.Errorf("the Coordinator's manifest: %w", err)
	}
	now.manifest = now.manifest.WithSecurityVersions(log.versions)
	if now.pending, err = pendingUpdate(ctx, client); err != nil {
		return nil, fmt.Errorf("retrieving pending update: %w", err)
	}
	if now.activations, err = activations(ctx, client, log.rotated); err != nil {
		return nil, fmt.Errorf("retrieving activations: %w", err)
	}
	return now, nil
}

// logFacts are what the update log says about the present.
type logFacts struct {
	rotated     time.Time       // when the CA was made or rotated the last time
	versions    map[string]uint // of packages, by package updates in force
	fingerprint string          // of the last full update; empty if there was none, or an old Coordinator does not say
}

// readLog reads the update log. A complete update undoes earlier package updates.
func readLog(lines []string) (logFacts, error) {
	facts := logFacts{versions: map[string]uint{}}
	for _, line := range lines {
		var entry struct {
			Time        string `json:"time"`
			Update      string `json:"update"`
			Package     string `json:"package"`
			Version     *uint  `json:"new version"`
			Fingerprint string `json:"manifestFingerprint"`
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			return facts, err
		}
		switch {
		case entry.Update == "Initial manifest set":
		case entry.Update == "Complete Manifest updated":
			clear(facts.versions)
			facts.fingerprint = entry.Fingerprint
		case entry.Package != "" && entry.Version != nil:
			facts.versions[entry.Package] = *entry.Version
		default:
			continue
		}
		// A time of another form leaves the one before: then too many Marbles are named, not too few.
		if t, err := time.Parse(time.RFC3339, entry.Time); err == nil {
			facts.rotated = t
		}
	}
	return facts, nil
}

func pendingUpdate(ctx context.Context, client *api.Client) (*api.PendingUpdate, error) {
	pending, err := client.UpdateGet(ctx)
	if refused(err, http.StatusNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &pending, nil
}

func refused(err error, code int) bool {
	var r *api.RequestError
	return errors.As(err, &r) && r.Code == code
}

// activations are all that the Coordinator remembers; nil if it has no such list (MarbleRun).
func activations(ctx context.Context, client *api.Client, since time.Time) (*effect.Activations, error) {
	first, err := client.ActivationsPage(ctx, 0, 1000)
	if refused(err, http.StatusMethodNotAllowed) || refused(err, http.StatusNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := &effect.Activations{Since: since, Collapsed: first.Collapsed}
	add := func(a api.Activation) error {
		t, err := time.Parse(time.RFC3339, a.Time)
		out.List = append(out.List, effect.Activation{Time: t, Type: a.MarbleType, UUID: a.UUID, Claims: a.Claims})
		return err
	}
	for _, a := range first.Activations {
		if err := add(a); err != nil {
			return nil, err
		}
	}
	if first.Next == 0 {
		return out, nil
	}
	for a, err := range client.Activations(ctx, first.Next) {
		if err == nil {
			err = add(a)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
