// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package server lets other processes use a software TEE: Server is an HTTP service of its collateral, Run serves that
// and evidence sockets until it is told to stop. Whatever it serves is simulated, and it says so when it starts.
package server

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/attest/softtee"
	"github.com/marblerun/marblerun/attest/softtee/tcbdata"
)

// Server serves a Platform's collateral over HTTP: as Intel's PCS or a PCCS (FORMATS §1.8) and as AMD's KDS (§5.2). A
// VCEK is handed out for any chip id.
type Server struct {
	platform *softtee.Platform
	mux      *http.ServeMux

	mu     sync.Mutex
	faults Faults
	hits   map[string]int
}

// Faults are what a collateral service may do to its clients.
type Faults struct {
	// Outage answers everything with 503.
	Outage bool
	// Throttle answers that many requests with 429 and RetryAfter, rounded up to seconds.
	Throttle   int
	RetryAfter time.Duration
	// DERCRLs serves the PCK CRL and the root CRL as DER, as Intel's PCS does; else as hex text, as a PCCS does.
	DERCRLs bool
}

// New returns a server of the platform's collateral.
func New(p *softtee.Platform) *Server {
	s := &Server{platform: p, mux: http.NewServeMux(), hits: map[string]int{}}
	for _, tee := range []attest.TEE{attest.SGX, attest.TDX} {
		base := "GET /" + string(tee) + "/certification/v4/"
		s.route(base+"tcb", s.tcb(tee))
		s.route(base+"qe/identity", s.identity(tee))
		s.route(base+"tcbevaluationdatanumbers", s.numbers(tee))
	}
	s.route("GET /sgx/certification/v4/pckcrl", s.pckCRL)
	s.route("GET /sgx/certification/v4/rootcacrl", s.rootCRL)
	s.route("GET /IntelSGXRootCA.der", s.rootCRLDER)
	s.route("GET /vcek/v1/{product}/{hwid}", s.vcek)
	for _, kind := range []snp.Key{snp.VCEK, snp.VLEK} {
		base := map[snp.Key]string{snp.VCEK: "GET /vcek/v1/", snp.VLEK: "GET /vlek/v1/"}[kind]
		s.route(base+"{product}/cert_chain", s.amdChain(kind))
		s.route(base+"{product}/crl", s.amdCRL)
	}
	return s
}

// SetFaults changes what the server does to its clients.
func (s *Server) SetFaults(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

// Hits is how often each path was asked for, failures included; at most 1000 paths are counted.
func (s *Server) Hits() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]int, len(s.hits))
	for path, n := range s.hits {
		out[path] = n
	}
	return out
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f := s.admit(r.URL.Path); f.Outage {
		http.Error(w, "simulated outage", http.StatusServiceUnavailable)
	} else if f.Throttle > 0 {
		seconds := int((f.RetryAfter + time.Second - 1) / time.Second)
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		http.Error(w, "simulated throttling", http.StatusTooManyRequests)
	} else {
		s.mux.ServeHTTP(w, r)
	}
}

// admit counts a request and returns the faults that it meets.
func (s *Server) admit(path string) Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.hits[path]; known || len(s.hits) < 1000 {
		s.hits[path]++
	}
	f := s.faults
	if !f.Outage && f.Throttle > 0 {
		s.faults.Throttle--
	}
	return f
}

// reply is what a handler serves: status 0 is 200.
type reply struct {
	status      int
	contentType string
	header      [2]string // issuer chain header: name and PEM, which is sent URL-encoded
	body        []byte
}

func notFound() (reply, error) {
	return reply{status: http.StatusNotFound, contentType: "text/plain", body: []byte("no such collateral\n")}, nil
}

func (s *Server) route(pattern string, handle func(*http.Request, softtee.Settings) (reply, error)) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		answer, err := handle(r, s.platform.Settings())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", answer.contentType)
		if answer.header[0] != "" {
			w.Header().Set(answer.header[0], url.PathEscape(answer.header[1]))
		}
		if answer.status != 0 {
			w.WriteHeader(answer.status)
		}
		_, _ = w.Write(answer.body) // the client is gone if this fails
	})
}

// dataset picks what the query asks for: update=early|standard or tcbEvaluationDataNumber. An unknown number was
// withdrawn.
func dataset(q url.Values, s softtee.Settings) (d tcbdata.Dataset, status int) {
	if number := q.Get("tcbEvaluationDataNumber"); number != "" {
		all := s.Datasets()
		i := slices.IndexFunc(all, func(d tcbdata.Dataset) bool { return strconv.Itoa(d.EvaluationNumber) == number })
		if i < 0 || q.Has("update") {
			return tcbdata.Dataset{}, http.StatusGone
		}
		return all[i], 0
	}
	if q.Get("update") == "early" {
		return s.Early, 0
	}
	return s.Standard, 0
}

