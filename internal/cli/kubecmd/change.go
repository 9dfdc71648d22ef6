// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package kubecmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/kube/cluster"
	"github.com/marblerun/marblerun/internal/kube/install"
	"github.com/marblerun/marblerun/internal/kube/install/rollout"
)

// words are what a command says at its end.
type words struct {
	done, nothing string
	// goBack: say how, after a failure.
	goBack bool
}

// result is what -o json prints.
type result struct {
	*install.Plan
	// Waited: the parts run. If they do not in time, Parts say why.
	Waited bool             `json:"waited"`
	Parts  []rollout.Status `json:"parts,omitempty"`
	// Coordinator is what the API server passed on, unverified.
	Coordinator *rollout.State `json:"coordinator,omitempty"`
}

// change plans, applies and waits.
func (k Kube) change(
	ctx context.Context, c *cluster.Cluster, installer *install.Installer, r install.Request, how changeFlags, w words,
) error {
	plan, err := installer.Plan(ctx, r)
	if err != nil {
		return err
	}
	if how.dryRun {
		return k.showPlan(installer, plan, r, how.output)
	}
	k.announce(c, plan, r)
	line := k.Line()
	err = installer.Apply(ctx, plan, line.Set)
	line.Clear()
	if err != nil {
		return k.howToGoBack(err, plan, w)
	}
	out := result{Plan: plan}
	if how.wait {
		out.Parts, err = rollout.Wait(ctx, c.Client, c.Namespace, plan.Parts(), how.timeout, k.follow(line.Set))
		line.Clear()
		if err != nil {
			return k.notRunning(c, err, out, how, w)
		}
		out.Waited = true
	}
	return k.finish(ctx, c, out, how, w)
}

// announce says what is going to happen, on stderr.
func (k Kube) announce(c *cluster.Cluster, p *install.Plan, r install.Request) {
	if p.Nothing {
		return
	}
	k.Note("Helm release %s in namespace %s of %s", p.Release, p.Namespace, c.Place)
	if p.Repair != "" {
		k.Note("  repairs it: %s", p.Repair)
	}
	if p.Fresh {
		k.Note("  chart %s %s", r.Chart.Metadata.Name, r.Chart.Metadata.Version)
	}
	for _, change := range p.Changes {
		k.Note("  %s", change)
	}
	for _, key := range p.Delete {
		k.Note("  removes %s", key)
	}
}

// notRunning is the error of waiting, with what was done all the same.
func (k Kube) notRunning(c *cluster.Cluster, err error, out result, how changeFlags, w words) error {
	if how.output == "json" {
		if err2 := k.WriteJSON(out); err2 != nil {
			return err2
		}
	}
	if errors.Is(err, context.Canceled) {
		err = api.WithHint(errors.New("interrupted while waiting; MarbleRun is installed and may still come up"),
			fmt.Sprintf("'marblerun check -n %s' waits again.", c.Namespace))
	}
	return k.howToGoBack(c.Explain(err), out.Plan, w)
}

// howToGoBack says how to undo an upgrade that failed.
func (k Kube) howToGoBack(err error, p *install.Plan, w words) error {
	if w.goBack && p.Revision > 1 && !p.Nothing {
		k.Note("To go back: helm -n %s rollback %s %d", p.Namespace, p.Release, p.Revision-1)
		k.Note("Or run 'marblerun upgrade --force' with the chart and the values from before.")
	}
	return err
}

// finish says what was done and what comes next.
func (k Kube) finish(ctx context.Context, c *cluster.Cluster, out result, how changeFlags, w words) error {
	if out.Waited {
		if state, err := rollout.AskState(ctx, c.Client, c.Namespace); err == nil {
			out.Coordinator = &state
		}
	}
	if how.output == "json" {
		return k.WriteJSON(out)
	}
	if out.Nothing {
		k.Say("%s", w.nothing)
	} else {
		k.Say("%s", w.done)
	}
	if !how.wait {
		k.Note("'marblerun check -n %s' waits until it runs.", c.Namespace)
		return nil
	}
	k.next(out)
	return nil
}

// next names the commands that usually come next.
func (k Kube) next(out result) {
	simulation, port := "", 4433
	for _, o := range out.Objects {
		if o.GetKind() == "Service" && o.GetName() == "coordinator-client-api" {
			port = install.ServicePort(o, port)
		}
	}
	if out.Platform == install.Simulation {
		simulation = " --insecure"
	}
	forward := fmt.Sprintf("kubectl -n %s port-forward svc/coordinator-client-api %d:%d --address localhost",
		out.Namespace, port, port)
	state := out.Coordinator
	switch {
	case state == nil:
	case state.Code == rollout.StateAccepting:
		k.Note("The Coordinator accepts Marbles (as the API server passed on, unverified).")
		return
	case state.Code == rollout.StateRecovery:
		k.Warn("the Coordinator needs recovery (as the API server passed on, unverified). Next:")
		k.Note("  %s &", forward)
		k.Note("  marblerun recover RECOVERY_SECRET localhost:%d -k KEY%s", port, simulation)
		return
	default:
		k.Note("The Coordinator waits for a manifest (as the API server passed on, unverified).")
	}
	if out.Nothing {
		return
	}
	k.Note("Next:")
	k.Note("  %s &", forward)
	k.Note("  marblerun manifest set manifest.json localhost:%d%s", port, simulation)
}

// showPlan prints what would be done.
func (k Kube) showPlan(installer *install.Installer, p *install.Plan, r install.Request, output string) error {
	note, err := installer.Check(p)
	if err != nil {
		return err
	}
	if note != "" {
		k.Note("%s", note)
	}
	switch output {
	case "json", "yaml":
		data, hidden, err := p.Objects.Print(output)
		if err != nil {
			return err
		}
		if hidden {
			k.Note("Values in Secrets are shown as (hidden).")
		}
		return k.Write(data)
	}
	verb := "Would change"
	switch {
	case p.Nothing:
		verb = "Nothing to do for"
	case p.Fresh:
		verb = "Would install"
	case p.Repair != "":
		verb = "Would repair"
	}
	k.Say("%s Helm release %s in namespace %s: chart %s, revision %d", verb, p.Release, p.Namespace,
		r.Chart.Metadata.Version, p.Revision)
	if p.Repair != "" {
		k.Say("  because: %s", p.Repair)
	}
	for _, change := range p.Changes {
		k.Say("  %s", change)
	}
	if p.CreateNamespace {
		k.Say("  create Namespace %s", p.Namespace)
	}
	k.sayKeys("create", p.Create)
	k.sayKeys("change", p.Change)
	k.sayKeys("delete", p.Delete)
	k.Note("Nothing was changed (--dry-run).")
	return nil
}

func (k Kube) sayKeys(verb string, keys []install.Key) {
	for _, key := range keys {
		k.Say("  %s %s", verb, key)
	}
}
