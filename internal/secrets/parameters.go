// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/marblerun/marblerun/api/marblepb"
	"github.com/marblerun/marblerun/internal/pki"
	"github.com/marblerun/marblerun/manifest"
	"github.com/marblerun/marblerun/manifest/template"
)

// The stages of Parameters (marble-api §4, steps 8 to 10). Its errors are one of them by errors.Is; their text is the
// cause only, so that the caller can put the stage's words before it.
var (
	ErrSecrets   = errors.New("generating marble secrets")
	ErrTTLS      = errors.New("creating TTLS config")
	ErrTemplates = errors.New("customizing marble parameters")
)

// stageError is a cause that is also its stage.
type stageError struct{ stage, cause error }

func (e *stageError) Error() string   { return e.cause.Error() }
func (e *stageError) Unwrap() []error { return []error{e.stage, e.cause} }

// Environment variables that the Coordinator adds (marble-api §7). They override the manifest's.
const (
	EnvRootCA            = "MARBLE_PREDEFINED_ROOT_CA"
	EnvCertificateChain  = "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"
	EnvPrivateKey        = "MARBLE_PREDEFINED_PRIVATE_KEY"
	EnvCoordinatorRootCA = "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"
	EnvTTLSConfig        = "MARBLE_TTLS_CONFIG"
)

// MaxParameters is the largest size of encoded parameters, in bytes: Marbles receive messages of at most 4 MiB.
const MaxParameters = 4<<20 - 64

// ActivationInputs are what Parameters works on.
type ActivationInputs struct {
	Manifest *manifest.Manifest
	// Templates are those of Manifest.
	Templates        *Compiled
	MarbleType, UUID string // the UUID in canonical form
	CA               *pki.CA
	Leaf             *pki.Leaf
	// RootSecret and the one before the last rotation, nil without one.
	RootSecret, PreviousRootSecret []byte
	// Stored and Previous hold at least the shared and user-defined secrets that Templates.References names.
	Stored, Previous map[string]Value
	Now              time.Time
	Rand             io.Reader
}

// Parameters makes the secrets that the Marble type uses and expands its Files, Env and Argv.
func Parameters(ctx context.Context, in ActivationInputs) (*marblepb.Parameters, error) {
	p := in.Templates.marbles[in.MarbleType]
	if p == nil {
		return nil, &stageError{ErrSecrets, fmt.Errorf("the manifest has no Marble %q", in.MarbleType)}
	}
	x := &expansion{in: in, plan: p}
	if err := x.collect(ctx); err != nil {
		return nil, &stageError{ErrSecrets, err}
	}
	predefined, err := x.predefined()
	if err != nil {
		return nil, &stageError{ErrTTLS, err}
	}
	params, err := x.expand(ctx)
	if err != nil {
		return nil, &stageError{ErrTemplates, err}
	}
	for name, value := range predefined {
		params.Env[name] = value
	}
	if size := proto.Size(params); size > MaxParameters {
		return nil, &stageError{ErrTemplates, fmt.Errorf(
			"the parameters have %d bytes, a Marble receives at most %d: deliver less by Files and Env", size, MaxParameters)}
	}
	return params, nil
}

// expansion is one activation.
type expansion struct {
	in   ActivationInputs
	plan *plan
	// current and previous are the values of the secrets used.
	current, previous map[string]Value
}

// collect makes the per-Marble secrets and adds the stored ones.
func (x *expansion) collect(ctx context.Context) (err error) {
	x.current, x.previous, err = GenerateForMarble(ctx, MarbleInputs{
		Manifest: x.in.Manifest, MarbleType: x.in.MarbleType, UUID: x.in.UUID, CA: x.in.CA,
		RootSecret: x.in.RootSecret, PreviousRootSecret: x.in.PreviousRootSecret,
		Current: x.plan.current, Previous: x.plan.previous, Now: x.in.Now, Rand: x.in.Rand,
	})
	if err != nil {
		return err
	}
	if err := x.addStored(x.current, x.plan.current, x.in.Stored); err != nil {
		return err
	}
	return x.addStored(x.previous, x.plan.previous, x.in.Previous)
}

