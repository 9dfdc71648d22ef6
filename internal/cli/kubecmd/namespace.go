// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package kubecmd

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/marblerun/marblerun/internal/cli/session"
	"github.com/marblerun/marblerun/internal/kube/cluster"
)

// Labels of namespaces in MarbleRun before 0.6.
const (
	injectLabel    = "marblerun/inject"
	injectSGXLabel = "marblerun/inject-sgx"
)

// namespaceCmd makes the commands of MarbleRun 0.3 to 0.5 for namespaces. Injection goes by the labels of Pods now, so
// they only keep old scripts running.
func (k Kube) namespaceCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "namespace",
		Short:  "Label namespaces as MarbleRun 0.3 to 0.5 did (has no effect any more)",
		Hidden: true,
	}
	session.Group(cmd)
	cmd.AddCommand(k.namespaceAddCmd(), k.namespaceListCmd(), k.namespaceRemoveCmd())
	return cmd
}

// noteLabels says what decides today.
func (k Kube) noteLabels() {
	k.Note("Pods are injected by their own label marblerun/marbletype now; labels of namespaces have no effect.")
}

func (k Kube) namespaceAddCmd() *cobra.Command {
	var where place
	var noSGX bool
	cmd := &cobra.Command{
		Use:   "add NAMESPACE ...",
		Short: "Label namespaces",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := k.open(where)
			if err != nil {
				return err
			}
			k.noteLabels()
			sgx := "enabled"
			if noSGX {
				sgx = "disabled"
			}
			for _, name := range args {
				if err := label(cmd, c, name, map[string]any{injectLabel: "enabled", injectSGXLabel: sgx}); err != nil {
					k.Note("Could not apply patch")
					return c.Explain(err)
				}
				k.Say("Added namespace [%s] to Marblerun mesh", name)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&noSGX, "no-sgx-injection", false, "label them to get no SGX resources")
	where.add(cmd)
	return cmd
}

// label sets labels of a namespace; nil removes one.
func label(cmd *cobra.Command, c *cluster.Cluster, name string, labels map[string]any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels}})
	if err != nil {
		return err
	}
	_, err = c.Client.CoreV1().Namespaces().Patch(cmd.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

func (k Kube) namespaceListCmd() *cobra.Command {
	var where place
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List labeled namespaces",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := k.open(where)
			if err != nil {
				return err
			}
			list, err := c.Client.CoreV1().Namespaces().List(cmd.Context(),
				metav1.ListOptions{LabelSelector: injectLabel + "=enabled"})
			if err != nil {
				return c.Explain(err)
			}
			k.noteLabels()
			for _, namespace := range list.Items {
				k.Say("%s", namespace.Name)
			}
			if len(list.Items) == 0 {
				k.Say("No namespaces have been added to the Marblerun mesh")
			}
			return nil
		},
	}
	where.add(cmd)
	return cmd
}

func (k Kube) namespaceRemoveCmd() *cobra.Command {
	var where place
	cmd := &cobra.Command{
		Use:   "remove NAMESPACE",
		Short: "Remove the labels of a namespace",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := k.open(where)
			if err != nil {
				return err
			}
			namespace, err := c.Client.CoreV1().Namespaces().Get(cmd.Context(), args[0], metav1.GetOptions{})
			if err != nil {
				return c.Explain(err)
			}
			switch value, found := namespace.Labels[injectLabel]; {
			case !found:
				return fmt.Errorf("namespace [%s] does not belong to the Marblerun mesh", args[0])
			case value != "enabled":
				return errors.New("unexpected value in namespace label: " + value)
			}
			if err := label(cmd, c, args[0], map[string]any{injectLabel: nil, injectSGXLabel: nil}); err != nil {
				return c.Explain(err)
			}
			k.Say("Namespace [%s] succesfully removed from the Marblerun mesh", args[0])
			return nil
		},
	}
	where.add(cmd)
	return cmd
}
