// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package kubecmd

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/kube/cluster"
	"github.com/marblerun/marblerun/internal/kube/install"
)

const installLong = `Install MarbleRun on a Kubernetes cluster

The same command again changes nothing. With other flags it changes the installation to what they say: flags
that are not given mean their defaults, as with 'helm upgrade --install'. An installation that was broken off is
finished. To change single values and keep the others, use 'marblerun upgrade'.

The chart is the one in this program; nothing is downloaded. The Helm release is called marblerun, so 'helm' can
be used on it. The injector gets its certificate by itself: neither cert-manager nor an approved signing request
is needed.

The command waits until the Coordinator runs. It is then up to you to set a manifest.`

// installCmd makes the command install.
func (k Kube) installCmd() *cobra.Command {
	var where place
	var from chartFlags
	var what valueFlags
	var how changeFlags
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install MarbleRun on a Kubernetes cluster",
		Long:  installLong,
		Example: `# with SGX
marblerun install --domain=mycluster.uksouth.cloudapp.azure.com

# without, for tests
marblerun install --domain=mycluster.uksouth.cloudapp.azure.com --simulation`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			wishes, err := what.wishes(k.Stdin)
			if err != nil {
				return err
			}
			if err := how.check(); err != nil {
				return err
			}
			chart, err := from.source().Load()
			if err != nil {
				return err
			}
			c, installer, err := k.installer(where)
			if err != nil {
				return err
			}
			values, err := wishes.Build(chart, func() (string, error) { return k.plugin(cmd.Context(), c) })
			if err != nil {
				return err
			}
			r := install.Request{Chart: chart, Values: values, Force: how.force}
			return k.change(cmd.Context(), c, installer, r, how, words{
				done: "MarbleRun installed successfully", nothing: "MarbleRun is installed already, nothing to do",
			})
		},
	}
	what.add(cmd)
	from.add(cmd)
	how.add(cmd)
	where.add(cmd)
	addOld(cmd)
	return cmd
}

// addOld adds flags of MarbleRun's CLI that have no effect any more. They print that to stdout, as they always did.
func addOld(cmd *cobra.Command) {
	f := cmd.Flags()
	f.String("dcap-qpl", "azure", "")
	f.String("enterprise-access-token", "", "")
	f.Bool("no-sgx-device-plugin", false, "")
	for name, text := range map[string]string{
		"dcap-qpl": "All platforms use the same QPL now. " +
			"Use --dcap-pccs-url to configure the PCCS server address.",
		"enterprise-access-token": "--enterprise-access-token is no longer needed.",
		"no-sgx-device-plugin":    "no device plugin is installed.",
	} {
		if err := f.MarkDeprecated(name, text); err != nil {
			panic(err) // only for a flag that is not there
		}
	}
}

// plugin tells which SGX resource the nodes have, and warns if there is none. Who may not list nodes gets the default.
func (k Kube) plugin(ctx context.Context, c *cluster.Cluster) (string, error) {
	found, err := c.SGX(ctx)
	switch {
	case apierrors.IsForbidden(err):
		k.Note("The nodes may not be listed, so the SGX resource is taken to be %s. --resource-key names another.",
			cluster.IntelEPC)
		return "", nil
	case err != nil:
		return "", c.Explain(errors.Join(errors.New("trying to determine SGX resource key"), err))
	}
	resources := found.Resources()
	switch {
	case len(resources) == 0:
		k.Warn("no node has SGX, so the Coordinator will not start. For a cluster without SGX add --simulation.")
	case len(resources) > 1:
		k.Warn("nodes have different SGX resources (%v); taking %s. --resource-key names another.", resources,
			found.Resource())
	}
	if found.Resource() == cluster.IntelEPC {
		return "", nil // the chart's own default
	}
	return found.Resource(), nil
}

// upgradeCmd makes the command upgrade.
func (k Kube) upgradeCmd() *cobra.Command {
	var where place
	var from chartFlags
	var given givenFlags
	var how changeFlags
	var reset bool
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Upgrade MarbleRun on a Kubernetes cluster",
		Long: `Upgrade MarbleRun on a Kubernetes cluster to the chart in this program, or to another one

The values of the installation stay, and those given here are added. It says what will change, waits until the
new version runs, and says how to go back if it does not. The sealed state stays.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := how.check(); err != nil {
				return err
			}
			values, err := given.given(k.Stdin).Parse()
			if err != nil {
				return err
			}
			chart, err := from.source().Load()
			if err != nil {
				return err
			}
			c, installer, err := k.installer(where)
			if err != nil {
				return err
			}
			r := install.Request{Chart: chart, Values: values, Reuse: !reset, MustExist: true, Force: how.force}
			return k.change(cmd.Context(), c, installer, r, how, words{
				done: "MarbleRun upgraded successfully", nothing: "MarbleRun is up to date, nothing to do", goBack: true,
			})
		},
	}
	given.add(cmd)
	cmd.Flags().BoolVar(&reset, "reset-values", false, "forget the installation's values: use those given here only")
	from.add(cmd)
	how.add(cmd)
	where.add(cmd)
	return cmd
}

// check refuses what makes no sense together.
func (f *changeFlags) check() error {
	if f.output == "yaml" && !f.dryRun {
		return api.WithHint(errors.New("-o yaml prints the objects, which --dry-run makes"), "Add --dry-run, or use -o json.")
	}
	if f.timeout < 0 {
		return errors.New("--timeout must not be negative")
	}
	return nil
}
