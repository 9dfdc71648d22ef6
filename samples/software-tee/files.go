// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/marblerun/marblerun/attest/softtee"
)

// coordinator is the workload for which there are an environment and a policy instead of a package.
const coordinator = "coordinator"

// publish writes the files that others need, and says what is there. The file "ready" is the last.
func (o options) publish(platform *softtee.Platform, addr string, out io.Writer) error {
	roots, err := platform.RootsPEM()
	if err != nil {
		return err
	}
	packages := map[string]pinned{}
	files := map[string][]byte{"roots.pem": roots}
	for _, w := range o.workloads {
		if files[w.name+".evidence"], err = platform.Evidence(w.request()); err != nil {
			return err
		}
		if w.name != coordinator {
			packages[w.name] = w.pinned()
			continue
		}
		if files["era-config.json"], err = readable(w.pinned()); err != nil {
			return err
		}
		files["coordinator.env"] = o.environment(w, addr)
	}
	if files["packages.json"], err = readable(packages); err != nil {
		return err
	}
	if o.manifest != "" {
		if files["manifest.json"], err = fill(o.manifest, packages); err != nil {
			return fmt.Errorf("filling %s: %w", o.manifest, err)
		}
	}
	files["cli.flags"] = o.flags(addr)
	if err := o.write(files); err != nil {
		return err
	}
	o.describe(addr, out)
	return o.write(map[string][]byte{"ready": nil})
}

func (o options) write(files map[string][]byte) (err error) {
	for name, data := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(o.dir, name), data, 0o600))
	}
	return err
}

// environment is one variable a line, good for "env $(cat FILE) coordinator".
func (o options) environment(w workload, addr string) []byte {
	return fmt.Appendf(nil, "EDG_SOFTTEE_SOCKET=%s\nEDG_COORDINATOR_SOFTTEE_ROOT=%s\nEDG_COORDINATOR_PCCS_URL=%s\n"+
		"EDG_COORDINATOR_KDS_URL=%s\n", o.socket(w), filepath.Join(o.dir, "roots.pem"), pccs(addr), kds(addr))
}

// flags is one flag a line.
func (o options) flags(addr string) []byte {
	return fmt.Appendf(nil, "--software-tee-root=%s\n--pccs-url=%s\n--kds-url=%s\n", filepath.Join(o.dir, "roots.pem"),
		pccs(addr), kds(addr))
}

func pccs(addr string) string { return "http://" + addr + "/sgx/certification/v4/" }
func kds(addr string) string  { return "http://" + addr }

// fill replaces a manifest's packages. Every Marble that is named like a workload gets the package of that name;
// another one is a mistake.
func fill(file string, packages map[string]pinned) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var manifest, marbles map[string]json.RawMessage
	if err := json.Unmarshal(data, &manifest); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(manifest["Marbles"], &marbles); err != nil {
		return nil, fmt.Errorf("Marbles: %w", err)
	}
	used := map[string]pinned{}
	for name, text := range marbles {
		p, ok := packages[name]
		if !ok {
			return nil, fmt.Errorf("the Marble %q has no workload; add %s=KIND", name, name)
		}
		used[name] = p
		if marbles[name], err = repackaged(text, name); err != nil {
			return nil, fmt.Errorf("the Marble %q: %w", name, err)
		}
	}
	if manifest["Packages"], err = readable(used); err != nil {
		return nil, err
	}
	if manifest["Marbles"], err = readable(marbles); err != nil {
		return nil, err
	}
	return readable(manifest)
}

// repackaged is a Marble with another package.
func repackaged(marble json.RawMessage, name string) (json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(marble, &members); err != nil {
		return nil, err
	}
	if members == nil {
		return nil, errors.New("is null")
	}
	var err error
	members["Package"], err = json.Marshal(name)
	if err != nil {
		return nil, err
	}
	return readable(members)
}

// readable is JSON for people.
func readable(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return out.Bytes(), err
}

// describe says what is served, for people.
func (o options) describe(addr string, out io.Writer) {
	fmt.Fprintf(out, "collateral at http://%s, files in %s\n", addr, o.dir)
	for _, w := range o.workloads {
		fmt.Fprintf(out, "\n%s: %s at %s\n", w.name, w.kind, w.name+".sock")
		if text, err := readable(w.pinned()); err == nil {
			fmt.Fprintf(out, "%s", text)
		}
	}
}
