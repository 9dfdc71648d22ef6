// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifestcmd

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/manifest/diff/effect"
)

// addRecoveryData adds --recoverydata, which the help of MarbleRun 1.x also calls --recovery-data.
func addRecoveryData(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "recoverydata", "r", "", "file to write the recovery data to (default: print it)")
	cmd.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "recovery-data" {
			name = "recoverydata"
		}
		return pflag.NormalizedName(name)
	})
}

// recoveryJSON is the encrypted recovery secrets by name of their key.
func recoveryJSON(secrets map[string][]byte) ([]byte, error) {
	if secrets == nil {
		secrets = map[string][]byte{}
	}
	return json.Marshal(wire.ManifestSetReply{RecoverySecrets: secrets})
}

// deliverRecoveryData writes new recovery data to the file, or else to stdout. If the file cannot be written, the data
// is printed, because it is all that can ever recover the Coordinator.
func (a *commands) deliverRecoveryData(secrets map[string][]byte, file string) error {
	if len(secrets) == 0 {
		return nil
	}
	data, err := recoveryJSON(secrets)
	if err != nil {
		return err
	}
	if file == "" {
		return a.Write(append(data, '\n'))
	}
	if err := console.SaveSecret(file, data); err != nil {
		a.Say("Error: Failed saving recovery data to file.")
		a.Say("Ensure the following is stored in a secure location:")
		for _, name := range slices.Sorted(maps.Keys(secrets)) {
			a.Say("%q: %q", name, base64.StdEncoding.EncodeToString(secrets[name]))
		}
		return fmt.Errorf("saving recovery data: %w", err)
	}
	a.Say("Recovery data saved to: %s", file)
	return nil
}

func (a *commands) recoverySecretsCmd() *cobra.Command {
	var output console.Target
	var name string
	cmd := &cobra.Command{
		Use:   "recovery-secrets <IP:PORT>",
		Short: "Retrieve the recovery data again",
		Long: "Retrieve the encrypted recovery secrets that 'manifest set', or the update that changed the recovery keys,\n" +
			"returned. Each can be decrypted by the holder of its recovery key only. With --name NAME -o FILE the file gets\n" +
			"one of them, still encrypted, in the raw bytes that 'marblerun recover' takes.",
		Example: "marblerun manifest recovery-secrets $MARBLERUN -o recovery-data.json\n" +
			"marblerun manifest recovery-secrets $MARBLERUN --name alice -o alice.secret",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("name") && output.File() == "" {
				return errors.New("--name needs --output FILE: the secret is raw bytes")
			}
			client, err := a.Trusted(cmd.Context(), args[0], nil)
			if err != nil {
				return err
			}
			secrets, err := client.RecoverySecrets(cmd.Context())
			if err != nil {
				return fmt.Errorf("retrieving recovery secrets: %w", err)
			}
			if cmd.Flags().Changed("name") {
				return a.saveRecoverySecret(secrets, name, output.File())
			}
			data, err := recoveryJSON(secrets)
			if err != nil {
				return err
			}
			if output.File() == "" {
				return a.Write(append(data, '\n'))
			}
			if err := console.SaveSecret(output.File(), data); err != nil {
				return fmt.Errorf("saving recovery data: %w", err)
			}
			a.Say("Recovery data saved to: %s", output.File())
			return nil
		},
	}
	output.Add(cmd, "")
	cmd.Flags().StringVar(&name, "name", "", "name of a recovery key, whose secret alone is written to the file")
	return cmd
}

// saveRecoverySecret writes one encrypted secret as it is.
func (a *commands) saveRecoverySecret(secrets map[string][]byte, name, file string) error {
	secret, ok := secrets[name]
	if !ok {
		err := fmt.Errorf("there is no recovery key %q", name)
		if len(secrets) == 0 {
			return api.WithHint(err, "The manifest has no recovery keys.")
		}
		return api.WithHint(err, "The recovery keys are: "+effect.Names(slices.Sorted(maps.Keys(secrets))))
	}
	if err := console.SaveSecret(file, secret); err != nil {
		return fmt.Errorf("saving recovery secret: %w", err)
	}
	a.Say("Recovery secret of %s saved to: %s", name, file)
	return nil
}
