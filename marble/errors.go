// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package marble

import (
	"errors"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var errNoIssuer = errors.New("this process has no source of evidence")

// Error is a failure that somebody can do something about.
type Error struct {
	// Text says what went wrong.
	Text string
	// Hint says what to do about it; may be empty.
	Hint string
	// Err is the cause; may be nil. A gRPC status is found by status.Code(err).
	Err error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Text
	}
	return e.Text + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Hint returns the hint in err's chain, or "".
func Hint(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

// explain turns the failure of an activation into words. The texts are those of marble-api §4.
func explain(err error, config Config, withEvidence bool) error {
	s := status.Convert(err)
	err = statusError{s}
	name := strconv.Quote(config.MarbleType)
	limits := config.CoordinatorAddr + " within " + config.Timeout.String()
	refusal := func(hint string) error {
		return &Error{Text: "the Coordinator refused to activate this Marble", Hint: hint, Err: err}
	}
	switch message := s.Message(); {
	case s.Code() == codes.Unavailable:
		return &Error{Text: "cannot reach the Coordinator at " + limits, Err: err,
			Hint: "check " + EnvCoordinatorAddr + ", and that the Coordinator runs and its mesh port (2001) is open"}
	case s.Code() == codes.Unknown, s.Code() == codes.Unimplemented: // a Coordinator answers with neither
		return &Error{Text: "what answers at " + config.CoordinatorAddr + " is not a Coordinator's mesh port", Err: err,
			Hint: "check " + EnvCoordinatorAddr + ": Marbles use the mesh port (2001), not that of the client API (4433)"}
	case s.Code() == codes.Canceled:
		return &Error{Text: "the activation was interrupted", Err: err}
	case s.Code() == codes.DeadlineExceeded:
		return &Error{Text: "no answer from the Coordinator at " + limits, Err: err,
			Hint: "raise " + EnvTimeout + " if the Coordinator is only slow"}
	case s.Code() == codes.FailedPrecondition:
		return refusal("the Coordinator has no manifest yet or needs recovery: see \"marblerun status\"")
	case s.Code() == codes.InvalidArgument:
		return refusal("check the content of the UUID file " + config.UUIDFile)
	case s.Code() != codes.PermissionDenied:
		return refusal("see the Coordinator's log")
	case strings.Contains(message, "unknown marble type"):
		return refusal("the manifest has no Marble " + name + ": check " + EnvType + ", or update the manifest")
	case strings.Contains(message, "max activations"):
		return refusal("raise MaxActivations of " + name + " in the manifest if this start is wanted")
	case !withEvidence:
		return refusal("this process has no TEE evidence, and the Coordinator asks for it")
	default:
		return refusal("compare this program's measurements with the package of " + name + " in the manifest")
	}
}

// statusError is a gRPC status as people read it.
type statusError struct{ status *status.Status }

func (e statusError) Error() string {
	return e.status.Message() + " (" + e.status.Code().String() + ")"
}
func (e statusError) GRPCStatus() *status.Status { return e.status }
