// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package marble

import (
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/marblerun/marblerun/ttls"
)

// Runtime is what a Marble runs in; it decides how parameters are applied (marble-api §10).
type Runtime string

// The runtimes.
const (
	Process Runtime = "process" // an ordinary process, perhaps in a confidential VM
	Gramine Runtime = "gramine"
	Occlum  Runtime = "occlum"
)

// EnvTTLS is the variable in which the Coordinator delivers the transparent-TLS policy.
const EnvTTLS = "MARBLE_TTLS_CONFIG"

// Gramine's key files; they are written before all other files, because those may be encrypted with the keys.
const (
	gramineKeys         = "/dev/attestation/keys/"
	gramineProtectedKey = "/dev/attestation/protected_files_key" // Gramine up to 1.2
)

// Parameters are what the manifest gives a Marble. Most of them are secret: do not log them.
type Parameters struct {
	// UUID is the Marble's, in canonical form.
	UUID string
	// Files maps a path to its content.
	Files map[string][]byte
	// Env maps the name of a variable to its value.
	Env map[string][]byte
	// Argv is the argument list as the manifest has it, the program's name first; see Args.
	Argv []string
}

// ApplyConfig says where parameters are applied.
type ApplyConfig struct {
	// Runtime is what the Marble runs in; "" is Process.
	Runtime Runtime
	// Root is put before the path of every file, which cannot leave it then. "" takes paths as they are.
	Root string
	// Setenv sets a variable of the environment; nil is os.Setenv.
	Setenv func(name, value string) error
	// Log gets the lines of marble-api §9; nil is silence.
	Log *slog.Logger
}

// Args is the argument list that the manifest gives the program: the whole of it, "./marble" if the manifest has none.
func (p *Parameters) Args() []string {
	if len(p.Argv) == 0 {
		return []string{"./marble"}
	}
	return slices.Clone(p.Argv)
}

// Apply writes the files (mode 0600, missing folders 0700) and sets the variables, replacing what is there. It stops
// at the first failure.
func (p *Parameters) Apply(config ApplyConfig) error {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.Setenv == nil {
		config.Setenv = os.Setenv
	}
	if err := p.checkTTLS(config); err != nil {
		return err
	}
	config.Log.Info("creating files from manifest")
	if err := p.writeFiles(config); err != nil {
		return err
	}
	config.Log.Info("setting env vars from manifest")
	for _, name := range slices.Sorted(maps.Keys(p.Env)) {
		if err := config.Setenv(name, string(p.Env[name])); err != nil {
			return &Error{Text: "setting the environment variable " + name, Err: err,
				Hint: "a name has no \"=\", and neither name nor value has a NUL byte"}
		}
	}
	return nil
}

// checkTTLS logs the transparent-TLS policy, and refuses one that cannot be obeyed.
func (p *Parameters) checkTTLS(config ApplyConfig) error {
	text, ok := p.Env[EnvTTLS]
	if !ok {
		config.Log.Info("Not using TTLS")
		return nil
	}
	if config.Runtime == Gramine || config.Runtime == Occlum {
		return &Error{Text: "TTLS configured, but Marble runtime doesn't support TTLS",
			Hint: "remove this Marble's TLS tags from the manifest, or let the program itself use TLS"}
	}
	policy, err := ttls.Parse(text)
	if err != nil {
		return &Error{Text: "reading the transparent-TLS policy in " + EnvTTLS, Err: err}
	}
	if policy.Empty() {
		return &Error{Text: "the transparent-TLS policy in " + EnvTTLS + " is empty",
			Hint: "give the TLS tags of this Marble an Incoming or Outgoing entry, or remove them"}
	}
	config.Log.Info("TTLS config", "Incoming", policy.Listen(), "Outgoing", policy.Dial())
	config.Log.Warn("nothing in an ordinary process wraps connections in TLS; the program must do so itself")
	return nil
}

func (p *Parameters) writeFiles(config ApplyConfig) error {
	names := slices.Sorted(maps.Keys(p.Files))
	if config.Runtime == Gramine {
		for _, name := range slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !isGramineKey(name) }) {
			if err := overwrite(within(config.Root, name), p.Files[name], 0); err != nil {
				return &Error{Text: "setting Gramine's key " + name, Err: err,
					Hint: "the Gramine manifest must mount something with this key name, and a key has 16 bytes"}
			}
		}
		names = slices.DeleteFunc(names, isGramineKey)
	}
	for _, name := range names {
		if err := writeFile(within(config.Root, name), p.Files[name], config.Runtime); err != nil {
			return &Error{Text: "creating the file " + name + " of the manifest", Err: err}
		}
	}
	return nil
}

func isGramineKey(name string) bool {
	return strings.HasPrefix(name, gramineKeys) || name == gramineProtectedKey
}

// within returns name below root; "" as root takes it as it is.
func within(root, name string) string {
	if root == "" {
		return name
	}
	return filepath.Join(root, filepath.Clean("/"+name))
}

// writeFile replaces a file so that readers see the old or the new content, where that is possible. In a library OS
// nobody reads yet, and single files may be mounted where no other may be created: there the file is written in
// place.
func writeFile(name string, data []byte, runtime Runtime) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(name)
	inPlace := runtime == Gramine || runtime == Occlum || err == nil && !info.Mode().IsRegular()
	if inPlace {
		return overwrite(name, data, os.O_CREATE)
	}
	replaceErr := replace(name, data)
	if err == nil && onlyInPlace(replaceErr) {
		return overwrite(name, data, 0)
	}
	return replaceErr
}

// onlyInPlace recognizes a file that is there and may be written but not replaced: a mount point, such as a
// Kubernetes subPath, or a file in a folder that nobody may change.
func onlyInPlace(err error) bool {
	return errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EROFS) || errors.Is(err, os.ErrPermission)
}

// overwrite writes into the file itself.
func overwrite(name string, data []byte, flags int) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC|flags, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Close())
}

// replace writes beside the file and renames. CreateTemp makes files of mode 0600.
func replace(name string, data []byte) error {
	file, err := os.CreateTemp(filepath.Dir(name), ".marble-*")
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
