// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package kubecmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/internal/kube/cluster"
	"github.com/marblerun/marblerun/internal/kube/install"
	"github.com/marblerun/marblerun/internal/kube/install/rollout"
)

// checked is what -o json prints.
type checked struct {
	OK         bool             `json:"ok"`
	Components []rollout.Status `json:"components"`
	// Coordinator is what the API server passed on, unverified; StateError says why it is not known.
	Coordinator *rollout.State `json:"coordinator,omitempty"`
	StateError  string         `json:"stateError,omitempty"`
}

// checkCmd makes the command check.
func (k Kube) checkCmd() *cobra.Command {
	var where place
	var output console.Format
	var timeout uint
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check whether MarbleRun runs on the Kubernetes cluster",
		Long: `Check whether MarbleRun runs on the Kubernetes cluster

It waits until the Coordinator and, if it is installed, the injector run. It fails if one of them is missing or
does not run in time, if the API server does not know the injector's certificate, and if the Coordinator needs
recovery. A Coordinator that waits for a manifest is fine.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, installer, err := k.installer(where)
			if err != nil {
				return err
			}
			return k.check(cmd.Context(), c, installer, time.Duration(timeout)*time.Second, output.JSON())
		},
	}
	cmd.Flags().UintVar(&timeout, "timeout", 60, "seconds to wait; 0: look once")
	output.Add(cmd)
	where.add(cmd)
	return cmd
}

func (k Kube) check(
	ctx context.Context, c *cluster.Cluster, installer *install.Installer, timeout time.Duration, json bool,
) error {
	parts, err := k.parts(ctx, c, installer)
	if err != nil {
		return c.Explain(err)
	}
	line := k.Line()
	var out checked
	show := line.Set
	if timeout == 0 {
		show = func(string) {} // the one look is the result
	}
	out.Components, err = rollout.Wait(ctx, c.Client, c.Namespace, parts, timeout, k.follow(show))
	line.Clear()
	if err == nil {
		err = k.state(ctx, c, &out)
	}
	out.OK = err == nil
	if json {
		if err2 := k.WriteJSON(out); err2 != nil {
			return err2
		}
		return c.Explain(err)
	}
	for _, s := range out.Components {
		k.Say("%s", s)
	}
	if len(parts) == 1 && len(out.Components) == 1 { // and not: who may not look
		k.Say("%s is not installed on this cluster", rollout.InjectorName)
	}
	if out.Coordinator != nil {
		k.Say("Coordinator status (unverified): %d: %s", out.Coordinator.Code, out.Coordinator.Message)
	}
	return c.Explain(err)
}

// parts are what the release has, or, for an installation that Helm does not know, what there is.
func (k Kube) parts(ctx context.Context, c *cluster.Cluster, installer *install.Installer) ([]rollout.Part, error) {
	parts, found, err := installer.Parts(ctx)
	if err != nil && !apierrors.IsForbidden(err) {
		return nil, err
	}
	if found {
		return parts, nil
	}
	parts = []rollout.Part{rollout.Coordinator()}
	injector := rollout.Injector(c.Namespace)
	_, err = c.Client.AppsV1().Deployments(c.Namespace).Get(ctx, injector.Deployment, metav1.GetOptions{})
	hooks := c.Client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	_, err2 := hooks.Get(ctx, injector.Webhook, metav1.GetOptions{})
	if err == nil || err2 == nil {
		parts = append(parts, injector)
	}
	return parts, nil
}

// state asks for the Coordinator's state. Only recovery is an error: people have to act.
func (k Kube) state(ctx context.Context, c *cluster.Cluster, out *checked) error {
	state, err := rollout.AskState(ctx, c.Client, c.Namespace)
	if err != nil {
		out.StateError = err.Error()
		k.Warn("the Coordinator runs, but its state is not known: %v", err)
		return nil
	}
	out.Coordinator = &state
	if state.Code == rollout.StateRecovery {
		return api.WithHint(errors.New("the Coordinator needs recovery"),
			"Its state cannot be opened without recovery secrets: 'marblerun recover --help'.")
	}
	return nil
}

// VersionCommand makes the command version.
func (k Kube) VersionCommand() *cobra.Command {
	var where place
	var output console.Format
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Display version of this CLI and of the Coordinator on the Kubernetes cluster",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			coordinator, err := k.coordinatorVersion(cmd.Context(), where)
			if output.JSON() {
				out := map[string]string{"version": k.Version, "commit": k.Commit, "coordinatorVersion": coordinator}
				if err != nil {
					out["error"] = err.Error()
				}
				return k.WriteJSON(out)
			}
			k.Say("CLI Version: %s", k.Version)
			k.Say("Commit: %s", k.Commit)
			if err != nil {
				k.Say("Unable to find MarbleRun Coordinator")
				k.Note("%v", err)
				return nil
			}
			k.Say("Coordinator Version: %s", coordinator)
			return nil
		},
	}
	output.Add(cmd)
	where.add(cmd)
	return cmd
}

// versionTimeout bounds the search for a Coordinator: who asks for a version may have no cluster in reach.
const versionTimeout = 5 * time.Second

// coordinatorVersion reads it from the Deployment's label, as MarbleRun does.
func (k Kube) coordinatorVersion(ctx context.Context, where place) (string, error) {
	c, err := k.open(where)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	d, err := c.Client.AppsV1().Deployments(c.Namespace).Get(ctx, rollout.CoordinatorName, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	version := d.Labels["app.kubernetes.io/version"]
	if version == "" {
		return "", fmt.Errorf("deployment %s has no label app.kubernetes.io/version", d.Name)
	}
	return version, nil
}
