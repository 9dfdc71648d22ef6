// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"crypto/tls"
	"errors"
	"slices"
)

// ClientAPI is the TLS configuration of the client API (client-api.md §1): one certificate for every name, client
// certificates requested but not verified, HTTP/1.1 and HTTP/2.
func ClientAPI(certificate func() *tls.Certificate) *tls.Config {
	return config(certificate, tls.RequestClientCert, "h2", "http/1.1")
}

// MarbleAPI is the TLS configuration of the Marble API (marble-api.md §2): one certificate for every name, some client
// certificate required but not verified, gRPC.
func MarbleAPI(certificate func() *tls.Certificate) *tls.Config {
	return config(certificate, tls.RequireAnyClientCert, "h2")
}

// config asks for the certificate anew at each handshake, because it changes with the state. Session tickets are off: a
// resumed session would show neither side's certificate, and both sides' certificates are what counts here.
func config(certificate func() *tls.Certificate, auth tls.ClientAuthType, protocols ...string) *tls.Config {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12,
		// For TLS 1.2 only. The certificate is ECDSA, so no other suite could be chosen.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		CurvePreferences:       []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256},
		SessionTicketsDisabled: true,
		ClientAuth:             auth,
		NextProtos:             protocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := certificate(); c != nil {
				return c, nil
			}
			return nil, errors.New("no certificate yet")
		},
	}
	// Go takes the client's first key share whatever our order says (TLS 1.3), or the client's order (TLS 1.2). A P-384 key
	// exchange costs over a millisecond, so the slow curves are on offer only to clients that know no other.
	slow := cfg.Clone()
	slow.CurvePreferences = []tls.CurveID{tls.CurveP384, tls.CurveP521}
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if onlySlowCurves(hello) {
			return slow, nil
		}
		return nil, nil
	}
	return cfg
}

func onlySlowCurves(hello *tls.ClientHelloInfo) bool {
	offers := func(c tls.CurveID) bool { return slices.Contains(hello.SupportedCurves, c) }
	switch {
	case offers(tls.X25519), offers(tls.CurveP256):
		return false
	case offers(tls.X25519MLKEM768) && slices.Contains(hello.SupportedVersions, tls.VersionTLS13):
		return false
	}
	return offers(tls.CurveP384) || offers(tls.CurveP521)
}
