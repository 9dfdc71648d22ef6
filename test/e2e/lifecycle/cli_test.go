// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/test/e2e/kit"
)

// TestCLI installs with marblerun, which can be run again, and asks what there is.
func TestCLI(t *testing.T) {
	t.Parallel()
	p := newPlane(t, "cli")
	out := p.Marblerun("precheck", "-n", p.ns)
	p.has("marblerun precheck", out.Stdout, "SGX", "To install MarbleRun run [marblerun install", "Permissions: enough")
	var ready struct{ Installable bool }
	p.printed(&ready, p.Marblerun("precheck", "-n", p.ns, "-o", "json").Stdout)
	if !ready.Installable {
		t.Error("precheck says that it cannot be installed")
	}
	out = p.Fails("marblerun", "check", "-n", p.ns, "--timeout", "0")
	p.has("marblerun check", out.Stderr, "is not installed", "Hint: ")

	p.restricted(p.ns)
	install := append([]string{"install", "-n", p.ns, "--simulation", "--domain", domain + ",192.0.2.7"},
		p.ownMarbles()...)
	for _, args := range [][]string{{"--dry-run"}, {"--dry-run", "--repo", p.repository()}} {
		out = p.Marblerun(append(install, args...)...)
		p.has("marblerun install --dry-run", out.Stdout, "chart "+p.Version(), "create Deployment "+coordinator,
			"create PersistentVolumeClaim "+claim)
	}
	if pods := p.pods(p.ns, ""); len(pods) > 0 {
		t.Errorf("--dry-run made Pods: %v", pods)
	}
	out = p.Marblerun(install...)
	p.has("stdout of marblerun install", out.Stdout, "MarbleRun installed successfully")
	p.has("stderr of marblerun install", out.Stderr, coordinator, injector, "waits for a manifest", "manifest set")
	p.reach(2)
	p.isNamed(domain, "192.0.2.7")
	p.installsAgain(install)
	p.isKnown()
	p.has("helm list", p.Helm("list", "-n", p.ns), "marblerun", "deployed", "marblerun-"+p.Version())
}

// installsAgain: the same command changes nothing, another one changes what it says.
func (p *plane) installsAgain(install []string) {
	p.Helper()
	before := p.pods(p.ns, "")
	p.has("a second install", p.Marblerun(install...).Stdout, "nothing to do")
	var result struct {
		Nothing     bool
		Coordinator struct{ Code int }
	}
	p.printed(&result, p.Marblerun(append(install, "-o", "json")...).Stdout)
	if !result.Nothing || result.Coordinator.Code != 2 {
		p.Errorf("%+v", result)
	}
	if after := p.pods(p.ns, ""); !maps.Equal(before, after) {
		p.Errorf("the Pods were %v and are %v", before, after)
	}
	bundle, injectors := p.bundle(), p.pods(p.ns, "app.kubernetes.io/name="+injector)
	p.Marblerun(append(install, "--set", "coordinator.debugLogging=true")...)
	p.reach(2)
	p.logHas(p.ns, ofCoordinator, `"level":"debug"`)
	if p.bundle() != bundle || !maps.Equal(p.pods(p.ns, "app.kubernetes.io/name="+injector), injectors) {
		p.Error("the injector was changed, too")
	}
}

// isKnown asks check and version.
func (p *plane) isKnown() {
	p.Helper()
	p.has("marblerun check", p.Marblerun("check", "-n", p.ns).Stdout, coordinator+" pods ready: 1/1",
		injector+" pods ready: 2/2")
	var checked struct {
		OK         bool
		Components []struct {
			Name          string
			Ready, Wanted int
		}
	}
	p.printed(&checked, p.Marblerun("check", "-n", p.ns, "-o", "json").Stdout)
	if !checked.OK || len(checked.Components) != 2 || checked.Components[0].Ready != 1 {
		p.Errorf("%+v", checked)
	}
	p.has("marblerun version", p.Marblerun("version", "-n", p.ns).Stdout, "CLI Version: v"+p.Version(),
		"Coordinator Version: v"+p.Version())
	var version struct{ CoordinatorVersion string }
	p.printed(&version, p.Marblerun("version", "-n", p.ns, "-o", "json").Stdout)
	if version.CoordinatorVersion != "v"+p.Version() {
		p.Errorf("%+v", version)
	}
}

// repository serves the packaged charts on loopback, and returns its URL. In the index, addresses are relative.
func (p *plane) repository() string {
	p.Helper()
	index, err := os.ReadFile(p.Dist("charts", "index.yaml"))
	if err != nil {
		p.Fatal(err)
	}
	dir := p.TempDir()
	text := strings.ReplaceAll(string(index), "https://marblerun.github.io/helm/stable/", "")
	if err := os.WriteFile(filepath.Join(dir, "index.yaml"), []byte(text), 0o600); err != nil {
		p.Fatal(err)
	}
	for _, name := range []string{"marblerun", "marblerun-coordinator"} {
		if err := os.Symlink(p.Chart(name), filepath.Join(dir, filepath.Base(p.Chart(name)))); err != nil {
			p.Fatal(err)
		}
	}
	return p.Repository(dir)
}

// TestBrokenOff kills an installation by Helm, which waits for a manifest (--wait) and so is in the middle. The CLI does
// not disturb it by itself; told to, it finishes it.
func TestBrokenOff(t *testing.T) {
	t.Parallel()
	p := newPlane(t, "broken")
	cmd := exec.Command("helm", slices.Concat([]string{"install", "marblerun", p.Chart("marblerun"), "-n", p.ns,
		"--create-namespace", "--wait"}, simulation())...)
	cmd.Env = p.Environ()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.Eventually("the release is in the middle", func(context.Context) error {
		out, err := p.Try(kit.Command{Args: []string{"kubectl", "-n", p.ns, "get", "deployment", coordinator}})
		if err != nil {
			return errors.New(out.Stderr)
		}
		return nil
	})
	_ = cmd.Process.Kill() // Wait says whether it has ended by itself
	if err := cmd.Wait(); err == nil {
		t.Fatal("helm install --wait did not wait for a manifest")
	}
	p.has("helm list", p.Helm("list", "-n", p.ns), "pending-install")
	install := append([]string{"install", "-n", p.ns, "--simulation"}, p.ownMarbles()...)
	out := p.Fails(append([]string{"marblerun"}, install...)...)
	p.has("marblerun install", out.Stderr, "another change", "pending-install", "Hint: ", "--force")
	out = p.Marblerun(append(install, "--force")...)
	p.has("marblerun install --force", out.Stdout, "MarbleRun installed successfully")
	p.reach(2)
	p.DeploymentReady(p.ns, injector)
	p.has("helm list", p.Helm("list", "-n", p.ns), "deployed")
	p.has("one more install", p.Marblerun(install...).Stdout, "nothing to do")
}