func (x *expansion) addStored(into map[string]Value, names []string, stored map[string]Value) error {
	for _, name := range names {
		def := x.in.Manifest.Secrets[name]
		if !def.Shared && !def.UserDefined {
			continue
		}
		v, ok := stored[name]
		if !ok && !def.UserDefined {
			return fmt.Errorf("secret %q: the state has no value of this shared secret", name)
		}
		if !ok {
			v = Empty(def)
		}
		into[name] = v
	}
	return nil
}

// predefined returns the variables that the Coordinator adds.
func (x *expansion) predefined() (map[string][]byte, error) {
	leaf := pemBlock("CERTIFICATE", x.in.Leaf.DER)
	key := pemBlock("PRIVATE KEY", x.in.Leaf.PKCS8)
	env := map[string][]byte{
		EnvRootCA:            x.in.CA.MarbleRootPEM(),
		EnvCertificateChain:  append(slices.Clip(leaf), x.in.CA.IntermediatePEM()...),
		EnvPrivateKey:        key,
		EnvCoordinatorRootCA: x.in.CA.RootPEM(),
	}
	config, err := x.ttls(string(env[EnvRootCA]), string(leaf), string(key))
	if err != nil {
		return nil, err
	}
	if !config.Empty() {
		if env[EnvTTLSConfig], err = config.Marshal(); err != nil {
			return nil, err
		}
	}
	return env, nil
}

// expand executes the templates.
func (x *expansion) expand(ctx context.Context) (*marblepb.Parameters, error) {
	params := &marblepb.Parameters{
		Files: make(map[string][]byte, len(x.plan.files)), Env: make(map[string][]byte, len(x.plan.env)+5),
		Argv: x.in.Manifest.Marbles[x.in.MarbleType].Parameters.Argv,
	}
	data := x.data()
	for _, list := range []struct {
		entries []entry
		into    map[string][]byte
	}{{x.plan.files, params.Files}, {x.plan.env, params.Env}} {
		for _, e := range list.entries {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			out, err := x.expandEntry(e, data)
			if err != nil {
				return nil, err
			}
			list.into[e.name] = out
		}
	}
	return params, nil
}

func (x *expansion) expandEntry(e entry, data *template.Data) ([]byte, error) {
	if e.err != nil {
		return nil, e.err
	}
	if e.tmpl == nil {
		return e.literal, nil
	}
	out, err := e.tmpl.Execute(data)
	if err == nil {
		return out, nil
	}
	var missing []string
	for _, name := range e.uses {
		if x.in.Manifest.Secrets[name].UserDefined && !x.current[name].uploaded() {
			missing = append(missing, fmt.Sprintf("%q", name))
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%w: these user-defined secrets are not uploaded yet: %s", err, strings.Join(missing, ", "))
	}
	return nil, err
}

// data is what the templates see.
func (x *expansion) data() *template.Data {
	d := &template.Data{Secrets: x.views("", x.current)}
	d.Previous.Secrets = x.views("previous\x00", x.previous)
	if x.plan.reserved {
		c, ca, leaf := x.in.Templates, x.in.CA, x.in.Leaf
		d.MarbleRun = template.Reserved{
			RootCA:                  template.Secret{Cert: c.describe(storedUse+"\x00MarbleRoot", ca.MarbleRoot.Raw)},
			CoordinatorRoot:         template.Secret{Cert: c.describe(storedUse+"\x00Root", ca.Root.Raw)},
			CoordinatorIntermediate: template.Secret{Cert: c.describe(storedUse+"\x00Intermediate", ca.Intermediate.Raw)},
			MarbleCert: template.Secret{
				Cert: c.describe(freshUse, leaf.DER), Public: leaf.SPKI, Private: leaf.PKCS8,
			},
		}
	}
	return d
}

func (x *expansion) views(which string, values map[string]Value) map[string]template.Secret {
	views := make(map[string]template.Secret, len(values))
	for name, v := range values {
		use := freshUse
		if v.Shared || v.UserDefined {
			use = storedUse + which + name
		}
		views[name] = v.view(x.in.Templates.describe(use, v.Cert))
	}
	return views
}

func pemBlock(label string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})
}