func (s *Server) signed(name, header string, j softtee.SignedJSON, err error) (reply, error) {
	return reply{contentType: "application/json", body: j.Envelope(name),
		header: [2]string{header, string(s.platform.SigningChain())}}, err
}

func (s *Server) tcb(tee attest.TEE) func(*http.Request, softtee.Settings) (reply, error) {
	return func(r *http.Request, set softtee.Settings) (reply, error) {
		d, status := dataset(r.URL.Query(), set)
		if status != 0 {
			return reply{status: status, contentType: "text/plain"}, nil
		}
		if !strings.EqualFold(r.URL.Query().Get("fmspc"), softtee.FMSPC) {
			return notFound()
		}
		j, err := s.platform.TCBInfo(d, tee)
		return s.signed("tcbInfo", "TCB-Info-Issuer-Chain", j, err)
	}
}

func (s *Server) identity(tee attest.TEE) func(*http.Request, softtee.Settings) (reply, error) {
	return func(r *http.Request, set softtee.Settings) (reply, error) {
		d, status := dataset(r.URL.Query(), set)
		if status != 0 {
			return reply{status: status, contentType: "text/plain"}, nil
		}
		j, err := s.platform.QEIdentity(d, tee)
		return s.signed("enclaveIdentity", "SGX-Enclave-Identity-Issuer-Chain", j, err)
	}
}

func (s *Server) numbers(tee attest.TEE) func(*http.Request, softtee.Settings) (reply, error) {
	return func(_ *http.Request, set softtee.Settings) (reply, error) {
		j, err := s.platform.EvaluationNumbers(tee)
		return s.signed("tcbEvaluationDataNumbers", "TCB-Evaluation-Data-Numbers-Issuer-Chain", j, err)
	}
}

// crl serves a list as DER or as hex text.
func (s *Server) crl(der []byte) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.DERCRLs {
		return reply{contentType: "application/pkix-crl", body: der}
	}
	return reply{contentType: "text/plain", body: []byte(hex.EncodeToString(der))}
}

func (s *Server) pckCRL(r *http.Request, set softtee.Settings) (reply, error) {
	ca := r.URL.Query().Get("ca")
	if set.NoPCKCRL || ca != softtee.CAPlatform && ca != softtee.CAProcessor {
		return notFound()
	}
	der, err := s.platform.PCKCRL(ca == softtee.CAProcessor)
	answer := s.crl(der)
	answer.header = [2]string{"SGX-PCK-CRL-Issuer-Chain", string(s.platform.PCKCRLChain(ca == softtee.CAProcessor))}
	return answer, err
}

func (s *Server) rootCRL(_ *http.Request, set softtee.Settings) (reply, error) {
	if set.NoRootCRL {
		return notFound()
	}
	der, err := s.platform.RootCRL()
	return s.crl(der), err
}

func (s *Server) rootCRLDER(_ *http.Request, set softtee.Settings) (reply, error) {
	if set.NoRootCRL {
		return notFound()
	}
	der, err := s.platform.RootCRL()
	return reply{contentType: "application/pkix-crl", body: der}, err
}

// vcek serves the DER certificate of any chip at the TCB version of the query.
func (s *Server) vcek(r *http.Request, _ softtee.Settings) (reply, error) {
	product := snp.Product(r.PathValue("product"))
	chip, err := hex.DecodeString(r.PathValue("hwid"))
	size := map[snp.Product]int{snp.Milan: 64, snp.Genoa: 64, snp.Turin: 8}[product]
	if err != nil || size == 0 || len(chip) != size {
		return notFound()
	}
	var t attest.SNPTCB
	q := r.URL.Query()
	for name, part := range map[string]*uint8{"blSPL": &t.Bootloader, "teeSPL": &t.TEE, "snpSPL": &t.SNP,
		"ucodeSPL": &t.Microcode, "fmcSPL": &t.FMC} {
		n, err := strconv.ParseUint(q.Get(name), 10, 8)
		if err != nil && (name != "fmcSPL" || product == snp.Turin) {
			return reply{status: http.StatusBadRequest, contentType: "text/plain"}, nil
		}
		*part = uint8(n)
	}
	der, err := s.platform.VCEK(product, chip, t)
	return reply{contentType: "application/pkix-cert", body: der}, err
}

func (s *Server) amdChain(k snp.Key) func(*http.Request, softtee.Settings) (reply, error) {
	return func(r *http.Request, _ softtee.Settings) (reply, error) {
		chain, err := s.platform.AMDChain(snp.Product(r.PathValue("product")), k)
		if err != nil {
			return notFound()
		}
		return reply{contentType: "application/x-pem-file", body: chain}, nil
	}
}

func (s *Server) amdCRL(r *http.Request, set softtee.Settings) (reply, error) {
	product := snp.Product(r.PathValue("product"))
	if set.NoAMDCRL || !slices.Contains(snp.Products(), product) {
		return notFound()
	}
	der, err := s.platform.AMDCRL(product)
	return reply{contentType: "application/pkix-crl", body: der}, err
}
