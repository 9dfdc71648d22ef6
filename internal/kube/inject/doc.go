// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package inject is the admission webhook that turns an ordinary Pod into a Marble: it adds what a Marble needs to find
// the Coordinator and to use SGX. docs/reference/injector.md is its manual for operators.
//
// The API server sends an AdmissionReview before it stores a Pod (Handler). The review becomes a Request,
// Injector.Review decides, and the Decision becomes the answer: a JSON patch (RFC 6902), or a refusal that says why.
// Sub-packages make this a program: certs (the serving certificate), kubeapi (a small client of the API server),
// metrics, program (flags, listening).
//
// Only the few fields of a Pod that matter are read, by own code: what is not read cannot be lost or reformatted,
// because the answer is a patch and never a re-encoded Pod. So this needs neither k8s.io/api nor its forty
// dependencies.
//
// Invariants:
//
//   - Injector.Review is pure: the same request gives the same decision. No network, no clock, no memory of other Pods.
//   - What the user set stays: a variable by its name, a limit by its key, a mount by its path, a toleration by what it
//     tolerates. The only value ever replaced is the annotation marblerun/uuid: stable, by the UUID that it stands for.
//   - A patch holds only additions that change something; nothing to change is no patch. Reviewing a patched Pod again,
//     also with another request uid, changes nothing.
//   - Every container is decided on its own. A mount is only added together with a volume that exists or is added.
//   - A refusal carries no patch, and names every problem of the Pod at once.
//   - Bodies are bounded, one by one (MaxBody) and together.
package inject
