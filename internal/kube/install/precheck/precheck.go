// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package precheck looks at what an installation of MarbleRun would need: SGX or confidential VMs, a version of
// Kubernetes, permissions, storage, a namespace without another installation, and an API server that takes the objects.
//
// Invariants: nothing is changed. A check that cannot be made for lack of permission is unknown, and neither good nor
// bad. Only what would make 'marblerun install' fail is a problem; SGX is a matter of choice, so its lack is none.
package precheck

import (
	"context"
	"fmt"
	"slices"
	"strings"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/kube/cluster"
	"github.com/marblerun/marblerun/internal/kube/install"
)

// Status of a check.
type Status string

// Statuses of a check.
const (
	// OK: as it should be, or a note.
	OK Status = "ok"
	// Problem: 'marblerun install' would fail.
	Problem Status = "problem"
	// Unknown: there is no permission to look.
	Unknown Status = "unknown"
)

// permissions is the name of that check.
const permissions = "Permissions"

// Check is one thing that was looked at.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Text   string `json:"text"`
	Hint   string `json:"hint,omitempty"`
}

// Report is what was found.
type Report struct {
	// Installable: no check is a problem.
	Installable bool `json:"installable"`
	// SGX is what the nodes have; SGXError says why it is not known.
	SGX      cluster.SGX `json:"sgx"`
	SGXError string      `json:"sgxError,omitempty"`
	Checks   []Check     `json:"checks"`
}

// Prechecker looks at a cluster.
type Prechecker struct {
	Cluster   *cluster.Cluster
	Installer *install.Installer
	Chart     *chart.Chart
	// Mapper knows the resources of kinds.
	Mapper func() (meta.RESTMapper, error)
	// DryRun has the API server check the objects of a first installation without making them; nil: it is not asked.
	DryRun func(ctx context.Context) error
}

// Run makes all checks. It fails only if the cluster cannot be reached.
func (p Prechecker) Run(ctx context.Context) (*Report, error) {
	kubernetes, err := p.kubernetes()
	if err != nil {
		return nil, p.Cluster.Explain(err)
	}
	report := &Report{}
	report.SGX, err = p.Cluster.SGX(ctx)
	if err != nil {
		report.SGXError = err.Error()
	}
	report.add(kubernetes)
	report.add(p.permissions(ctx)...)
	report.add(p.storage(ctx))
	report.add(p.confidentialVMs(ctx))
	report.add(p.installation(ctx)...)
	report.add(p.objects(ctx, report)...)
	report.Installable = !slices.ContainsFunc(report.Checks, func(c Check) bool { return c.Status == Problem })
	return report, nil
}

func (r *Report) add(checks ...Check) { r.Checks = append(r.Checks, checks...) }

// kubernetes compares the server's version with what the chart asks for.
func (p Prechecker) kubernetes() (Check, error) {
	check := Check{Name: "Kubernetes", Status: OK}
	info, err := p.Cluster.Client.Discovery().ServerVersion()
	if err != nil {
		return check, err
	}
	check.Text = info.GitVersion
	wanted := strings.TrimLeft(p.Chart.Metadata.KubeVersion, ">= ")
	least, err := version.ParseGeneric(strings.TrimSuffix(wanted, "-0"))
	have, err2 := version.ParseGeneric(info.GitVersion)
	if err == nil && err2 == nil && have.LessThan(least) {
		check.Status = Problem
		check.Text += ", but the chart needs at least " + least.String()
	}
	return check, nil
}

// confidentialVMs names the runtime classes whose handlers start confidential VMs.
func (p Prechecker) confidentialVMs(ctx context.Context) Check {
	check := Check{Name: "Confidential VMs", Status: OK}
	classes, err := p.Cluster.Client.NodeV1().RuntimeClasses().List(ctx, metav1.ListOptions{})
	if err != nil {
		return unknown(check, err)
	}
	var found []string
	for _, class := range classes.Items {
		name := strings.ToLower(class.Name + " " + class.Handler)
		switch {
		case strings.Contains(name, "tdx"):
			found = append(found, class.Name+" (--tee tdx)")
		case strings.Contains(name, "snp"):
			found = append(found, class.Name+" (--tee sev-snp)")
		case strings.Contains(name, "-cc"):
			found = append(found, class.Name)
		}
	}
	check.Text = "no runtime class for TDX or SEV-SNP"
	if len(found) > 0 {
		check.Text = "runtime classes " + strings.Join(found, ", ")
	}
	return check
}

// installation looks for MarbleRun in the namespace, and elsewhere.
func (p Prechecker) installation(ctx context.Context) []Check {
	check := Check{Name: "Namespace " + p.Cluster.Namespace, Status: OK, Text: "has no MarbleRun yet"}
	last, err := p.Installer.Release(ctx)
	switch {
	case err != nil:
		check = unknown(check, err)
	case last != nil:
		check.Text = fmt.Sprintf("MarbleRun is there: release %s, revision %d, %s, chart %s", last.Name, last.Version,
			last.Info.Status, last.Chart.Metadata.Version)
		check.Hint = "'marblerun install' changes it to what its flags say, 'marblerun upgrade' keeps its values."
	default:
		claims := p.Cluster.Client.CoreV1().PersistentVolumeClaims(p.Cluster.Namespace)
		if _, err := claims.Get(ctx, install.StateClaim, metav1.GetOptions{}); err == nil {
			check.Text = "has the sealed state of an earlier installation, which a new one goes on with"
		}
	}
	checks := []Check{check}
	if others := p.elsewhere(ctx); len(others) > 0 {
		checks = append(checks, Check{Name: "Other namespaces", Status: OK, Text: "MarbleRun is in " + strings.Join(others,
			", ")})
	}
	return checks
}

// objects finds quotas, admission rules and the like, by trying. It does not if the answer would be about something
// else: permissions, a namespace that does not exist yet, an installation that is there already.
func (p Prechecker) objects(ctx context.Context, r *Report) []Check {
	if p.DryRun == nil || slices.ContainsFunc(r.Checks, func(c Check) bool {
		return c.Name == permissions && c.Status != OK
	}) {
		return nil
	}
	_, err := p.Cluster.Client.CoreV1().Namespaces().Get(ctx, p.Cluster.Namespace, metav1.GetOptions{})
	last, err2 := p.Installer.Release(ctx)
	if err != nil || err2 != nil || last != nil {
		return nil
	}
	check := Check{Name: "Objects", Status: OK, Text: "the API server would take them"}
	if err := p.DryRun(ctx); err != nil {
		check.Status, check.Text, check.Hint = Problem, err.Error(), api.Hint(err)
	}
	return []Check{check}
}

func (p Prechecker) elsewhere(ctx context.Context) []string {
	list, err := p.Cluster.Client.AppsV1().Deployments(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/part-of=marblerun,app.kubernetes.io/name=coordinator",
	})
	if err != nil {
		return nil
	}
	var names []string
	for _, d := range list.Items {
		if d.Namespace != p.Cluster.Namespace {
			names = append(names, d.Namespace)
		}
	}
	return names
}

func unknown(c Check, err error) Check {
	c.Status, c.Text = Unknown, "cannot tell: "+err.Error()
	if apierrors.IsForbidden(err) {
		c.Text = "no permission to look"
	}
	return c
}
