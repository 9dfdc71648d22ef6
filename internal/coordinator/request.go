// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"crypto/x509"
)

type requestKey struct{}

// WithRequestID returns a context whose events carry the given request id (at most 64 bytes of it).
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey{}, id[:min(len(id), 64)])
}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

type certificateKey struct{}

// WithUserCertificate returns a context that says by which certificate Authenticate knew the user. Nothing is written
// for a user whom the manifest no longer knows by it when the writer decides: a request may take its time.
func WithUserCertificate(ctx context.Context, cert *x509.Certificate) context.Context {
	return context.WithValue(ctx, certificateKey{}, string(cert.Raw))
}

// stillUser is decide, once the state agrees that the context's certificate is the actor's.
func stillUser(ctx context.Context, actor string, decide decision) decision {
	der, ok := ctx.Value(certificateKey{}).(string)
	if !ok || actor == "" {
		return decide
	}
	return func(s *State) (outcome, error) {
		if s.manifest.users[der] != actor {
			return outcome{}, errNoUser()
		}
		return decide(s)
	}
}
