// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Request is what is read of an admission request.
type Request struct {
	// UID names the request; another one at each re-invocation.
	UID string
	// Namespace of the Pod; "" means default.
	Namespace string
	// Operation is CREATE, UPDATE, DELETE or CONNECT; "" means CREATE.
	Operation string
	// SubResource of the Pod, e.g. ephemeralcontainers; "" for the Pod itself.
	SubResource string
	DryRun      bool
	// Object is the Pod as JSON.
	Object []byte
}

// Outcome is one word for a decision, as metrics and logs show it.
type Outcome string

// The outcomes. Malformed is that of a review on which nothing can be decided.
const (
	Patched   Outcome = "patched"
	Unchanged Outcome = "unchanged"
	Denied    Outcome = "denied"
	Skipped   Outcome = "skipped"
	Malformed Outcome = "malformed"
)

// Decision is the answer to a Request.
type Decision struct {
	Outcome Outcome
	Allowed bool
	// Message is for the person who created the Pod.
	Message string
	// Patch is nil if nothing changes.
	Patch []Op
	// Warnings are shown by kubectl, one line each.
	Warnings []string
	// Audit goes to the audit log of the API server.
	Audit map[string]string
}

// Review decides about a Pod. An error means that the object is no Pod.
func (in *Injector) Review(r Request) (Decision, error) {
	if (r.Operation != "" && r.Operation != "CREATE") || r.SubResource != "" {
		// The specification of a Pod that exists cannot be changed. A webhook configuration of ours never asks for this.
		return Decision{Outcome: Skipped, Allowed: true, Message: "only the creation of a Pod is looked at"}, nil
	}
	p, err := readPod(r.Object)
	if err != nil {
		return Decision{}, fmt.Errorf("invalid pod: %w", err)
	}
	if r.Namespace == "" {
		r.Namespace = "default"
	}
	w, refusals, warnings := in.readWishes(p, r.Namespace)
	if len(refusals) > 0 {
		return Decision{Outcome: Denied, Message: strings.Join(refusals, "; ") + ", request denied"}, nil
	}
	if !p.hasSpec {
		return Decision{}, errors.New("invalid pod: no spec")
	}
	return in.inject(r, p, w, warnings), nil
}

func (in *Injector) inject(r Request, p *pod, w wishes, warnings []string) Decision {
	change := &change{in: in, pod: p, wishes: w, namespace: r.Namespace, volumes: newVolumes(r.UID, p, w)}
	touched := change.containers()
	if len(touched) == 0 {
		warnings = append(warnings,
			fmt.Sprintf("label %s: there is no container %.80q, so none was changed", LabelContainer, w.only))
	}
	change.tolerate()
	change.annotate()
	appendTo(&change.patch, "/spec/volumes", len(p.volumes), change.volumes.added)
	if r.DryRun && change.volumes.uuid.added {
		warnings = append(warnings, "dry run: the volume "+change.volumes.uuid.name+" will be named after the real request")
	}
	d := Decision{
		Outcome: Patched, Allowed: true, Patch: change.patch, Warnings: warnings,
		Message: "Mutation request for pod of marble type [" + w.marbleType + "] successful",
		Audit:   audit(r, w, touched),
	}
	if len(d.Patch) == 0 {
		d.Outcome = Unchanged
	}
	return d
}

// maxAuditValue bounds a value in the audit log, in bytes.
const maxAuditValue = 1024

func audit(r Request, w wishes, touched []string) map[string]string {
	names := strings.Join(touched, ",")
	a := map[string]string{"marbletype": w.marbleType, "containers": names[:min(len(names), maxAuditValue)]}
	if w.aesm {
		a["attestation"] = "out-of-process"
	}
	if w.uuid != "" {
		a["uuid"] = w.uuid
	}
	if r.DryRun {
		a["dry-run"] = "true"
	}
	return a
}

// volumeSuffix is the request's uid if it can be part of a volume's name, which is a DNS label; else a hash of it.
func volumeSuffix(uid string) string {
	if isDNSLabel(uid) && len(uid) <= 40 {
		return uid
	}
	sum := sha256.Sum256([]byte(uid))
	return hex.EncodeToString(sum[:16])
}
