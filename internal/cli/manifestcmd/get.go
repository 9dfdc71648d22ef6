// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifestcmd

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/cli/console"
)

type manifestGetFlags struct {
	keepCert, signature, update bool
	output                      console.Target
}

func (a *commands) manifestGetCmd() *cobra.Command {
	var f manifestGetFlags
	cmd := &cobra.Command{
		Use:   "get <IP:PORT>",
		Short: "Get the manifest from the MarbleRun Coordinator",
		Long: "Get the manifest from the MarbleRun Coordinator.\n\n" +
			"The Coordinator is verified, and its signature over the manifest is checked. With --output FILE the bytes are\n" +
			"exactly those that were set.",
		Example: "marblerun manifest get $MARBLERUN -s --era-config=era.json",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.manifestGet(cmd, args[0], f) },
	}
	cmd.Flags().BoolVar(&f.keepCert, "keep-cert", false, "keep the Coordinator's certificates for later commands")
	cmd.Flags().BoolVarP(&f.signature, "signature", "s", false, "also print the signature (SHA-256) of the manifest")
	cmd.Flags().BoolVarP(&f.update, "display-update", "u", false, "merge package updates into the displayed manifest")
	f.output.Add(cmd, "")
	return cmd
}

func (a *commands) manifestGet(cmd *cobra.Command, endpoint string, f manifestGetFlags) error {
	client, chain, err := a.Verified(cmd.Context(), endpoint, nil)
	if err != nil {
		return err
	}
	a.NoteVerified("requesting manifest")
	m, err := client.ManifestGet(cmd.Context())
	if err != nil {
		return fmt.Errorf("getting manifest: %w", err)
	}
	text := m.Bytes
	if f.update {
		if text, err = withUpdates(cmd.Context(), client, m.Bytes); err != nil {
			return err
		}
	}
	if err := a.printManifest(m, text, f); err != nil || !f.keepCert {
		return err
	}
	return a.Keep(endpoint, chain)
}

// printManifest prints text, which is the manifest or a form of it.
func (a *commands) printManifest(m *api.Manifest, text []byte, f manifestGetFlags) error {
	if f.output.JSON() {
		return a.WriteJSON(map[string]any{
			"manifest": json.RawMessage(text), "manifestBytes": m.Bytes,
			"manifestSignature": m.Fingerprint, "manifestSignatureRootECDSA": m.Signature,
		})
	}
	if f.signature {
		text = fmt.Appendf(nil, "{\n\"ManifestSignature\": \"%s\",\n\"Manifest\": %s}", m.Fingerprint, text)
	}
	if f.output.File() == "" {
		return a.Write(append(text, '\n'))
	}
	if err := console.SavePublic(f.output.File(), text); err != nil {
		return fmt.Errorf("saving manifest: %w", err)
	}
	a.Note("Manifest written to %s", f.output.File())
	return nil
}

// withUpdates folds the package updates of the update log into the manifest and leaves out what is empty. The result is
// for reading: it is not what the Coordinator signed.
func withUpdates(ctx context.Context, client *api.Client, manifest []byte) ([]byte, error) {
	log, err := client.ManifestLog(ctx)
	if err != nil {
		return nil, fmt.Errorf("retrieving update log: %w", err)
	}
	out, err := consolidate(manifest, log)
	if err != nil {
		return nil, fmt.Errorf("consolidating manifest: %w", err)
	}
	return out, nil
}

func consolidate(manifest []byte, log []string) ([]byte, error) {
	decoder := json.NewDecoder(strings.NewReader(string(manifest)))
	decoder.UseNumber() // keeps what a float64 cannot
	var doc map[string]any
	if err := decoder.Decode(&doc); err != nil {
		return nil, err
	}
	packages, _ := member(doc, "Packages").(map[string]any)
	facts, err := readLog(log)
	if err != nil {
		return nil, fmt.Errorf("update log: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(facts.versions)) {
		p, ok := packages[name].(map[string]any)
		if !ok {
			return nil, fmt.Errorf("package %s not found in base manifest", name)
		}
		setMember(p, "SecurityVersion", facts.versions[name])
	}
	return json.MarshalIndent(withoutEmpty(doc), "", "    ")
}

// member finds a field by name regardless of case, as the manifest language does.
func member(object map[string]any, name string) any {
	for key, value := range object {
		if strings.EqualFold(key, name) {
			return value
		}
	}
	return nil
}

func setMember(object map[string]any, name string, value any) {
	for key := range object {
		if strings.EqualFold(key, name) {
			delete(object, key)
		}
	}
	object[name] = value
}

// withoutEmpty drops null and empty objects, from the leaves up.
func withoutEmpty(value any) any {
	object, ok := value.(map[string]any)
	if !ok {
		return value
	}
	for key, child := range object {
		child = withoutEmpty(child)
		object[key] = child
		inner, isObject := child.(map[string]any)
		if child == nil || isObject && len(inner) == 0 {
			delete(object, key)
		}
	}
	return object
}
