// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package install puts MarbleRun onto a cluster, changes it and takes it away: a Helm release, so that 'helm' can do
// the same to it. Sub-packages know where the chart comes from (source), what its values are (values), whether the
// result runs (rollout), and what the cluster would need (precheck).
//
// Plan says what has to be done, Apply does it, and Uninstall undoes it. The release is called marblerun; one called
// marblerun-coordinator, as guides for Helm have it, is found and kept, too.
//
// Invariants:
//
//   - Planning changes nothing. Applying the same again changes nothing. A release that an earlier attempt left
//     half-done is finished, whatever state it is in.
//   - Nothing that was there before is deleted or taken over, except objects whose release is gone, which is how a
//     sealed state that was kept finds its new Coordinator.
//   - The sealed state is deleted only by Uninstall, and only if that was asked for, whichever chart made it.
//   - All objects are checked by the API server before the first is changed.
//   - Values are compared and stored, never shown: only their names are.
package install

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/release/common"
	release "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"

	"github.com/marblerun/marblerun/internal/kube/cluster"
)

// Names of the Helm release: ours, and the one of MarbleRun's guides for Helm.
const (
	ReleaseName    = "marblerun"
	OldReleaseName = "marblerun-coordinator"
)

// StateClaim is the PersistentVolumeClaim of the Coordinator's sealed state.
const StateClaim = "coordinator-pv-claim"

// fieldManager is who changes objects, in the sense of server-side apply: the same as 'helm', so that both can change
// what the other has set.
const fieldManager = "helm"

// staleAfter is how long a release can be in the middle of a change before whoever did that is taken for dead: the
// default time limit of Helm.
const staleAfter = 5 * time.Minute

// Installer works on one namespace of one cluster.
type Installer struct {
	cluster *cluster.Cluster
	config  *action.Configuration
	// live reads the objects of a manifest as they are now.
	live func(manifest string) ([]liveObject, error)
	// validate has the API server check the objects of a manifest, and changes nothing.
	validate func(manifest string) error
	// drift finds the plan's objects that are not as the chart has them.
	drift func(p *Plan) ([]Key, error)
	now   func() time.Time
}

// New returns an Installer. helmDriver is where Helm keeps its records: the value of HELM_DRIVER; empty: in Secrets.
func New(c *cluster.Cluster, helmDriver string) (*Installer, error) {
	config := action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler))
	if err := config.Init(c.Access, c.Namespace, helmDriver); err != nil {
		return nil, err
	}
	kube.ManagedFieldsManager = fieldManager // Helm has no other place for it
	i := &Installer{cluster: c, config: config, now: time.Now}
	i.live, i.validate, i.drift = i.readLive, i.dryRun, i.findDrift
	return i, nil
}

// Release returns the latest revision of the release in the namespace; nil if there is none.
func (i *Installer) Release(ctx context.Context) (*release.Release, error) {
	all, err := i.history(ctx)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[len(all)-1], nil
}

// history returns the revisions of the release, oldest first.
func (i *Installer) history(ctx context.Context) ([]*release.Release, error) {
	for _, name := range []string{ReleaseName, OldReleaseName} {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		found, err := i.config.Releases.History(name)
		if err != nil && !errors.Is(err, driver.ErrReleaseNotFound) {
			return nil, i.cluster.Explain(fmt.Errorf("reading Helm's records: %w", err))
		}
		var all []*release.Release
		for _, r := range found {
			if r, ok := r.(*release.Release); ok {
				all = append(all, r)
			}
		}
		if len(all) > 0 {
			slices.SortFunc(all, func(a, b *release.Release) int { return a.Version - b.Version })
			return all, nil
		}
	}
	return nil, nil
}

// deployed returns the revision that describes what runs: the one that was completed last, or the very last.
func deployed(history []*release.Release) *release.Release {
	for _, r := range slices.Backward(history) {
		if r.Info.Status == common.StatusDeployed {
			return r
		}
	}
	if len(history) == 0 {
		return nil
	}
	return history[len(history)-1]
}
