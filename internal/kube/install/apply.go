// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/release/common"
	"helm.sh/helm/v4/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/kube/install/rollout"
)

// maxHistory is how many revisions Helm keeps, as the helm command does.
const maxHistory = 10

// hookTimeout bounds hooks of a chart; ours has none.
const hookTimeout = 5 * time.Minute

// endingTimeout bounds the wait for objects of an earlier installation to be gone.
const endingTimeout = 2 * time.Minute

// Apply does what the plan says, telling progress each step. It does not wait for Pods. If ctx ends, the release is
// recorded as failed; planning and applying again finishes it.
func (i *Installer) Apply(ctx context.Context, p *Plan, progress func(step string)) error {
	if p.Nothing {
		return nil
	}
	if p.CreateNamespace {
		progress("creating namespace " + p.Namespace)
		if err := i.createNamespace(ctx, p.Namespace); err != nil {
			return err
		}
	}
	progress(fmt.Sprintf("checking %d objects with the API server", len(p.Objects)))
	if err := i.accept(p.manifest); err != nil {
		return fmt.Errorf("installing MarbleRun: %w", err)
	}
	// What an uninstallation still deletes would vanish after it was applied.
	if err := i.awaitGone(ctx, p.manifest, endingTimeout, progress); err != nil {
		return i.cluster.Explain(fmt.Errorf("installing MarbleRun: %w", err))
	}
	if err := i.release(p); err != nil {
		return i.cluster.Explain(err)
	}
	progress(fmt.Sprintf("applying %d objects", len(p.Objects)))
	err := i.run(ctx, p)
	switch {
	case errors.Is(err, context.Canceled):
		return api.WithHint(fmt.Errorf("installing MarbleRun: %w", err), "The same command again finishes what was begun.")
	case errors.Is(err, driver.ErrReleaseExists):
		return api.WithHint(fmt.Errorf("installing MarbleRun: %w", err),
			"Another command has changed the release at the same moment. Run this one again.")
	case err != nil:
		return i.cluster.Explain(fmt.Errorf("installing MarbleRun: %w", err))
	}
	return nil
}

func (i *Installer) createNamespace(ctx context.Context, name string) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	options := metav1.CreateOptions{FieldManager: fieldManager}
	_, err := i.cluster.Client.CoreV1().Namespaces().Create(ctx, namespace, options)
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return i.cluster.Explain(fmt.Errorf("creating namespace %s: %w", name, err))
	}
	return nil
}

// release marks a release that was left in the middle of a change as failed: from there Helm goes on.
func (i *Installer) release(p *Plan) error {
	if p.last == nil {
		return nil
	}
	status := p.last.Info.Status
	switch status {
	case common.StatusDeployed, common.StatusFailed, common.StatusUninstalled:
		return nil
	}
	p.last.SetStatus(common.StatusFailed, "broken off: "+status.String())
	if err := i.config.Releases.Update(p.last); err != nil {
		return fmt.Errorf("recording that release %s was broken off: %w", p.Release, err)
	}
	return nil
}

// run has Helm do it. Helm waits for nothing: it would wait for the Coordinator to be Ready, which needs a manifest.
func (i *Installer) run(ctx context.Context, p *Plan) error {
	if p.Fresh {
		run := action.NewInstall(i.config)
		run.ReleaseName, run.Namespace = p.Release, p.Namespace
		run.WaitStrategy, run.Timeout = kube.HookOnlyStrategy, hookTimeout
		run.Replace, run.TakeOwnership, run.ForceConflicts = p.last != nil, p.adopt, p.adopt
		_, err := run.RunWithContext(ctx, p.chart, copyValues(p.values))
		return err
	}
	run := action.NewUpgrade(i.config)
	run.Namespace, run.MaxHistory = p.Namespace, maxHistory
	run.WaitStrategy, run.Timeout = kube.HookOnlyStrategy, hookTimeout
	run.ResetValues = true // Plan has merged them
	run.ServerSideApply, run.ForceConflicts = "true", true
	run.TakeOwnership = p.adopt
	_, err := run.RunWithContext(ctx, p.Release, p.chart, copyValues(p.values))
	return err
}

// Parts are what has to run after the plan was applied.
func (p *Plan) Parts() []rollout.Part { return parts(p.Objects, p.Namespace) }

func parts(objects Objects, namespace string) []rollout.Part {
	all := []rollout.Part{rollout.Coordinator()}
	if objects.find("Deployment", rollout.InjectorName) != nil {
		all = append(all, rollout.Injector(namespace))
	}
	return all
}

// Parts are what has to run by the records of the release, and false if there is no release.
func (i *Installer) Parts(ctx context.Context) ([]rollout.Part, bool, error) {
	last, err := i.Release(ctx)
	if err != nil || last == nil {
		return nil, false, err
	}
	objects, err := ParseManifest(last.Manifest)
	return parts(objects, i.cluster.Namespace), true, err
}

func isNotFound(err error) bool {
	return errors.Is(err, driver.ErrReleaseNotFound) || apierrors.IsNotFound(err)
}
