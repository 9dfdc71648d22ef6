// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/release/common"
	release "helm.sh/helm/v4/pkg/release/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/marblerun/marblerun/api"
)

// Request is what should be there.
type Request struct {
	Chart  *chart.Chart
	Values map[string]any
	// Reuse: values of the present release that Values do not set stay.
	Reuse bool
	// MustExist: without a release, this is an error.
	MustExist bool
	// Force: do what the guards of this package would refuse.
	Force bool
}

// Plan is what has to be done for a Request.
type Plan struct {
	// Release is the Helm release, Revision the one that Apply makes, Namespace where.
	Release   string `json:"release"`
	Namespace string `json:"namespace"`
	Revision  int    `json:"revision"`
	// Fresh: there is no release yet. Nothing: all is as it should be. Repair says why a release has to be finished or
	// mended; empty: it has not.
	Fresh   bool   `json:"fresh"`
	Nothing bool   `json:"nothing"`
	Repair  string `json:"repair,omitempty"`
	// Platform is what the Coordinator will run on: simulation, sgx, tdx, sev-snp.
	Platform string `json:"platform"`
	// CreateNamespace: the namespace does not exist.
	CreateNamespace bool `json:"createNamespace"`
	// Changes says in words what will differ; of values only the names.
	Changes []string `json:"changes"`
	// Create, Change and Delete are the objects concerned.
	Create []Key `json:"create"`
	Change []Key `json:"change"`
	Delete []Key `json:"delete"`
	// Objects are all that will be there.
	Objects Objects `json:"-"`

	last     *release.Release
	chart    *chart.Chart
	values   map[string]any
	manifest string
	adopt    bool
}

// Plan compares the request with what is there.
func (i *Installer) Plan(ctx context.Context, r Request) (*Plan, error) {
	history, err := i.history(ctx)
	if err != nil {
		return nil, err
	}
	p, err := i.begin(history, r)
	if err != nil {
		return nil, err
	}
	before := deployed(history)
	if before != nil && before.Info.Status == common.StatusUninstalled {
		before = nil
	}
	if before != nil && r.Reuse {
		p.values = util.CoalesceTables(p.values, before.Config)
	}
	if p.chart, err = i.guard(before, p, r); err != nil {
		return nil, err
	}
	if p.Platform, err = platform(p.chart, p.values); err != nil {
		return nil, err
	}
	if err := i.namespace(ctx, p); err != nil {
		return nil, err
	}
	if err := i.render(ctx, p); err != nil {
		return nil, err
	}
	return p, i.compare(p, before)
}

// begin decides which release it is about, and whether it can be worked on.
func (i *Installer) begin(history []*release.Release, r Request) (*Plan, error) {
	p := &Plan{
		Changes: []string{}, Create: []Key{}, Change: []Key{}, Delete: []Key{},
		Release: ReleaseName, Namespace: i.cluster.Namespace, Revision: 1, Fresh: true,
		values: copyValues(r.Values),
	}
	if len(history) == 0 {
		if r.MustExist {
			return nil, api.WithHint(fmt.Errorf("MarbleRun is not installed in namespace %s", p.Namespace),
				"Install it with 'marblerun install', or name another namespace with -n.")
		}
		return p, nil
	}
	p.last = history[len(history)-1]
	if name := chartName(p.last); name != ReleaseName && name != OldReleaseName && !r.Force {
		return nil, api.WithHint(fmt.Errorf("release %s in namespace %s is of chart %q", p.last.Name, p.Namespace, name),
			"It is something else, or MarbleRun in other clothes. Name another namespace with -n, or add --force.")
	}
	p.Release, p.Revision, p.Fresh = p.last.Name, p.last.Version+1, false
	switch status := p.last.Info.Status; {
	case status == common.StatusDeployed:
	case status == common.StatusUninstalled:
		p.Fresh = true
	case status.IsPending() || status == common.StatusUninstalling:
		since := i.now().Sub(p.last.Info.LastDeployed).Round(time.Second)
		if since < staleAfter && !r.Force {
			return nil, api.WithHint(
				fmt.Errorf("another change of release %s is under way since %v (%s)", p.Release, since, status),
				"Wait for it. If it was killed, add --force.")
		}
		p.Repair = fmt.Sprintf("an earlier change was broken off (%s)", status)
	default:
		p.Repair = fmt.Sprintf("an earlier change is incomplete (%s)", status)
	}
	return p, nil
}

// namespace finds out whether the namespace exists. Who may not read it is taken to know.
func (i *Installer) namespace(ctx context.Context, p *Plan) error {
	_, err := i.cluster.Client.CoreV1().Namespaces().Get(ctx, p.Namespace, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		p.CreateNamespace = true
	case err != nil && !apierrors.IsForbidden(err):
		return i.cluster.Explain(fmt.Errorf("reading namespace %s: %w", p.Namespace, err))
	}
	return nil
}

// render makes the manifest, as the cluster's version and kinds have it.
func (i *Installer) render(ctx context.Context, p *Plan) error {
	run := action.NewInstall(i.config)
	run.DryRunStrategy, run.WaitStrategy = action.DryRunServer, kube.HookOnlyStrategy
	run.ReleaseName, run.Namespace, run.IsUpgrade = p.Release, p.Namespace, true // we look for conflicts ourselves
	rendered, err := run.RunWithContext(ctx, p.chart, copyValues(p.values))
	if err != nil {
		err = fmt.Errorf("generating helm values: %w", err)
		if strings.Contains(err.Error(), "specifications of the schema") {
			err = api.WithHint(err, "All values are in charts/marblerun/README.md, and in what 'helm show values' prints.")
		}
		return i.cluster.Explain(err)
	}
	rel, ok := rendered.(*release.Release)
	if !ok {
		return errors.New("Helm returned an unknown kind of release")
	}
	p.manifest = rel.Manifest
	p.Objects, err = ParseManifest(rel.Manifest)
	return err
}

// Check has the API server check the plan's objects without changing anything. In a namespace that does not exist yet
// it cannot; then it checks them as if they were for the namespace "default", and says so with a note.
func (i *Installer) Check(p *Plan) (note string, err error) {
	manifest := p.manifest
	if p.CreateNamespace {
		if manifest, err = p.Objects.inNamespace(metav1.NamespaceDefault).manifest(); err != nil {
			return "", err
		}
		note = fmt.Sprintf("Namespace %s does not exist yet: the objects were checked as if they were for namespace %s.",
			p.Namespace, metav1.NamespaceDefault)
	}
	return note, i.accept(manifest)
}

// accept has the API server check a manifest.
func (i *Installer) accept(manifest string) error {
	err := i.validate(manifest)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("the API server refuses the objects: %w", err)
	if text := err.Error(); strings.Contains(text, StateClaim) && strings.Contains(text, "is invalid") {
		err = api.WithHint(err, "The volume with the sealed state stays as it is: give the same coordinator.storageClass "+
			"and coordinator.storageSize as before, or 'marblerun upgrade', which keeps values.")
	}
	return i.cluster.Explain(err)
}

// copyValues copies tables, because Helm changes what it gets.
func copyValues(values map[string]any) map[string]any {
	out := make(map[string]any, len(values))
	for name, value := range values {
		if table, ok := value.(map[string]any); ok {
			value = copyValues(table)
		}
		out[name] = value
	}
	return out
}
