// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package kubecmd are the commands about MarbleRun on Kubernetes: install, upgrade, uninstall, precheck, check,
// version, and the namespace commands of MarbleRun before 0.6. What they do is in packages below internal/kube; here
// are flags and words.
//
// Invariants: the lines that scripts for MarbleRun 1.x look for are on stdout and as they were; progress goes to
// stderr. What the API server passed on from a Coordinator is called unverified, and decides nothing but what check
// says.
package kubecmd

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/charts"
	"github.com/marblerun/marblerun/internal/cli/session"
	"github.com/marblerun/marblerun/internal/kube/cluster"
	"github.com/marblerun/marblerun/internal/kube/install"
	"github.com/marblerun/marblerun/internal/kube/install/rollout"
	"github.com/marblerun/marblerun/internal/kube/install/source"
)

// Kube makes the commands of one run.
type Kube struct {
	*session.Session
	// Stdin is read for the file "-".
	Stdin io.Reader
	// Version and Commit are the program's.
	Version, Commit string
}

// Commands returns all commands but version.
func (k Kube) Commands() []*cobra.Command {
	return []*cobra.Command{
		k.installCmd(), k.upgradeCmd(), k.uninstallCmd(), k.precheckCmd(), k.checkCmd(), k.namespaceCmd(),
	}
}

// place are the flags that choose a cluster.
type place struct{ kubeconfig, context string }

func (p *place) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.kubeconfig, "kubeconfig", "",
		"kubeconfig file (default: $KUBECONFIG, which may be a list, or ~/.kube/config, or the Pod's service account)")
	cmd.Flags().StringVar(&p.context, "context", "", "context of the kubeconfig (default: its current one)")
}

// open chooses the cluster. It does not connect.
func (k Kube) open(p place) (*cluster.Cluster, error) {
	cluster.Quiet()
	warned := map[string]bool{}
	return cluster.Open(cluster.Options{
		Kubeconfig: p.kubeconfig, Context: p.context, Namespace: k.Namespace,
		Warn: func(text string) {
			if !warned[text] {
				warned[text] = true
				k.Warn("%s", text)
			}
		},
	})
}

// installer chooses the cluster, and works on it.
func (k Kube) installer(p place) (*cluster.Cluster, *install.Installer, error) {
	c, err := k.open(p)
	if err != nil {
		return nil, nil, err
	}
	i, err := install.New(c, os.Getenv("HELM_DRIVER"))
	return c, i, err
}

// chartFlags are the flags that choose a chart.
type chartFlags struct{ path, repository, version string }

func (f *chartFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.path, "marblerun-chart-path", "",
		"folder or .tgz with the chart (default: the chart in this program)")
	cmd.Flags().StringVar(&f.repository, "repo", "",
		"get the chart from this Helm repository: its URL, or its name as in 'helm repo add'")
	cmd.Flags().StringVar(&f.version, "version", "",
		"version of the chart (default: this program's, with --repo the newest)")
	cmd.MarkFlagsMutuallyExclusive("marblerun-chart-path", "repo")
}

func (f *chartFlags) source() source.Source {
	return source.Source{Embedded: embedded(), Path: f.path, Repository: f.repository, Version: f.version}
}

func embedded() fs.FS { return charts.Files() }

// changeFlags are the flags of commands that change the cluster and wait.
type changeFlags struct {
	wait    bool
	timeout time.Duration
	dryRun  bool
	force   bool
	output  string
}

func (f *changeFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.wait, "wait", true, "wait until the Coordinator and the injector run")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 5*time.Minute, "how long to wait")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false,
		"change nothing: have the API server check the objects, and say what would be done")
	cmd.Flags().BoolVar(&f.force, "force", false,
		"do it even if the state may not survive it (an older chart, another TEE), "+
			"or if another change seems to be under way")
	cmd.Flags().VarP(&formatValue{&f.output}, "output", "o",
		"output format; yaml, with --dry-run, prints the objects, as json does")
}

// formatValue is text, json or yaml.
type formatValue struct{ to *string }

// String, Type and Set make it a flag.
func (f *formatValue) String() string {
	if f.to == nil || *f.to == "" {
		return "text"
	}
	return *f.to
}
func (f *formatValue) Type() string { return "text|json|yaml" }
func (f *formatValue) Set(s string) error {
	if s != "text" && s != "json" && s != "yaml" {
		return fmt.Errorf("must be text, json or yaml")
	}
	*f.to = s
	return nil
}

// follow returns a function that shows how far the parts are; that one does not exist is an error, and no progress. A
// line of a terminal is short, so it goes without the names of Pods.
func (k Kube) follow(show func(string)) func([]rollout.Status) {
	return func(all []rollout.Status) {
		text := ""
		for _, s := range all {
			if s.Done || !s.Found {
				continue
			}
			if text != "" {
				text += ", "
			}
			text += s.String()
			if len(s.Reasons) > 0 && k.Live == nil {
				text += " (" + s.Reasons[0].String() + ")"
			} else if len(s.Reasons) > 0 {
				text += " (" + s.Reasons[0].Text + ")"
			}
		}
		if text != "" {
			show(text)
		}
	}
}
