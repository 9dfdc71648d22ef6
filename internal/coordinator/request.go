// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import "context"

type requestKey struct{}

// WithRequestID returns a context whose events carry the given request id (at most 64 bytes of it).
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey{}, id[:min(len(id), 64)])
}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}
