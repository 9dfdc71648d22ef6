// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package marble

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"time"

	"github.com/marblerun/marblerun/api/marblepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// The pauses between attempts grow from the first to the last by half; each is shortened at random by up to a half,
// so that a fleet does not come back in step.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 5 * time.Second
)

// call makes the one call of the Marble API.
func call(ctx context.Context, config Config, certificate tls.Certificate, request *marblepb.ActivationReq,
) (*marblepb.ActivationResp, error) {
	var response *marblepb.ActivationResp
	err := whileUnavailable(ctx, config, func() (err error) {
		response, err = callOnce(ctx, config.CoordinatorAddr, certificate, request)
		return err
	})
	if err != nil {
		return nil, explain(err, config, len(request.GetQuote()) > 0)
	}
	if response.GetParameters() == nil {
		return nil, &Error{Text: "the Coordinator answered without parameters"}
	}
	return response, nil
}

// callOnce uses a connection of its own: one that failed would wait out gRPC's pauses beside ours.
func callOnce(ctx context.Context, addr string, certificate tls.Certificate, request *marblepb.ActivationReq,
) (*marblepb.ActivationResp, error) {
	// The Coordinator is not authenticated here: see the package comment.
	transport := credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{certificate}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12,
	})
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(transport), grpc.WithDisableServiceConfig())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "invalid address of the Coordinator: "+err.Error())
	}
	defer func() { _ = conn.Close() }() // the answer is here by then, or the error that matters
	return marblepb.NewMarbleClient(conn).Activate(ctx, request)
}

// whileUnavailable repeats attempt while it fails with Unavailable and ctx lives. It returns the last failure; if ctx
// ended in the middle of an attempt, the one before, which says more.
func whileUnavailable(ctx context.Context, config Config, attempt func() error) error {
	pause := firstPause
	var before error
	for n := 1; ; n++ {
		err := attempt()
		if before != nil && status.Code(err) == codes.DeadlineExceeded && ctx.Err() != nil {
			return before
		}
		if status.Code(err) != codes.Unavailable {
			return err
		}
		before = err
		wait := pause - rand.N(pause/2)
		config.Log.Warn("Coordinator unavailable, trying again", "attempt", n, "wait", wait.Round(time.Millisecond).String(),
			"error", status.Convert(err).Message())
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
			pause = min(pause+pause/2, lastPause)
		}
	}
}
