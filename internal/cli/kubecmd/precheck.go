// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package kubecmd

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"
	chart "helm.sh/helm/v4/pkg/chart/v2"

	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/internal/kube/install"
	"github.com/marblerun/marblerun/internal/kube/install/precheck"
	"github.com/marblerun/marblerun/internal/kube/install/source"
	"github.com/marblerun/marblerun/internal/kube/install/values"
)

// precheckCmd makes the command precheck.
func (k Kube) precheckCmd() *cobra.Command {
	var where place
	var output console.Format
	cmd := &cobra.Command{
		Use:   "precheck",
		Short: "Check whether the Kubernetes cluster supports SGX, and whether MarbleRun can be installed on it",
		Long: `Check whether the Kubernetes cluster supports SGX, and whether MarbleRun can be installed on it

It changes nothing. The exit code is 1 only if 'marblerun install' would fail; without SGX it is 0, because there
are confidential VMs and simulation.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			chart, err := source.FromFS(embedded())
			if err != nil {
				return err
			}
			c, installer, err := k.installer(where)
			if err != nil {
				return err
			}
			p := precheck.Prechecker{
				Cluster: c, Installer: installer, Chart: chart, Mapper: c.Access.ToRESTMapper,
				DryRun: func(ctx context.Context) error { return tryObjects(ctx, installer, chart) },
			}
			report, err := p.Run(cmd.Context())
			if err != nil {
				return err
			}
			if output.JSON() {
				err = k.WriteJSON(report)
			} else {
				k.precheck(report)
			}
			if err == nil && !report.Installable {
				err = errors.New("MarbleRun cannot be installed as it is")
			}
			return err
		},
	}
	output.Add(cmd)
	where.add(cmd)
	return cmd
}

// tryObjects has the API server check what an installation in simulation would make: for quotas and admission rules the
// other ones hardly differ.
func tryObjects(ctx context.Context, installer *install.Installer, chart *chart.Chart) error {
	wishes := values.Wishes{Simulation: true}
	simulation, err := wishes.Build(chart, func() (string, error) { return "", nil })
	if err != nil {
		return err
	}
	plan, err := installer.Plan(ctx, install.Request{Chart: chart, Values: simulation})
	if err != nil {
		return err
	}
	_, err = installer.Check(plan)
	return err
}

// precheck prints first what MarbleRun prints, then the rest.
func (k Kube) precheck(r *precheck.Report) {
	switch n := len(r.SGX.Nodes); {
	case r.SGXError != "":
		k.Warn("whether nodes support SGX is not known: %s", r.SGXError)
	case n == 0:
		k.Say("Cluster does not support SGX, you may still run MarbleRun in simulation mode")
		k.Say("To install MarbleRun run [marblerun install --simulation]")
		k.Say("If your nodes have SGX support you might be missing an SGX device plugin")
		k.Say("See docs/howto/kubernetes/platforms.md")
	case n == 1:
		k.Say("Cluster supports SGX on 1 node")
		k.Say("To install MarbleRun run [marblerun install]")
	default:
		k.Say("Cluster supports SGX on %d nodes", n)
		k.Say("To install MarbleRun run [marblerun install]")
	}
	if len(r.SGX.Nodes) > 0 {
		k.Say("SGX resource: %s", strings.Join(r.SGX.Resources(), ", "))
	}
	k.Say("")
	for _, c := range r.Checks {
		k.Say("%-8s %s: %s", c.Status, c.Name, c.Text)
		if c.Hint != "" && c.Status == precheck.Problem {
			k.Say("         %s", c.Hint)
		}
	}
}
