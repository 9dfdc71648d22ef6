// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/marblerun/marblerun/attest"
)

// Errors that callers may want to tell apart. They come wrapped.
var (
	// ErrRootMismatch: the server does not own the pinned root certificate.
	ErrRootMismatch = errors.New("the server's TLS certificate is not the Coordinator's root certificate")
	// ErrNoManifest: the Coordinator has no manifest yet.
	ErrNoManifest = errors.New("the Coordinator has no manifest")
	// ErrManifestMismatch: the deployment runs another manifest than the expected one.
	ErrManifestMismatch = errors.New("manifest hash does not match local hash")
	// ErrNoQuote: the Coordinator sent no quote.
	ErrNoQuote = errors.New("the Coordinator sent no quote")
	// ErrReportData: the quote was made for another certificate or nonce.
	ErrReportData = errors.New("report data does not match the certificate's hash")
	// ErrReplyTooLarge: a reply exceeded the client's limit.
	ErrReplyTooLarge = errors.New("the reply is too large")
)

// RequestError is a Coordinator's refusal: any HTTP status but 200.
type RequestError struct {
	Method, URL string
	// Code is the HTTP status code.
	Code int
	// Status is that of the envelope: "error" or "fail"; empty if the body was no envelope.
	Status string
	// Message and Data are those of the envelope.
	Message string
	Data    json.RawMessage
	// Advice is the Coordinator's own hint; empty from MarbleRun 1.x.
	Advice string
}

// Error returns "<METHOD> <URL>: authorizing user: <message>" for 401 and
// "<METHOD> <URL>: <code> <reason>: <status>: <message>" otherwise, without what is empty at the end.
func (e *RequestError) Error() string {
	if e.Code == http.StatusUnauthorized {
		return fmt.Sprintf("%s %s: authorizing user: %s", e.Method, e.URL, e.Message)
	}
	text := fmt.Sprintf("%s %s: %d %s: %s: %s", e.Method, e.URL, e.Code, http.StatusText(e.Code), e.Status, e.Message)
	return strings.TrimRight(text, ": ")
}

// Hint says what may help.
func (e *RequestError) Hint() string {
	switch {
	case e.Advice != "":
		return e.Advice
	case e.Code == http.StatusUnauthorized:
		return "The client certificate must be, byte for byte, the certificate of a user in the manifest that is set."
	case e.Code == http.StatusMethodNotAllowed:
		return "The Coordinator does not offer this operation. It may be of an older version."
	case e.Message == "server is not in expected state":
		return "'marblerun status' tells the Coordinator's state. A manifest can be set once; " +
			"after that, use 'marblerun manifest update apply'. Recovery takes a Coordinator in recovery mode (state 1), " +
			"all else one with a manifest (state 3)."
	case e.Message == "provided manifest does not match the pending manifest":
		return "'marblerun manifest update get' gets it, byte for byte."
	}
	return ""
}

func isNotAllowed(err error) bool {
	var refused *RequestError
	return errors.As(err, &refused) && refused.Code == http.StatusMethodNotAllowed
}

// PolicyError says that a Coordinator's quote is genuine but not what the policy wants.
type PolicyError struct {
	// Verdict holds every reason.
	Verdict attest.Verdict
	// Claims is what the quote says.
	Claims *attest.Claims
}

func (e *PolicyError) Error() string {
	texts := make([]string, 0, len(e.Verdict.Reasons))
	for _, r := range e.Verdict.Reasons {
		texts = append(texts, e.reasonText(r))
	}
	if len(texts) == 0 {
		return "the Coordinator's quote is not accepted by the policy"
	}
	return strings.Join(texts, "; ")
}

// reasonText leads with the words that MarbleRun 1.x used for the same refusal.
func (e *PolicyError) reasonText(r attest.Reason) string {
	switch r.Field {
	case "AcceptedTCBStatuses", "AcceptedAdvisories":
		return fmt.Sprintf("%s (%s)", e.tcbStatusError(), r.Text)
	case "Debug":
		return "debug enclave not allowed"
	case "UniqueID", "SignerID", "ProductID", "SecurityVersion":
		return fmt.Sprintf("invalid %s: %s", r.Field, r.Text)
	}
	return r.Text
}

// Unwrap returns the *TCBStatusError, if the status or its advisories were a reason.
func (e *PolicyError) Unwrap() error {
	if tcb := e.tcbStatusError(); tcb != nil {
		return tcb
	}
	return nil
}

func (e *PolicyError) tcbStatusError() *TCBStatusError {
	for _, r := range e.Verdict.Reasons {
		switch r.Field {
		case "AcceptedTCBStatuses":
			return &TCBStatusError{TCBStatus: e.Verdict.TCBStatus}
		case "AcceptedAdvisories":
			return &TCBStatusError{TCBStatus: e.Verdict.TCBStatus, Advisories: strings.Split(r.Got, ", ")}
		}
	}
	return nil
}

// Hint names the policy changes that would accept the TCB. It never advises to accept another enclave.
func (e *PolicyError) Hint() string {
	var changes []string
	for _, r := range e.Verdict.Reasons {
		switch r.Field {
		case "AcceptedTCBStatuses", "AcceptedAdvisories", "MinimumTCBEvaluationDataNumber", "SNP.MinimumTCB":
			changes = append(changes, r.Change)
		default:
			return "Is the policy that of this Coordinator's release? If it is, do not trust this Coordinator."
		}
	}
	changes = slices.Compact(slices.DeleteFunc(changes, func(s string) bool { return s == "" }))
	if text := strings.Join(changes, "; "); text != "" {
		return "To accept it all the same: " + text + "."
	}
	return ""
}

// TCBStatusError says that the TCB status, or an advisory of it, is not accepted.
type TCBStatusError struct {
	TCBStatus attest.TCBStatus
	// Advisories is set if the status is accepted but not all of these are.
	Advisories []string
}

func (e *TCBStatusError) Error() string {
	if len(e.Advisories) > 0 {
		return fmt.Sprintf("invalid TCB status: %s: advisories not accepted by configuration: %v", e.TCBStatus, e.Advisories)
	}
	return fmt.Sprintf("invalid TCB status: %s", e.TCBStatus)
}

// Hint returns the advice that err, or an error in its chain, carries; empty without any.
func Hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

// WithHint wraps err so that Hint returns hint. The text of err stays as it is.
func WithHint(err error, hint string) error {
	return &hinted{err: err, hint: hint}
}

type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }
func (h *hinted) Hint() string  { return h.hint }
