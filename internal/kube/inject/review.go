// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"encoding/json"
	"errors"
	"fmt"
)

// The versions of AdmissionReview that are understood. Both have the fields that are used here; the answer has the
// version of the question.
const (
	reviewV1      = "admission.k8s.io/v1"
	reviewV1beta1 = "admission.k8s.io/v1beta1"
)

type review struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Request    *reviewRequest `json:"request,omitempty"`
	Response   *response      `json:"response,omitempty"`
}

type reviewRequest struct {
	UID         string          `json:"uid"`
	Name        string          `json:"name"`
	Namespace   string          `json:"namespace"`
	Operation   string          `json:"operation"`
	SubResource string          `json:"subResource"`
	DryRun      bool            `json:"dryRun"`
	Object      json.RawMessage `json:"object"`
}

type response struct {
	UID       string            `json:"uid"`
	Allowed   bool              `json:"allowed"`
	Status    status            `json:"status"`
	PatchType string            `json:"patchType,omitempty"`
	Patch     []byte            `json:"patch,omitempty"` // base64
	Warnings  []string          `json:"warnings,omitempty"`
	Audit     map[string]string `json:"auditAnnotations,omitempty"`
}

// status is a meta/v1 Status.
type status struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func readReview(body []byte) (*review, error) {
	r := &review{}
	if err := json.Unmarshal(body, r); err != nil {
		return nil, fmt.Errorf("invalid admission review: %w", err)
	}
	if r.Kind != "AdmissionReview" || (r.APIVersion != reviewV1 && r.APIVersion != reviewV1beta1) {
		return nil, fmt.Errorf("invalid admission review: expected AdmissionReview of %s or %s, got %.80q of %.80q",
			reviewV1, reviewV1beta1, r.Kind, r.APIVersion)
	}
	if r.Request == nil {
		return nil, errors.New("empty admission request")
	}
	return r, nil
}

// answer renders the decision as the answer to r.
func (r *review) answer(d Decision) ([]byte, error) {
	out := response{
		UID: r.Request.UID, Allowed: d.Allowed, Status: status{"Failure", d.Message}, Warnings: d.Warnings, Audit: d.Audit,
	}
	if d.Allowed {
		out.Status.Status = "Success"
	}
	if len(d.Patch) > 0 {
		patch, err := json.Marshal(d.Patch)
		if err != nil {
			return nil, fmt.Errorf("encoding the patch: %w", err)
		}
		out.PatchType, out.Patch = "JSONPatch", patch
	}
	return json.Marshal(review{APIVersion: r.APIVersion, Kind: r.Kind, Response: &out})
}
