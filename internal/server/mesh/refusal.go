// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/marblerun/marblerun/internal/coordinator"
	"github.com/marblerun/marblerun/internal/logging"
)

// refusal turns the Coordinator's error into a gRPC status. An error without a message for callers is only logged.
func (s *Server) refusal(ctx context.Context, err error) error {
	var e *coordinator.Error
	switch {
	case errors.As(err, &e):
		return status.Error(codeOf(e.Code), e.Error())
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "the request was canceled")
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "the request's deadline has passed")
	}
	s.cfg.Log.ErrorContext(ctx, "Marble Activation failed", "error", err)
	return internal(logging.RequestID(ctx))
}

// codeOf maps as marble-api.md §4 says.
func codeOf(c coordinator.Code) codes.Code {
	switch c {
	case coordinator.WrongState, coordinator.NoManifest:
		return codes.FailedPrecondition
	case coordinator.NoPeerCertificate:
		return codes.Unauthenticated
	case coordinator.RefusedMarble:
		return codes.PermissionDenied
	case coordinator.BadUUID:
		return codes.InvalidArgument
	case coordinator.Unavailable:
		return codes.Unavailable
	default:
		return codes.Internal
	}
}
